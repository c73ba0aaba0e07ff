"""Every earlier placement of a check's two windows, the rows that are counted there, and its distance; pure.

    … history …………………………………………………………………………… | reference (r dates) | current (k dates) |   the check
    [ its r dates ][ k dates ]                                                              placement 1
      [ its r dates ][ k dates ]                                                            placement 2 …

Counts are added up over the dates, so that a window is the difference of two of them. A distance says how
far the newest dates of a window lie from its reference:

    shift of a number   = W1(newest dates, reference) / spread + |difference of the shares of missing values|
    shift of a category = total variation, missing values a category of their own
    distance            = the largest over the newest 1, 2, 4, … dates

W1 is the Wasserstein distance over quantile cells, spread the geometric mean of the reference's standard deviation and
of that of all dates. Counts are whole numbers below 2**24, so that they and their differences are exact in single
precision, and shares have six digits. Features go through each step together, placements side by side in memory.
Called by `calibration` and `frozen`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops.domain.drift.cells import CELLS, cells_of, quantile_cells
from mlops.domain.frame import FeatureFrame, Floats
from mlops.domain.sampling import PRIME, RowMarks, group_starts, rank_within

Dates = npt.NDArray[np.datetime64]
Integers = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]

#: Rows of one date beyond this add little: what they have in common does not average out.
ROWS_PER_DATE = 48
#: With four times the rows that are kept expected, fewer have a probability below 1e-23, see `mlops.domain.sampling`.
_AMPLE = 4
#: The row of a number's counts that holds the missing values, after those up to each cell.
MISSING = CELLS
#: A reference that hardly moved must not make every later move infinite.
_LEAST_SPREAD = 0.1


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Placements of the two windows, and the date of each row."""

    day_of_row: Integers
    n_days: int
    ends: Integers
    """(placements,) index of the date after the newest; the check's own is the last"""
    k: int
    references: tuple[tuple[Integers, Integers], ...]
    """First date and the one after the last of each placement's reference, once for each of its parts"""

    def number_counts(self, cells: Integers) -> Singles:
        """(f, CELLS + 1, days + 1) rows up to and including each cell and date, the missing ones last.

        cells : (f, rows) of `number_cells`, which it overwrites
        """
        counts = self._up_to_each_date(cells, MISSING + 1).astype(np.float32)
        # Row by row for all of them: a sum along so short a column takes several times as long.
        for cell in range(1, MISSING):
            counts[:, cell] += counts[:, cell - 1]
        return counts

    def category_counts(self, cells: Integers, n_cells: int) -> Singles:
        """(cells, days + 1) rows of each cell up to and including each date. Overwrites `cells`."""
        return np.asarray(self._up_to_each_date(cells[np.newaxis], n_cells)[0], dtype=np.float32)

    def reference(self, counts: Singles) -> Singles:
        """(…, placements) of the reference windows. counts : (…, days + 1) up to each date"""
        parts = [span.of(counts) for span in self._references]
        return parts[0] if len(parts) == 1 else np.asarray(np.sum(parts, axis=0))

    def newest(self, counts: Singles) -> Iterator[Singles]:
        """(…, placements) of the current windows' newest 1, 2, 4, … dates."""
        return (span.of(counts) for span in self._suffixes)

    def _up_to_each_date(self, cells: Integers, n_cells: int) -> Integers:
        """(f, cells, days + 1) rows of each cell up to each date; column 0 is before the first.

        cells : (f, rows), which it overwrites
        """
        n_features, n_columns = len(cells), self.n_days + 1
        cells *= n_columns
        cells += self._column_of_row
        cells += np.arange(n_features)[:, np.newaxis] * (n_cells * n_columns)
        flat = np.bincount(cells.ravel(), minlength=n_features * n_cells * n_columns)
        # One sum over all, the shorter way; what came before a cell is taken off it again.
        added = np.cumsum(flat, out=flat).reshape(n_features, n_cells, n_columns)
        return np.subtract(added, added[..., :1].copy(), out=added)

    @cached_property
    def _column_of_row(self) -> Integers:
        return self.day_of_row + 1

    @cached_property
    def _references(self) -> list[_Span]:
        return [_Span(first=first, after=after) for first, after in self.references]

    @cached_property
    def _suffixes(self) -> list[_Span]:
        return [_Span(first=self.ends - length, after=self.ends) for length in suffixes(self.k)]


