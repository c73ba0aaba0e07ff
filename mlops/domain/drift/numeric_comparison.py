"""Statistics and findings of numeric features, a block of them at a time; pure.

The reference is a window's values, or a frozen profile's grid with what it knows beside. Called by `detect` and
`frozen`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlops.domain.drift.description import Description, describe_block
from mlops.domain.drift.distances import jensen_shannon, wasserstein_rows
from mlops.domain.drift.distributions import number_distributions
from mlops.domain.drift.findings import Finding, numeric_findings
from mlops.domain.drift.ks import effective_size, ks_p_values, ks_statistics
from mlops.domain.drift.ordered import Floats, OrderedBlock
from mlops.domain.drift.psi import Bins, Counts, bin_counts, index_from_counts, quantile_bins_of_rows
from mlops.domain.drift.report import FeatureReport
from mlops.domain.errors import UnusableFeatures
from mlops.domain.policies import DriftPolicy

Compared = tuple[FeatureReport, list[Finding]]


@dataclass(frozen=True, kw_only=True)
class ReferenceBlock:
    """The reference of f features, as much of each as the others'."""

    ordered: OrderedBlock
    descriptions: Sequence[Description]
    n_values: Sequence[int]
    """That are behind each row; infinities too, missing ones not"""
    bins: Sequence[Bins]
    """Of PSI; for no feature where there is no value"""
    counts: Sequence[Counts]


def sample_block(ordered: OrderedBlock, *, bins: int) -> ReferenceBlock:
    """A reference window of which every value is there."""
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
    """Each feature's report and findings; names : f of them.

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
