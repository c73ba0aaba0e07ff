"""Statistics and findings of numeric features, a block of them at a time; pure.

The reference is a window's values, or a frozen profile's grid with what it knows beside. Beside KS and PSI, which say
how surely two samples differ, two distances say how far they lie apart:

    Wasserstein    W1 = integral over u of |Q_reference(u) - Q_current(u)|, in the reference's standard deviations
    Jensen-Shannon sqrt of the mean Kullback-Leibler divergence (base 2) of both shares from their mean: 0 to 1

Called by `detect` and `frozen`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.data_quality import DataFinding, Description, describe_block, numeric_findings
from mlops.domain.drift.distributions import number_distributions
from mlops.domain.drift.ks import effective_size, ks_p_values, ks_statistics
from mlops.domain.drift.ordered import Floats, OrderedBlock
from mlops.domain.drift.psi import Bins, Counts, bin_counts, index_from_counts, quantile_bins_of_rows
from mlops.domain.drift.report import FeatureReport
from mlops.domain.errors import UnusableFeatures
from mlops.domain.policies import DriftPolicy

Compared = tuple[FeatureReport, list[DataFinding]]
Integers = npt.NDArray[np.int64]

#: Values of a long smaller sample whose share of the integral is taken at once.
_STRETCH = 16
#: A smaller sample up to here is gone through value by value.
_WHOLE = 4096
#: Sums of levels further from zero than so many quartile distances lose digits.
_FAR = 8
#: Steps that are gone through together: the rest of memory is no larger for a long sample.
_STEPS = 16_384


@dataclass(frozen=True, kw_only=True)
class ReferenceBlock:
    """Reference of f features that hold as many values as each other."""

    ordered: OrderedBlock
    descriptions: Sequence[Description]
    n_values: Sequence[int]
    """Values that are behind each row; infinities too, missing ones not"""
    bins: Sequence[Bins]
    """Bins of PSI; for no feature where there is no value"""
    counts: Sequence[Counts]


def sample_block(ordered: OrderedBlock, *, bins: int) -> ReferenceBlock:
    """Prepare a reference window of which every value is there."""
    f, n = ordered.values.shape
    edges = quantile_bins_of_rows(ordered.values, bins=bins) if n else []
    return ReferenceBlock(
        ordered=ordered,
        descriptions=describe_block(ordered),
        n_values=[n] * f,
        bins=edges,
        counts=[bin_counts(row, ordered.n_missing, one) for row, one in zip(ordered.values, edges, strict=True)]
        if n
        else [],
    )


def compare_block(
    names: Sequence[str], reference: ReferenceBlock, current: OrderedBlock, policy: DriftPolicy
) -> list[Compared]:
    """Compare each feature with its reference: report and findings of each. names : f of them

    Raises UnusableFeatures where both windows hold values and a statistic is undefined all the same.
    """
    descriptions = list(zip(reference.descriptions, describe_block(current), strict=True))
    found = [
        numeric_findings(name, before, now, alpha=policy.ks_p)
        for name, (before, now) in zip(names, descriptions, strict=True)
    ]
    forced = [any(finding.is_drift for finding in one) for one in found]
    m = current.values.shape[1]
    if not reference.ordered.values.shape[1] or not m:
        reports = [
            FeatureReport(
                kind="number", ks_statistic=None, ks_p=None, psi=None, drifted_ks=is_forced, drifted_psi=is_forced,
                reference=before, current=now,
            )
            for is_forced, (before, now) in zip(forced, descriptions, strict=True)
        ]  # fmt: skip
        return list(zip(reports, found, strict=True))
    statistics = ks_statistics(reference.ordered.values, current.values)
    p_values = ks_p_values(statistics, [effective_size(n, m) for n in reference.n_values])
    counts = [
        bin_counts(row, current.n_missing, bins) for row, bins in zip(current.values, reference.bins, strict=True)
    ]
    psi = [
        index_from_counts(before, now, smoothing=policy.smoothing, floor=policy.psi_floor)
        for before, now in zip(reference.counts, counts, strict=True)
    ]
    for name, p, index in zip(names, p_values, psi, strict=True):
        if math.isnan(p) or math.isnan(index):
            raise UnusableFeatures(f"{name}: its statistics are undefined although both windows hold values")
    spreads = [before.std for before, _ in descriptions]
    apart = _scaled_wasserstein(reference.ordered.finite, current.finite, spreads)
    pictures = number_distributions(reference.ordered.finite, current.finite, spreads=spreads)
    reports = [
        FeatureReport(
            kind="number",
            ks_statistic=statistics[i],
            ks_p=p_values[i],
            psi=psi[i],
            drifted_ks=p_values[i] < policy.ks_p or forced[i],
            drifted_psi=psi[i] >= policy.psi_significant or forced[i],
            reference=before,
            current=now,
            wasserstein=apart[i],
            jensen_shannon=jensen_shannon(reference.counts[i], counts[i]),
            distribution=pictures[i],
        )
        for i, (before, now) in enumerate(descriptions)
    ]
    return list(zip(reports, found, strict=True))


def _scaled_wasserstein(reference: Floats, current: Floats, spreads: Sequence[float | None]) -> list[float | None]:
    """W1 of the finite values in spreads; None without a spread, or where it is beyond the largest float."""
    apart = wasserstein_rows(reference, current)
    scaled = [w / spread if spread else math.nan for w, spread in zip(apart, spreads, strict=True)]
    return [value if math.isfinite(value) else None for value in scaled]


def wasserstein(first: Floats, second: Floats) -> float:
    """Exact W1 of two samples in ascending order, finite, in their own unit; nan where one is empty, not finite
    where their sums are beyond the largest float.
    """
    return wasserstein_rows(first[np.newaxis], second[np.newaxis])[0]


@np.errstate(over="ignore", invalid="ignore")
def wasserstein_rows(first: Floats, second: Floats) -> list[float]:
    """Exact W1 of each feature. first : (f, n)      second : (f, m)      each row ascending

    Where one quantile function is above the other over a whole stretch of u, the integral there is the difference
    of the stretch's sums; only stretches where they may cross are gone through step by step.
    """
    large, small = (first, second) if first.shape[1] >= second.shape[1] else (second, first)
    if not small.shape[1]:
        return [math.nan] * len(small)
    near = np.isfinite(np.maximum(large[:, -1], small[:, -1]) - np.minimum(large[:, 0], small[:, 0]))
    found = np.full(len(near), math.inf)
    if near.all():
        found = _whole_and_stepwise(large, small)
    elif near.any():
        found[near] = _whole_and_stepwise(large[near], small[near])
    apart: list[float] = found.tolist()
    return apart


def _whole_and_stepwise(large: Floats, small: Floats) -> Floats:
    """(f,) of rows whose range is a float."""
    n, m = large.shape[1], small.shape[1]
    # Sums of large levels would cancel; from the middle of the larger sample they are small.
    centre = large[:, n // 2]
    far = np.abs(centre) > _FAR * (large[:, n * 3 // 4] - large[:, n // 4])
    if far.any():
        centre = np.where(far, centre, 0.0)[:, np.newaxis]
        large, small = large - centre, small - centre
    borders = np.append(np.arange(0, m, _STRETCH if m > _WHOLE else 1), m)
    # Stretches [low, high) of u, times n; a border lies within the value `whole` of the larger sample.
    u = borders * (n / m)
    u[-1] = n
    whole = np.minimum(u.astype(np.int64), n - 1)
    at_borders = large[:, whole]
    part = (u - whole) * at_borders
    large_sums = np.add.reduceat(large, whole[:-1], axis=1)
    # reduceat sums [whole, next whole), or one value where both are the same; the last has all that is left.
    large_sums[:, :-1][:, np.diff(whole[:-1]) == 0] = 0.0
    large_sums[:, :-1] += part[:, 1:-1]
    large_sums -= part[:, :-1]
    small_sums = np.add.reduceat(small, borders[:-1], axis=1)
    crossing = (small[:, borders[:-1]] < at_borders[:, 1:]) & (small[:, borders[1:] - 1] > at_borders[:, :-1])
    apart = np.abs(small_sums / m - large_sums / n)
    total = np.asarray(np.sum(apart, axis=1, where=~crossing))
    rows, stretches = np.nonzero(crossing)
    lengths = borders[stretches + 1] - borders[stretches]
    rows, steps = np.repeat(rows, lengths), _ranges(borders[stretches], lengths)
    for start in range(0, len(steps), _STEPS):
        total += _stepwise(large, small, rows[start : start + _STEPS], steps[start : start + _STEPS])
    return total


def _stepwise(large: Floats, small: Floats, rows: Integers, steps: Integers) -> Floats:
    """(f,) the integral over some steps of the smaller sample's quantile function.

    Over a step it is one value y: the sum of |x - y| over the larger sample's values there, by the part of each that
    lies within the step.
    """
    n, m = large.shape[1], small.shape[1]
    low, high = steps * (n / m), np.minimum((steps + 1) * (n / m), n)
    first = np.minimum(low.astype(np.int64), n - 1)
    sizes = np.maximum(np.ceil(high).astype(np.int64), first + 1) - first
    step = np.repeat(np.arange(len(steps)), sizes)
    place = _ranges(first, sizes)
    within = np.minimum(place + 1, high[step]) - np.maximum(place, low[step])
    apart = np.abs(large[rows[step], place] - small[rows, steps][step])
    return np.asarray(np.bincount(rows[step], weights=apart * np.maximum(within, 0.0), minlength=len(large)) / n)


def _ranges(starts: Integers, lengths: Integers) -> Integers:
    """start, start + 1, … of each start, one after another."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths))


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Distance of two count vectors: 0 for equal shares, 1 where they share no bin; nan where one is empty."""
    n_reference, n_current = int(reference.sum()), int(current.sum())
    if not n_reference or not n_current:
        return float("nan")
    # A dozen bins: plain floats are many times faster than a dozen calls of numpy.
    divergence = 0.0
    for before, now in zip(reference.tolist(), current.tolist(), strict=True):
        r, c = before / n_reference, now / n_current
        mean = (r + c) / 2
        divergence += (r * math.log2(r / mean) if r else 0.0) + (c * math.log2(c / mean) if c else 0.0)
    return math.sqrt(max(divergence / 2, 0.0))