@dataclass(frozen=True, kw_only=True)
class _Span:
    """First and last date of a window at each placement."""

    first: Integers
    after: Integers

    def of(self, counts: Singles) -> Singles:
        """(…, placements) the window's own. Where the earlier ones follow day by day, nothing is looked up."""
        if not self._is_run:
            return np.asarray(counts.take(self.after, axis=-1) - counts.take(self.first, axis=-1))
        n, first, after = len(self.after) - 1, self.first[0], self.after[0]
        found = np.empty((*counts.shape[:-1], n + 1), dtype=counts.dtype)
        np.subtract(counts[..., after : after + n], counts[..., first : first + n], out=found[..., :-1])
        np.subtract(counts[..., self.after[-1]], counts[..., self.first[-1]], out=found[..., -1])
        return found

    @cached_property
    def _is_run(self) -> bool:
        return _follow(self.first[:-1]) and _follow(self.after[:-1])


def number_cells(values: Floats) -> tuple[Integers, Floats]:
    """(f, rows) the cell of each value, MISSING for nan, and the (f, CELLS) middles."""
    is_missing = np.isnan(values)
    have_missing = np.asarray(is_missing.any(axis=1))
    found = [
        quantile_cells(row[~gone] if has_missing else row)
        for row, gone, has_missing in zip(values, is_missing, have_missing, strict=True)
    ]
    cells = cells_of(values, [edges for edges, _ in found])
    if have_missing.any():
        cells[is_missing] = MISSING
    return cells, np.stack([padded(middles) for _, middles in found])


def _follow(indices: Integers) -> bool:
    """Whether each place is the next day's."""
    return not len(indices) or bool((np.diff(indices) == 1).all())


def kept_of(frame: FeatureFrame) -> Integers | slice:
    """Return the rows that are counted; a slice where they are all, in their order."""
    rows = rows_kept(dates_of(frame), tickers=frame.tickers)
    return slice(None) if len(rows) == frame.n_rows and _follow(rows) else rows


