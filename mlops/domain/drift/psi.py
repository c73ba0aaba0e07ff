"""Population stability index; pure.

    PSI = sum over bins of (c - r) ln(c / r),   r, c: shares of the bin in reference and current

Bins are the reference's quantiles with open ends, so a value outside its range counts; an atom (a value
heavier than a bin) has a bin of its own; missing values have one too. Each count gets +0.5 before the
shares (Jeffreys), so an empty bin costs about one observation, not infinity.
Source: Yurdakul 2018; smoothing and bins: docs/decisions/0004.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.ordered import sorted_values

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

#: Added to each bin's count in both samples.
_SMOOTHING = 0.5


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Edges of half-open bins (edge before, edge]; the ends are open, and missing values have the last bin."""

    edges: Floats
    """(b - 1,) interior edges, ascending, distinct"""


def quantile_bins(reference: Floats, *, bins: int) -> Bins:
    """Make bins at the reference's quantiles.

    reference : (n,) ascending, without nan, n >= 1. Where one value is heavier than a bin, it gets its own:
    an edge at it, and one just below it.
    """
    return quantile_bins_of_rows(reference[np.newaxis], bins=bins)[0]


def quantile_bins_of_rows(reference: Floats, *, bins: int) -> list[Bins]:
    """Make bins at the quantiles of each feature. reference : (f, n) each row ascending"""
    n = reference.shape[1]
    # The inverse of the empirical distribution: an edge is always a value that occurred.
    # Whole numbers: 0.7 * 30 as floats may be a hair above 21, and its ceiling 22.
    ranks = -(-np.arange(1, bins, dtype=np.int64) * n // bins) - 1
    edges = reference[:, ranks]
    before, after = reference[:, np.maximum(ranks - 1, 0)], reference[:, np.minimum(ranks + 1, n - 1)]
    # A value that occurs once is no atom, and no two edges are the same.
    is_plain = ((before < edges) & (edges < after)).all(axis=1) & (n > bins)
    return [
        Bins(edges=one) if plain else _bins_with_atoms(one, values, bins)
        for one, values, plain in zip(edges, reference, is_plain.tolist(), strict=True)
    ]


def _bins_with_atoms(edges: Floats, reference: Floats, bins: int) -> Bins:
    is_first = np.append(True, edges[1:] != edges[:-1])[: len(edges)]
    edges = edges[is_first]
    # A value heavier than a bin spans a quantile border, so every atom is among the edges.
    weight = reference.searchsorted(edges, side="right") - reference.searchsorted(edges, side="left")
    is_atom = weight * bins > len(reference)
    if not is_atom.any():
        return Bins(edges=edges)
    return Bins(edges=np.unique(np.concatenate([edges, np.nextafter(edges[is_atom], -np.inf)])))


def bin_counts(values: Floats, n_missing: int, bins: Bins) -> Counts:
    """(b + 1,) observations of each bin, the missing ones last. values : (n,) ascending, without nan."""
    upto = [0, *values.searchsorted(bins.edges, side="right").tolist(), len(values)]
    return np.array([*(after - before for before, after in pairwise(upto)), n_missing], dtype=np.int64)


def index_from_counts(
    reference: Counts, current: Counts, *, smoothing: float = _SMOOTHING, floor: float = 0.0
) -> float:
    """PSI of two count vectors: 0 for equal shares, unbounded above.

    A bin that is empty in both samples (no missing value anywhere, say) plays no part. With `smoothing` 0,
    shares below `floor` are raised to it, as other libraries do.
    """
    # A dozen bins: plain floats are many times faster than a dozen calls of numpy.
    used = [(r + smoothing, c + smoothing) for r, c in zip(reference.tolist(), current.tolist(), strict=True) if r + c]
    n_reference, n_current = (math.fsum(column) for column in zip(*used, strict=True)) if used else (0.0, 0.0)
    if used and not (n_reference and n_current):
        return float("nan")
    shares = [(max(r / n_reference, floor), max(c / n_current, floor)) for r, c in used]
    return math.fsum((c - r) * math.log(c / r) if c and r else math.inf for r, c in shares)


def population_stability_index(
    reference: Floats, current: Floats, *, bins: int = 10, smoothing: float = _SMOOTHING, floor: float = 0.0
) -> float:
    """Shift between two samples of one feature, missing values (nan) included.

    reference : (n,)      current : (m,)      any order
    nan where the reference holds no value at all: there is nothing to compare with.

    >>> reference = np.arange(1000.0)
    >>> population_stability_index(reference, reference)
    0.0
    >>> round(population_stability_index(reference, reference + 300), 2)  # three bins empty, the last one fourfold
    2.0
    """
    ref, n_ref_missing = sorted_values(reference)
    cur, n_cur_missing = sorted_values(current)
    if not len(ref):
        return float("nan")
    edges = quantile_bins(ref, bins=bins)
    return index_from_counts(
        bin_counts(ref, n_ref_missing, edges), bin_counts(cur, n_cur_missing, edges), smoothing=smoothing, floor=floor
    )
