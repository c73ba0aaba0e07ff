"""Whether each feature has drifted by PSI, for many current windows against one reference; pure.

The share that the raw rule counts, as `detect` finds it, without what only a report needs. Called by `selftest`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mlops.domain.drift.categorical import compare_counts
from mlops.domain.drift.description import Description, describe
from mlops.domain.drift.findings import category_findings, is_without_information, numeric_findings
from mlops.domain.drift.ordered import OrderedColumn, ordered_column
from mlops.domain.drift.psi import Bins, Counts, bin_counts, index_from_counts, quantile_bins
from mlops.domain.frame import FeatureFrame, Floats, Texts
from mlops.domain.policies import DriftPolicy


@dataclass(frozen=True, kw_only=True)
class _Column:
    """One number of the reference, looked at once."""

    ordered: OrderedColumn
    description: Description
    bins: Bins | None
    """None where it holds no value"""
    counts: Counts | None


class PsiReference:
    """A reference window, ready to be compared with."""

    def __init__(self, reference: FeatureFrame, policy: DriftPolicy) -> None:
        self._policy = policy
        self._texts = {name: Counter(values.tolist()) for name, values in reference.categories.items()}
        self._numbers: Mapping[str, _Column] = {name: self._column(v) for name, v in reference.numbers.items()}

    def drifted(self, current: FeatureFrame) -> dict[str, bool]:
        """Of each feature that is in both windows, less those that hold one value, or none, in both."""
        numbers = {
            name: self._number(name, self._numbers[name], values)
            for name, values in current.numbers.items()
            if name in self._numbers
        }
        texts = {name: self._text(name, values) for name, values in current.categories.items() if name in self._texts}
        found = {**numbers, **texts}
        counted = {name: drifted for name, drifted in found.items() if drifted is not None}
        return counted or dict.fromkeys(found, False)

    def _column(self, values: Floats) -> _Column:
        ordered = ordered_column(values)
        bins = quantile_bins(ordered.values, bins=self._policy.bins) if len(ordered.values) else None
        counts = bin_counts(ordered.values, ordered.n_missing, bins) if bins else None
        return _Column(ordered=ordered, description=describe(ordered), bins=bins, counts=counts)

    def _number(self, name: str, before: _Column, values: Floats) -> bool | None:
        now = ordered_column(values)
        found = numeric_findings(name, before.description, describe(now), alpha=self._policy.ks_p)
        if any(finding.is_drift for finding in found):
            return True
        if is_without_information(found):
            return None
        if before.bins is None or before.counts is None or not len(now.values):
            return False
        counts = bin_counts(now.values, now.n_missing, before.bins)
        psi = index_from_counts(before.counts, counts, smoothing=self._policy.smoothing, floor=self._policy.psi_floor)
        return psi >= self._policy.psi_significant

    def _text(self, name: str, values: Texts) -> bool | None:
        before, now = self._texts[name], Counter(values.tolist())
        drift = compare_counts(before, now)
        found = category_findings(name, before, now, unseen=drift.unseen, alpha=self._policy.ks_p)
        if is_without_information(found):
            return None
        return drift.psi >= self._policy.psi_significant or any(finding.is_drift for finding in found)