def rows_kept(dates: Dates, limit: int = ROWS_PER_DATE, *, tickers: pa.ChunkedArray | None = None) -> Integers:
    """Indices of at most `limit` rows of each date, those with the smallest marks; what is kept is kept again.

    tickers : (n,) of text; without them, rows evenly spaced in the order in which they came
    """
    if not len(dates):
        return np.empty(0, dtype=np.int64)
    order = np.arange(len(dates)) if _is_ascending(dates) else np.argsort(dates, kind="stable")
    starts = group_starts(dates[order].view(np.int64))
    sizes = np.diff(starts, append=len(dates))
    if sizes.max() <= limit:
        return np.asarray(order)
    if tickers is not None:
        return np.asarray(order[_smallest(RowMarks().of(_array_of(tickers), dates)[order], sizes, limit)])
    taken = np.minimum(sizes, limit)
    within = np.arange(int(taken.sum())) - np.repeat(np.cumsum(taken) - taken, taken)
    return np.asarray(order[np.repeat(starts, taken) + within * np.repeat(sizes, taken) // np.repeat(taken, taken)])


def _smallest(marks: Integers, sizes: Integers, limit: int) -> Integers:
    """Indices of the `limit` smallest marks of each date. marks : (n,) date by date      sizes : (dates,) rows"""
    day = np.repeat(np.arange(len(sizes)), sizes)
    # Few rows of a long date are worth sorting: those below four times the mark that the last one kept will have.
    likely = marks < np.repeat(np.minimum(_AMPLE * limit / sizes, 1.0) * PRIME, sizes)
    too_few = np.bincount(day[likely], minlength=len(sizes)) < np.minimum(limit, sizes)
    candidates = np.flatnonzero(likely | too_few[day])
    ranked = candidates[np.lexsort((marks[candidates], day[candidates]))]
    return np.sort(ranked[rank_within(day[ranked]) < limit])


def _array_of(tickers: pa.ChunkedArray) -> pa.Array:
    chunks = tickers.chunks
    return chunks[0] if len(chunks) == 1 else tickers.combine_chunks()


def distinct(dates: Dates) -> Dates:
    """Distinct dates, ascending. Rows mostly come in order of their dates, and a million need no sort then."""
    return dates[group_starts(dates.view(np.int64))] if _is_ascending(dates) else np.unique(dates)


def _is_ascending(dates: Dates) -> bool:
    days = dates.view(np.int64)
    return bool((days[1:] >= days[:-1]).all())


def dates_of(frame: FeatureFrame) -> Dates:
    """(n,) the rows' dates; empty where they were read without."""
    return np.asarray(frame.dates if frame.dates is not None else (), dtype="datetime64[D]")


def suffixes(k: int) -> list[int]:
    """Sizes of the newest 1, 2, 4, … dates of a window of k, and of all of them."""
    return [*(2**i for i in range(k.bit_length()) if 2**i < k), k]


def number_distances(reference: Singles, newest: Iterable[Singles], total: Singles, middles: Floats) -> Singles:
    """(f, p) distances. Overwrites its counts with shares.

    reference : (f, CELLS + 1, p) rows up to and including each cell, the missing ones last
    newest : the same of the newest 1, 2, 4, … dates
    total : (f, CELLS + 1) of all dates      middles : (f, CELLS) ascending from 0 to 1
    """
    widths = np.diff(middles, append=middles[:, -1:])[:, np.newaxis].astype(np.float32)
    spread = _spread(reference, total, middles)
    missing = _to_shares(reference)
    largest = np.zeros_like(missing)
    for counts in newest:
        apart = np.abs(_to_shares(counts) - missing)
        cells = counts[:, :MISSING]
        cells -= reference[:, :MISSING]
        shift = (widths @ np.abs(cells, out=cells))[:, 0]
        shift /= spread
        apart += shift
        np.maximum(largest, apart, out=largest)
    return largest


def category_distances(reference: Singles, newest: Iterable[Singles]) -> Singles:
    """(p,) distances. reference : (c, p) rows of each category      newest : the same of the newest 1, 2, 4, … dates"""
    shares = _shares(reference)
    apart = [np.abs(_shares(counts) - shares).sum(axis=0) / 2 for counts in newest]
    return np.asarray(np.max(apart, axis=0))


def padded(middles: Floats) -> Floats:
    """(CELLS,) the middles of cells, those that are not there at the place of the last."""
    return np.append(middles, np.full(CELLS - len(middles), middles[-1]))


def _to_shares(counts: Singles) -> Singles:
    """Turn (f, CELLS + 1, p) counts into shares of the values that are there; return the share of missing values."""
    present, absent = counts[:, MISSING - 1].copy(), counts[:, MISSING]
    counts[:, :MISSING] *= (1 / np.maximum(present, 1))[:, np.newaxis]
    return np.asarray(absent / np.maximum(present + absent, 1))


def _spread(reference: Singles, total: Singles, middles: Floats) -> Singles:
    """(f, p) geometric mean of each reference's standard deviation and that of all dates.

    1 where no date varied: a distance is then the share of values that left the only one.
    """
    overall = _deviation(total[:, :, np.newaxis], middles)
    spread = np.sqrt(np.maximum(_deviation(reference, middles), _LEAST_SPREAD * overall) * overall)
    return np.where(overall > 0, spread, 1).astype(np.float32)


def _deviation(upto: Singles, middles: Floats) -> Floats:
    """(f, p) from counts up to each cell: the sum of n(c) m(c) is N m(last) - that of N(<= c) (m(c + 1) - m(c))."""
    powers = np.stack([middles, middles**2], axis=1)
    sums = np.diff(powers, axis=2) @ upto[:, : MISSING - 1]
    present = upto[:, MISSING - 1 : MISSING]
    means = np.where(present > 0, powers[:, :, -1:] - sums / np.maximum(present, 1), 0.0)
    return np.asarray(np.sqrt(np.maximum(means[:, 1] - means[:, 0] ** 2, 0.0)))


def _shares(counts: Singles) -> Singles:
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1))
