"""Names as rows of a query, so that each is looked up in an index by itself."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import CTE, JSON, String, cast, func, select


def as_rows(names: Sequence[str]) -> CTE:
    """A table `asked` with a column `strategy`.

    As one value: hundreds of them as VALUES took the time of the whole query, to write its text.
    """
    rows = func.json_array_elements_text(cast(list(names), JSON)).column_valued("strategy")
    return select(rows.cast(String).label("strategy")).cte("asked")


def pairs_as_rows(pairs: Sequence[tuple[str, str]], *columns: str) -> CTE:
    """The same of pairs, with these two columns; not for no pairs at all."""
    values = [list(pair) for pair in pairs]
    element = func.json_array_elements(cast(values, JSON), type_=JSON).column_valued("element")
    return select(*[element[place].as_string().label(name) for place, name in enumerate(columns)]).cte("pairs")
