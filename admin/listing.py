"""Search, sort and pages of a list that fits into memory, and cursors of one that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from admin.responses import NotValid

if TYPE_CHECKING:
    from admin.request_context import RequestContext

Row = TypeVar("Row")

PAGE_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class Shown(Generic[Row]):
    """A page of a list. The templates' macros `sortable`, `pager` and `search` read it."""

    rows: tuple[Row, ...]
    n_found: int
    n_all: int
    page: int
    n_pages: int
    q: str
    sort: str
    """Name of the column, with a minus before it where the largest stands first."""


def shown(
    rows: Iterable[Row],
    *,
    q: str = "",
    sort: str = "",
    page: int = 1,
    text: Callable[[Row], str],
    sorts: Mapping[str, Callable[[Row], Any]],
    n_rows: int | None = PAGE_ROWS,
) -> Shown[Row]:
    """The rows whose text has every word of `q`, sorted, one page of them. Rows without a value stand last.

    sorts : by name of the column; the first is used where `sort` is none of them
    n_rows : of a page; None: all rows on one
    """
    everything = list(rows)
    wanted = q.lower().split()
    found = [row for row in everything if all(word in text(row).lower() for word in wanted)]
    name = sort.removeprefix("-")
    if name not in sorts:
        sort = name = next(iter(sorts))
    key = sorts[name]
    valued = [row for row in found if key(row) is not None]
    valued.sort(key=key, reverse=sort.startswith("-"))
    found = valued + [row for row in found if key(row) is None]
    n_rows = n_rows or max(1, len(found))
    n_pages = max(1, -(-len(found) // n_rows))
    page = min(max(1, page), n_pages)
    return Shown(
        rows=tuple(found[(page - 1) * n_rows : page * n_rows]),
        n_found=len(found),
        n_all=len(everything),
        page=page,
        n_pages=n_pages,
        q=q,
        sort=sort,
    )


class _AboutStrategy(Protocol):
    """A row that is about one strategy."""

    @property
    def strategy(self) -> str:
        """Name of the strategy."""
        ...


_StrategyRow = TypeVar("_StrategyRow", bound=_AboutStrategy)


def shown_strategies(
    context: RequestContext,
    rows: Iterable[_StrategyRow],
    *,
    keep: Callable[[_StrategyRow], bool],
    tag: str,
    **listed: Any,  # noqa: ANN401 -- as in `shown`
) -> Shown[_StrategyRow]:
    """A page of the rows that `keep` keeps and whose strategy has the tag; the search looks in name and tags."""
    found = (row for row in rows if keep(row) and context.has_tag(row.strategy, tag))
    return shown(found, text=lambda row: context.found_by(row.strategy), **listed)


@dataclass(frozen=True, kw_only=True)
class Stretch(Generic[Row]):
    """Rows from a cursor on, newest first; the macro `older` reads it."""

    rows: tuple[Row, ...]
    older: str | None
    """Cursor of the next stretch; None: this is the last."""


def stretch(rows: Sequence[Row], cursor: Callable[[Row], str], *, n_rows: int = PAGE_ROWS) -> Stretch[Row]:
    """A page of them; `rows` has one more than `n_rows` where there are more."""
    kept = tuple(rows[:n_rows])
    return Stretch(rows=kept, older=cursor(kept[-1]) if len(rows) > n_rows else None)


def time_cursor(at: datetime, key: str) -> str:
    """A place in a list that is sorted by time and key."""
    return f"{at.isoformat()}~{key}"


def at_time(cursor: str) -> tuple[datetime, str] | None:
    """The place; None: the beginning. Raises NotValid."""
    if not cursor:
        return None
    at, _, key = cursor.partition("~")
    try:
        found = datetime.fromisoformat(at)
    except ValueError as exc:
        raise NotValid(f"{cursor!r} is no place in this list; begin at its first page") from exc
    if found.tzinfo is None or not key:
        raise NotValid(f"{cursor!r} is no place in this list; begin at its first page")
    return found, key


def at_number(cursor: str) -> int | None:
    """The place in a list that is sorted by number; None: the beginning. Raises NotValid."""
    if not cursor:
        return None
    if not cursor.isdecimal():
        raise NotValid(f"{cursor!r} is no place in this list; begin at its first page")
    return int(cursor)
