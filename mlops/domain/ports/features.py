"""Where features come from."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.domain.sampling import RowSample


@dataclass(frozen=True, kw_only=True)
class Window:
    """Dates of a read: `start` excluded, `end` included, so that adjacent windows share no date."""

    start: date
    end: date


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the feature view."""

    name: str
    kind: str
    """`number` (boolean too), `category` (text), `date`, or `other`."""
    left_out: str | None = None
    """Why it is no feature unless the policy names it, as the store knows: a partition folder, an identifier type."""
    has_fractions: bool = field(default=False, compare=False)
    """The store knows, without reading the rows, that some of its values are no whole numbers."""


@dataclass(frozen=True, kw_only=True)
class DateFaults:
    """Rows of a strategy whose `date` is no plain day."""

    n_undated: int = 0
    """Infinite, null or unreadable: they are in no window"""
    undated: str = ""
    """One of those values, as text"""
    n_not_midnight: int = 0
    """Of the window: timestamps with a time of day in the source's time zone"""
    not_midnight: str = ""
    """One of those, in that zone"""


class FeatureSource(Protocol):
    """The feature view, read by strategy and date window; always as of a date, never beyond it.

    The day of a timestamp with a zone is that of the source's declared time zone, whatever the session's is. Rows come
    in one order everywhere: by date, then by the code points of the ticker, rows without a ticker last.
    """

    def columns(self) -> tuple[Column, ...]:
        """All columns, in the view's order. Raises SourceUnavailable, MissingColumn (no view, no `date`)."""
        ...

    def latest_date(self, strategy: str | None = None, *, until: date | None = None) -> date | None:
        """Newest date, up to `until`, that has rows of the strategy (of any, when None); None when there is none.

        Infinite dates are none.
        """
        ...

    def dates(self, strategy: str, window: Window) -> list[date]:
        """Distinct dates with rows, ascending."""
        ...

    def count(self, strategy: str, window: Window) -> int:
        """Rows in the window."""
        ...

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        """How many rows each date of the window has, ascending by date; dates without rows are not there."""
        ...

    def date_faults(self, strategy: str, window: Window) -> DateFaults:
        """What is wrong with the dates themselves. Raises SourceUnavailable, MissingColumn."""
        ...

    def snapshot(self) -> AbstractContextManager[FeatureSource]:
        """A source all of whose reads see one state of the data, until the block ends.

        Short: a database keeps old rows for it. Raises SourceUnavailable where the state could not be kept.
        """
        ...

    def read(
        self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
    ) -> pa.Table:
        """Rows of the window as Arrow, ordered by date and ticker; of a sample those alone.

        Numbers come as float64 (nan for NULL is *not* substituted: nulls stay null), `date` as date32,
        text as string. An empty window gives an empty table, not an error. Raises SourceUnavailable,
        MissingColumn for a column that the view lacks.
        """
        ...

    def read_batches(self, strategy: str, window: Window, columns: Sequence[str]) -> Generator[pa.RecordBatch]:
        """The rows of `read`, in its order and types, in batches, so that they never stand in memory together.

        An empty window gives no batch, or empty ones. Nothing else is asked of the source until the last batch
        was taken or the iterator was closed. Raises what `read` raises, at the first batch.
        """
        ...
