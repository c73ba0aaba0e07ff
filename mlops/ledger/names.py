"""Names as rows of a query, so that each is looked up in an index by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import CTE, JSON, String, cast, func, select

from mlops.ledger.engine import Database


def as_rows(database: Database, names: Sequence[str]) -> CTE:
    """A table `asked` with a column `strategy`.

    As one value: hundreds of them as VALUES took the time of the whole query, to write its text.
    """
    if database.is_postgresql:
        rows = func.json_array_elements_text(cast(list(names), JSON)).column_valued("strategy")
        return select(rows.cast(String).label("strategy")).cte("asked")
    return select(func.json_each(json.dumps(list(names))).table_valued("value").c.value.label("strategy")).cte("asked")
