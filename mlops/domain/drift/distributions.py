"""Distributions of a feature in both windows, small enough for the report; pure.

Counts on common edges for a picture of them, and how far each quantile has moved. Called by `detect` with
columns that are sorted already: a few dozen binary searches per window, whatever its length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Bins between the two tails: twice what a picture of 200 points needs, so that it can be drawn wider.
BINS = 40
#: So much of either window may lie beyond the outermost edge: one outlier must not squeeze all others into a bin.
_TAIL = 0.005
#: Quantiles whose movement is stated.
LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
_STEPS = np.linspace(0.0, 1.0, BINS + 1)
_LEVELS = np.asarray(LEVELS)
#: The largest categories of either window; the others are counted together.
CATEGORIES = 12


@dataclass(frozen=True, kw_only=True)
class NumberDistribution:
    """Counts of the finite values of both windows on common edges."""

    low: float
    """Lower edge of the first bin"""
    high: float
    """Upper edge of the last one; the BINS between are equally wide"""
    reference: tuple[int, ...]
    """BINS + 2 counts: below `low`, each bin, above `high`"""
    current: tuple[int, ...]
    quantile_shift: tuple[float, ...] | None
    """Current minus reference at LEVELS, in standard deviations of the reference; None where it has none."""

    def to_json(self) -> dict[str, Any]:
        """Return the part of the report on these counts."""
        return {
            "low": self.low,
            "high": self.high,
            "reference": list(self.reference),
            "current": list(self.current),
            "quantile_shift": None if self.quantile_shift is None else list(self.quantile_shift),
        }


@dataclass(frozen=True, kw_only=True)
class CategoryDistribution:
    """Counts of the rows of both windows per category."""

    counts: tuple[tuple[str, int, int], ...]
    """Name, reference, current; the largest share in either window first"""
    other: tuple[int, int]
    """Rows of all categories that are not named"""
    missing: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Return the part of the report on these counts."""
        return {
            "categories": [[name, before, now] for name, before, now in self.counts],
            "other": list(self.other),
            "missing": list(self.missing),
        }


Distribution = NumberDistribution | CategoryDistribution


def number_distribution(reference: Floats, current: Floats, *, spread: float | None) -> NumberDistribution | None:
    """Count both windows on common edges and measure the movement of the quantiles.

    reference : (n,) current : (m,) finite, ascending      spread: standard deviation of the reference
    None where a window is empty, or where the values lie too far apart for the difference to be a float.
    """
    return number_distributions(reference[np.newaxis], current[np.newaxis], spreads=[spread])[0]


def number_distributions(
    reference: Floats, current: Floats, *, spreads: Sequence[float | None]
) -> list[NumberDistribution | None]:
    """Distribution of each feature. reference : (f, n)      current : (f, m)      spreads : f of them"""
    if not reference.shape[1] or not current.shape[1]:
        return [None] * len(spreads)
    low = np.minimum(_below(reference), _below(current))
    high = np.maximum(_above(reference), _above(current))
    # One value: a bin's width around it, as wide as the value is large, so that the edges differ.
    margin = np.where(low == high, np.maximum(np.abs(low), 1.0) / 2, 0.0)
    low, high = low - margin, high + margin
    with np.errstate(over="ignore", invalid="ignore"):
        edges = low[:, np.newaxis] + (high - low)[:, np.newaxis] * _STEPS
        moved = _quantiles(current) - _quantiles(reference)
    edges[:, -1] = high
    # Of edges that are nan the counts mean nothing, and are not used.
    rows = zip(edges[:, 0].tolist(), edges[:, -1].tolist(), _counts(reference, edges), _counts(current, edges),
               moved.tolist(), spreads, strict=True)  # fmt: skip
    return [
        NumberDistribution(
            low=first, high=last, reference=tuple(before), current=tuple(now), quantile_shift=_in_spreads(shift, spread)
        )
        if math.isfinite(last - first)
        else None
        for first, last, before, now, shift, spread in rows
    ]


def category_distribution(names: Sequence[str | None], counts: Integers) -> CategoryDistribution:
    """The largest categories of both windows. counts : (2, c), rows of the reference and of the current window."""
    table = {name: (int(before), int(now)) for name, before, now in zip(names, *counts, strict=True)}
    missing = table.pop(None, (0, 0))
    n_reference, n_current = (max(1, int(total)) for total in counts.sum(axis=1))
    order = sorted(table, key=lambda name: (-max(table[name][0] / n_reference, table[name][1] / n_current), str(name)))
    rest = [table[name] for name in order[CATEGORIES:]]
    return CategoryDistribution(
        counts=tuple((str(name), *table[name]) for name in order[:CATEGORIES]),
        other=(sum(before for before, _ in rest), sum(now for _, now in rest)),
        missing=missing,
    )


def _below(values: Floats) -> Floats:
    return values[:, math.floor(_TAIL * (values.shape[1] - 1))]


def _above(values: Floats) -> Floats:
    return values[:, math.ceil((1 - _TAIL) * (values.shape[1] - 1))]


def _counts(values: Floats, edges: Floats) -> list[list[int]]:
    """Count each feature's values below, in each bin [edge, next), the last one closed, and above."""
    upto = np.zeros((len(values), BINS + 3), dtype=np.int64)
    upto[:, -1] = values.shape[1]
    for row, borders, out in zip(values, edges, upto, strict=True):
        out[1:-1] = row.searchsorted(borders)
        out[-2] = row.searchsorted(borders[-1], side="right")
    counts: list[list[int]] = np.diff(upto, axis=1).tolist()
    return counts


def _in_spreads(moved: Sequence[float], spread: float | None) -> tuple[float, ...] | None:
    """Scale a movement by the spread, to four digits; None without a spread, or beyond the largest float."""
    if not spread:
        return None
    shift = [value / spread for value in moved]
    return tuple(round(value, 4) for value in shift) if all(map(math.isfinite, shift)) else None


def _quantiles(values: Floats) -> Floats:
    """(f, levels) linear interpolation between order statistics, which no two of them can overflow."""
    last = values.shape[1] - 1
    position = _LEVELS * last
    below = position.astype(np.int64)
    part = position - below
    return np.asarray(values[:, below] * (1.0 - part) + values[:, np.minimum(below + 1, last)] * part)
