"""Quantile cells: a feature's values as small whole numbers that keep their order; pure.

The cells are the unit in which `calibration` and `training_profile` count the values of each date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.ordered import sort_into
from mlops.domain.frame import Floats

Integers = npt.NDArray[np.int64]

#: Quantile cells of a feature's values over all dates; W1 is exact up to the width of a cell.
CELLS = 64
#: The cells are the quantiles of about so many values, evenly spaced over the rows.
_CELL_SAMPLE = 4096
#: From so many values on, passes over the whole column are cheaper than a search per value.
_MANY = 8192
#: Slots between the outermost edges; an edge shares its own with at most so many others.
_SLOTS, _MOST_IN_SLOT = 1024, 6


def quantile_cells(values: Floats) -> tuple[Floats, Floats]:
    """Edges and middles of the quantile cells: (c - 1,) and (c,), both ascending; one cell where all is one value.

    A middle is a value that occurred, so one wild value in a thousand moves nothing. Middles run from 0 to 1:
    the distance has no unit, and squares of 1e200, or of a level with a spread of 1e-12, are no trouble.
    """
    taken = values[:: max(1, len(values) // _CELL_SAMPLE)]
    n = len(taken)
    if not n:
        return np.empty(0), np.zeros(1)
    sample = np.empty(n)
    sort_into(taken, sample)
    edges = sample[np.arange(1, CELLS) * n // CELLS]
    edges = edges[np.append(True, edges[1:] != edges[:-1])]
    upto = sample.searchsorted(edges, side="right")
    # The last cell is empty where the last edge is the largest value.
    middle = np.minimum((np.append(0, upto) + np.append(upto, n) - 1) // 2, n - 1)
    halves = _finite(np.maximum.accumulate(sample[middle]), sample) / 2
    width = halves[-1] - halves[0]
    return edges, (halves - halves[0]) / width if width > 0 else np.zeros(len(halves))


def _finite(middles: Floats, sample: Floats) -> Floats:
    """Replace infinities by the outermost finite values of the sample; 0 where it has none."""
    if np.isfinite(sample[0]) and np.isfinite(sample[-1]):
        return middles
    finite = sample[np.isfinite(sample)]
    return np.clip(middles, finite[0], finite[-1]) if len(finite) else np.zeros(len(middles))


def cell_of(values: Floats, edges: Floats) -> Integers:
    """(n,) how many edges lie below each value; any number for nan."""
    return np.asarray(cells_of(values[np.newaxis], [edges])[0])


def cells_of(values: Floats, edges: Sequence[Floats]) -> Integers:
    """(f, n) how many of its feature's edges lie below each value; any number for nan. edges : (c - 1,) of each

    Features together: threads that do much in one call do not wait for each other's interpreter lock.
    """
    if values.shape[1] < _MANY:
        return np.stack([np.searchsorted(own, row, side="left") for own, row in zip(edges, values, strict=True)])
    slots = _Slots.of(edges)
    if slots:
        return slots.cell_of(values)
    if len(edges) == 1:
        return _compared(values[0], edges[0])[np.newaxis]
    return np.concatenate([cells_of(values[i : i + 1], edges[i : i + 1]) for i in range(len(edges))])


@dataclass(frozen=True, kw_only=True)
class _Slots:
    """Equal slots between the outermost edges: a value's slot says its cell but for the edges within that slot.

    A slot is a monotone function of the value, so an edge in an earlier slot lies below it and one in a later slot
    does not: two comparisons per value in place of one per edge. Of several features, one after the other.
    """

    low: Floats
    """(f, 1)"""
    per_unit: Floats
    """(f, 1)"""
    before: npt.NDArray[np.uint8]
    """(f * slots,) edges in earlier slots"""
    edges: Floats
    """(f * width,) with nothing above the last ones of each"""
    width: int
    most: int
    """Edges in one slot"""

    @classmethod
    def of(cls, edges: Sequence[Floats]) -> _Slots | None:
        """Make the slots; None where too many edges of a feature share one, or their distance is no float."""
        per_unit = [_slots_per_unit(own) for own in edges]
        if not all(per_unit):
            return None
        in_slot = np.stack([_edges_in_slot(own, unit) for own, unit in zip(edges, per_unit, strict=True)])
        most = int(in_slot.max())
        if most > _MOST_IN_SLOT:
            return None
        width = max(len(own) for own in edges) + most
        padded = np.full((len(edges), width), np.inf)
        for row, own in zip(padded, edges, strict=True):
            row[: len(own)] = own
        return cls(
            low=np.array([own[0] for own in edges])[:, np.newaxis],
            per_unit=np.array(per_unit)[:, np.newaxis],
            before=(np.cumsum(in_slot, axis=1) - in_slot).astype(np.uint8).ravel(),
            edges=padded.ravel(),
            width=width,
            most=most,
        )

    def cell_of(self, values: Floats) -> Integers:
        """(f, n) how many edges lie below each value."""
        slots = _slot_of(values, self.low, self.per_unit)
        np.maximum(slots, 0, out=slots)
        feature = np.arange(len(values))[:, np.newaxis]
        slots += feature * _SLOTS
        cells = self.before.take(slots, mode="clip")
        first = np.add(cells, feature * self.width, dtype=np.int64)
        for later in range(self.most):
            cells += values > self.edges[later:].take(first, mode="clip")
        return cells.astype(np.int64)


def _slots_per_unit(edges: Floats) -> float:
    """Slots over the distance of the outermost edges; 0 where that is no float, or there are no two edges."""
    if len(edges) < 2:
        return 0.0
    with np.errstate(over="ignore", divide="ignore"):
        per_unit = float(_SLOTS / (edges[-1] - edges[0]))
    return per_unit if 0 < per_unit < np.inf and np.isfinite(edges[0] * per_unit) else 0.0


def _edges_in_slot(edges: Floats, per_unit: float) -> Integers:
    """(slots,) number of edges in each slot."""
    return np.bincount(np.maximum(_slot_of(edges, edges[:1], np.array([per_unit])), 0), minlength=_SLOTS)


def _slot_of(values: Floats, low: Floats, per_unit: Floats) -> Integers:
    """(…, n) the slot, beyond the last one the last; below 0 before the first; any number for nan."""
    with np.errstate(over="ignore", invalid="ignore"):  # the outermost edge itself may be infinite
        place = values - low
        place *= per_unit
        # nan and what is far below become the smallest number, or 0.
        return np.minimum(place, _SLOTS - 1.0, out=place).astype(np.int64)


def _compared(values: Floats, edges: Floats) -> Integers:
    """Find the cells by a comparison per edge over the whole column: a third of the cost of a search per value."""
    below, is_above = np.zeros(len(values), dtype=np.uint8), np.empty(len(values), dtype=np.bool_)
    # The same bytes as numbers: adding truth values would convert them first.
    one_above = is_above.view(np.uint8)
    for edge in edges:
        np.greater(values, edge, out=is_above)
        np.add(below, one_above, out=below)
    return below.astype(np.int64)
