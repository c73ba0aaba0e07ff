"""Names as rows of a query, so that each is looked up in an index by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import CTE, JSON, ColumnElement, String, cast, func, select

from mlops.ledger.engine import Database


def as_rows(database: Database, names: Sequence[str]) -> CTE:
    """A table `asked` with a column `strategy`.

    As one value: hundreds of them as VALUES took the time of the whole query, to write its text.
    """
    if database.is_postgresql:
        rows = func.json_array_elements_text(cast(list(names), JSON)).column_valued("strategy")
        return select(rows.cast(String).label("strategy")).cte("asked")
    return select(func.json_each(json.dumps(list(names))).table_valued("value").c.value.label("strategy")).cte("asked")


def pairs_as_rows(database: Database, pairs: Sequence[tuple[str, str]], *columns: str) -> CTE:
    """The same of pairs, with these two columns; not for no pairs at all."""
    values = [list(pair) for pair in pairs]
    found: list[ColumnElement[Any]]
    if database.is_postgresql:
        element = func.json_array_elements(cast(values, JSON), type_=JSON).column_valued("element")
        found = [element[place].as_string().label(name) for place, name in enumerate(columns)]
    else:
        value = func.json_each(json.dumps(values)).table_valued("value").c.value
        found = [func.json_extract(value, f"$[{place}]").label(name) for place, name in enumerate(columns)]
    return select(*found).cte("pairs")
