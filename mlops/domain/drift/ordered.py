"""Windows of features after their only sort, one by one or as a table; pure.

Features whose windows hold the same numbers of values stand in a block: a statistic is then a few calls for all of
them, not a few for each. Every statistic reads these. Called by `detect`, `frozen` and `drift_profile`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.presort import sort_into
from mlops.domain.drift.psi import sorted_values

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OrderedColumn:
    """One window of one feature."""

    values: Floats
    """(n,) ascending, infinities included, without nan"""
    n_missing: int

    @property
    def n_rows(self) -> int:
        """Rows of the window."""
        return len(self.values) + self.n_missing


@dataclass(frozen=True, kw_only=True)
class OrderedBlock:
    """One window of f features that hold as many values and infinities as each other."""

    values: Floats
    """(f, n) ascending, infinities included, without nan"""
    finite: Floats
    """(f, k) those that are finite; a view"""
    n_missing: int

    @property
    def n_rows(self) -> int:
        """Rows of the window."""
        return int(self.values.shape[1]) + self.n_missing


def ordered_column(values: Floats) -> OrderedColumn:
    """Sort once; everything else reads the result."""
    ordered, n_missing = sorted_values(values)
    return OrderedColumn(values=ordered, n_missing=n_missing)


def ordered_table(columns: Sequence[Floats]) -> Floats:
    """(f, n) each column ascending, nan last. columns : f >= 1 of one length"""
    table = np.empty((len(columns), len(columns[0])))
    for column, row in zip(columns, table, strict=True):
        sort_into(column, row)
    return table


def block_of(column: OrderedColumn) -> OrderedBlock:
    """A block of one feature."""
    below, above = _infinities(column.values)
    values = column.values[np.newaxis]
    return OrderedBlock(values=values, finite=_inside(values, below, above), n_missing=column.n_missing)


def blocks(*tables: Floats) -> Iterator[tuple[slice, list[OrderedBlock]]]:
    """Neighbouring features that are alike in every window, and their block of each. tables : (f, n) as sorted"""
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
