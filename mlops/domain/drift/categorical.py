"""Drift of a categorical feature: chi-square of homogeneity, PSI over categories, unseen categories; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2_contingency

from mlops.domain.drift.psi import index_from_counts


@dataclass(frozen=True, kw_only=True)
class CategoricalDrift:
    """Drift of one categorical feature, missing values counted as a category of their own."""

    chi_square: float
    p_value: float
    """1 where both windows hold one and the same category: nothing differs."""
    psi: float
    unseen: tuple[str, ...]
    """Categories of the current window that the reference never had."""
    names: tuple[str | None, ...]
    """All categories of both windows; None for missing values"""
    counts: npt.NDArray[np.int64]
    """(2, c) rows of each: of the reference, of the current window"""


def compare_categories(reference: npt.NDArray[np.object_], current: npt.NDArray[np.object_]) -> CategoricalDrift:
    """Compare both windows of one feature. reference : (n,) text or None      current : (m,) text or None."""
    return compare_counts(Counter(reference.tolist()), Counter(current.tolist()))


def compare_counts(ref: Counter[str | None], cur: Counter[str | None]) -> CategoricalDrift:
    """Compare both windows by their rows per category; None: missing."""
    names = sorted({*ref, *cur}, key=lambda name: (name is None, str(name)))
    table = np.array([[ref[name] for name in names], [cur[name] for name in names]], dtype=np.int64)
    unseen = tuple(str(name) for name in names if name is not None and not ref[name])
    if len(names) < 2:
        return CategoricalDrift(chi_square=0.0, p_value=1.0, psi=0.0, unseen=unseen, names=tuple(names), counts=table)
    result = chi2_contingency(table, correction=False)
    return CategoricalDrift(
        chi_square=float(result.statistic),
        p_value=float(result.pvalue),
        psi=index_from_counts(table[0], table[1]),
        unseen=unseen,
        names=tuple(names),
        counts=table,
    )
