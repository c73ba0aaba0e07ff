"""Windows of features after their only sort, one by one or as a table; pure.

Features whose windows hold the same numbers of values stand in a block: a statistic is then a few calls for all of
them, not a few for each. Every statistic reads these. Called by `detect`, `frozen` and `training_profile`.

A column of floats is sorted by whichever of two ways is quicker on this machine. numpy sorts floats with the widest
instructions of the processor. On AMD's Zen 4 those with 512 bits are five times slower than those with 256. There a
column is put in order by slots first:

    slot of x = 65535 (1 + t / (|t| + w)) / 2,   t = x - median, w = distance of the quartiles (both of a sample)

a monotone function, steep where values are dense, finite for any tail. The stable sort of small whole numbers is a
radix sort; what it leaves out of order lies within a slot, and numpy's stable sort (timsort) is quick with that. It is
a full sort, so the result is right whatever the slots are: a poor map costs time and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.uint16]

#: Below so many values numpy's sort is quick in any case.
_LEAST = 2048
#: Above so many the sixteen bytes of index per value would be felt beside the rows.
_MOST = 2_000_000
#: Values from which the map is made.
_SAMPLE = 128
#: Neighbours in the sample with one slot but two values: beyond this share the slots say too little.
_CLUMPED = 1 / 16
#: Values that go through a step together: they and a copy stay in a core's cache.
_BLOCK = 16_384
#: What stands for an infinity or nan in the map: its powers are no matter, only that it lies beyond all others.
_FAR = 1e300
#: Values on which both ways are timed: some milliseconds, once per process.
_TRIAL = 32_768


@dataclass(frozen=True, kw_only=True)
class OrderedColumn:
    """Sorted window of one feature."""

    values: Floats
    """(n,) ascending, infinities included, without nan"""
    n_missing: int

    @property
    def n_rows(self) -> int:
        """Number of rows of the window."""
        return len(self.values) + self.n_missing


@dataclass(frozen=True, kw_only=True)
class OrderedBlock:
    """Sorted window of f features that hold as many values and infinities as each other."""

    values: Floats
    """(f, n) ascending, infinities included, without nan"""
    finite: Floats
    """(f, k) those that are finite; a view"""
    n_missing: int

    @property
    def n_rows(self) -> int:
        """Number of rows of the window."""
        return int(self.values.shape[1]) + self.n_missing


def ordered_column(values: Floats) -> OrderedColumn:
    """Sort a column once; every statistic reads the result."""
    ordered, n_missing = sorted_values(values)
    return OrderedColumn(values=ordered, n_missing=n_missing)


def sorted_values(values: Floats) -> tuple[Floats, int]:
    """The values in ascending order without nan, and how many nan there were: one sort, nan sort last."""
    ordered = np.empty(len(values))
    sort_into(values, ordered)
    n = int(ordered.searchsorted(np.nan, side="left"))
    return ordered[:n], len(ordered) - n


def ordered_table(columns: Sequence[Floats]) -> Floats:
    """Sort each column into a row of (f, n), nan last. columns : f >= 1 of one length"""
    table = np.empty((len(columns), len(columns[0])))
    for column, row in zip(columns, table, strict=True):
        sort_into(column, row)
    return table


def block_of(column: OrderedColumn) -> OrderedBlock:
    """Make a block of one feature."""
    below, above = _infinities(column.values)
    values = column.values[np.newaxis]
    return OrderedBlock(values=values, finite=_inside(values, below, above), n_missing=column.n_missing)


def blocks(*tables: Floats) -> Iterator[tuple[slice, list[OrderedBlock]]]:
    """Yield neighbouring features that are alike in every window, and their block of each. tables : (f, n) as sorted"""
    shapes = zip(*(map(_shape, table) for table in tables), strict=True)
    first = 0
    for alike, members in groupby(shapes):
        rows = slice(first, first + len(list(members)))
        first = rows.stop
        yield rows, [_block(table[rows], *shape) for table, shape in zip(tables, alike, strict=True)]


def _block(table: Floats, n: int, below: int, above: int) -> OrderedBlock:
    values = table[:, :n]
    return OrderedBlock(values=values, finite=_inside(values, below, above), n_missing=table.shape[1] - n)


def _shape(row: Floats) -> tuple[int, int, int]:
    """Values, and infinities below and above the finite ones."""
    n = len(row) if len(row) and row[-1] == row[-1] else int(row.searchsorted(np.nan))
    return n, *_infinities(row[:n])


def _infinities(values: Floats) -> tuple[int, int]:
    if not len(values) or (math.isfinite(values[0]) and math.isfinite(values[-1])):
        return 0, 0
    return int(values.searchsorted(-np.inf, side="right")), len(values) - int(values.searchsorted(np.inf))


def _inside(values: Floats, below: int, above: int) -> Floats:
    return values[:, below : values.shape[1] - above]


def sort_into(values: Floats, out: Floats) -> None:
    """Write the values in ascending order, nan last, as `np.sort` has them. values, out : (n,)"""
    if _LEAST <= len(values) <= _MOST and slots_are_quicker() and sort_by_slots(values, out):
        return
    out[...] = values
    out.sort()


def sort_by_slots(values: Floats, out: Floats) -> bool:
    """Sort into `out` by slots; False, and nothing is written, where too many values share one. values : n >= 1"""
    step = max(1, len(values) // _SAMPLE)
    order = values[::step].argsort(kind="stable")
    sample = values[::step][order]
    n = int(sample.searchsorted(np.inf))
    if not n:
        return False
    centre, width = float(sample[n // 2]), float(sample[n * 3 // 4]) - float(sample[n // 4])
    if not 0 < width < np.inf:
        return False
    slots = _slots_of(values, centre, width)
    of_sample = slots[::step][order[:n]]
    clumped = (of_sample[1:] == of_sample[:-1]) & (sample[1:n] != sample[: n - 1])
    if np.count_nonzero(clumped) > _CLUMPED * n:
        return False
    np.take(values, slots.argsort(kind="stable"), out=out, mode="clip")
    out.sort(kind="stable")
    return True


def _slots_of(values: Floats, centre: float, width: float) -> Slots:
    """(n,) slot of each value; nan and infinity in the last, minus infinity in the first."""
    slots = np.empty(len(values), dtype=np.uint16)
    shifted, size = np.empty(min(len(values), _BLOCK)), np.empty(min(len(values), _BLOCK))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(values), _BLOCK):
            block = values[start : start + _BLOCK]
            t, a = shifted[: len(block)], size[: len(block)]
            np.subtract(block, centre, out=t)
            np.abs(t, out=a)
            np.add(a, width, out=a)
            if not np.add.reduce(a) < np.inf:
                # nan last, as in the sort: `fmin` takes the other of two where one is nan.
                np.subtract(np.fmax(np.fmin(block, _FAR), -_FAR), centre, out=t)
                np.add(np.fmin(np.abs(t), _FAR), width, out=a)
                np.fmax(np.fmin(t, a), -a, out=t)
            np.divide(t, a, out=t)
            # From -1 .. 1 to 0 .. 65535.
            np.multiply(t, 32767.5, out=t)
            np.add(t, 32767.5, out=t)
            slots[start : start + _BLOCK] = t
    return slots


@lru_cache(maxsize=1)
def slots_are_quicker() -> bool:
    """Whether slots beat numpy's sort here: both are timed once per process, in time of this thread alone."""
    # Others each time: a processor learns the branches of a sort that it has seen.
    columns = _scattered(3 * _TRIAL).reshape(3, _TRIAL)
    out = np.empty(_TRIAL)
    by_slots = min(_seconds(partial(sort_by_slots, column, out)) for column in columns)
    by_numpy = min(_seconds(partial(np.sort, column)) for column in columns)
    return by_slots < by_numpy


def _scattered(n: int) -> Floats:
    """(n,) numbers from 0 to 1 in no order: a hash of 0, 1, … (splitmix64)."""
    with np.errstate(over="ignore"):
        z = np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray((z ^ (z >> np.uint64(27))) / 2.0**64)


def _seconds(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started
