"""A check of the current rows alone, against the profile that a model version carries; pure.

The same report as `detect`'s. PSI has the profile's edges and counts; KS and Wasserstein compare with its grid, whose
D is off by less than 1 / 4096; descriptions and categories are the profile's. Called by the drift stage.
"""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mlops.drift_detection.description import OrderedColumn, describe, finite, ordered_columns
from mlops.drift_detection.detect import (
    compare_texts,
    conclude,
    duplicate_findings,
    kinds_of,
    schema_findings,
    staleness_findings,
)
from mlops.drift_detection.distances import jensen_shannon
from mlops.drift_detection.distributions import number_distribution
from mlops.drift_detection.drift_profile import GRID, CategoryProfile, DriftProfile, NumberProfile
from mlops.drift_detection.findings import Finding, numeric_findings
from mlops.drift_detection.frozen_calibration import calibrate_frozen, gap_dates
from mlops.drift_detection.ks import ks_p_value, ks_statistic
from mlops.drift_detection.psi import Bins, bin_counts, index_from_counts
from mlops.drift_detection.report import DriftReport, FeatureReport, ReferenceUsed
from mlops.drift_detection.weights import Weights
from mlops.errors import EmptyWindow
from mlops.features.frame import FeatureFrame, Floats, Texts
from mlops.ports import Window
from mlops.strategies import DriftPolicy

Integers = npt.NDArray[np.int64]
Compared = tuple[FeatureReport, list[Finding]]


def detect_drift_from_profile(  # noqa: PLR0913 -- what a report states of its check, each by keyword
    profile: DriftProfile,
    current: FeatureFrame,
    policy: DriftPolicy,
    *,
    as_of: date,
    current_window: Window,
    timestamp: datetime,
    min_current_rows: int = 100,
    used: ReferenceUsed,
    weights: Weights | None = None,
) -> DriftReport:
    """The report of a check. `used` names the version that the profile is of; `weights` as for `detect_drift`.

    Raises EmptyWindow without current rows, UnusableFeatures when no feature holds a value.
    """
    if current.n_rows == 0:
        raise EmptyWindow(f"the current window of {profile.strategy!r} holds no rows")
    frozen = replace(policy, bins=profile.bins)
    findings = schema_findings({name: feature.kind for name, feature in profile.features.items()}, kinds_of(current))
    findings += duplicate_findings(current, "current") + staleness_findings(current, as_of)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="drift") as pool:
        # Mostly long numpy calls, beside the statistics, which are mostly Python.
        calibration = pool.submit(
            calibrate_frozen,
            profile,
            current,
            current_start=current_window.start,
            alpha=policy.alpha,
            min_days=policy.min_calibration_days,
            owner=f"version {used.model_version}",
            weights=weights,
        )
        compared = _compare(profile, current, frozen)
        return conclude(
            compared,
            findings,
            calibration.result(),
            frozen,
            strategy=profile.strategy,
            as_of=as_of,
            timestamp=timestamp,
            reference_window=profile.trained,
            current_window=current_window,
            n_reference=profile.n_rows,
            n_current=current.n_rows,
            min_current_rows=min_current_rows,
            reference=replace(
                used,
                used="champion",
                schema_hash=profile.schema_hash,
                gap_dates=gap_dates(profile, current_window.start),
                ks_grid=GRID,
            ),
            weights=weights,
        )


def _compare(profile: DriftProfile, current: FeatureFrame, policy: DriftPolicy) -> dict[str, Compared]:
    numbers = {
        name: feature
        for name, feature in profile.features.items()
        if isinstance(feature, NumberProfile) and name in current.numbers
    }
    columns = ordered_columns([current.numbers[name] for name in numbers]) if numbers else []
    compared = {
        name: _number(name, feature, column, policy)
        for (name, feature), column in zip(numbers.items(), columns, strict=True)
    }
    for name, feature in profile.features.items():
        if isinstance(feature, CategoryProfile) and name in current.categories:
            compared[name] = compare_texts(name, _counter(feature), _counted(current.categories[name]), policy)
    return compared


def _number(name: str, feature: NumberProfile, column: OrderedColumn, policy: DriftPolicy) -> Compared:
    before, now = feature.description, describe(column)
    found = numeric_findings(name, before, now, alpha=policy.ks_p)
    forced = any(finding.is_drift for finding in found)
    if not len(feature.grid) or not len(column.values):
        return FeatureReport(
            kind="number", ks_statistic=None, ks_p=None, psi=None, drifted_ks=forced, drifted_psi=forced,
            reference=before, current=now,
        ), found  # fmt: skip
    n, m = before.n - before.n_missing, len(column.values)
    statistic = ks_statistic(feature.grid, column.values)
    p = ks_p_value(statistic, round(n * m / (n + m)))
    counts = bin_counts(column.values, column.n_missing, Bins(edges=feature.edges))
    psi = index_from_counts(feature.counts, counts, smoothing=policy.smoothing, floor=policy.psi_floor)
    grid = OrderedColumn(values=feature.grid, n_missing=0)
    report = FeatureReport(
        kind="number",
        ks_statistic=statistic,
        ks_p=p,
        psi=psi,
        drifted_ks=p < policy.ks_p or forced,
        drifted_psi=psi >= policy.psi_significant or forced,
        reference=before,
        current=now,
        wasserstein=_scaled_wasserstein(finite(grid), finite(column), before.std),
        jensen_shannon=jensen_shannon(feature.counts, counts),
        distribution=number_distribution(finite(grid), finite(column), spread=before.std),
    )
    return report, found


def _scaled_wasserstein(first: Floats, second: Floats, spread: float | None) -> float | None:
    """Exact W1 in `spread`s; None without a spread, without values, or beyond the largest float.

    Many features have as many values, so what depends on the numbers of values alone is worked out once.
    """
    if not spread or not len(first) or not len(second):
        return None
    of_first, of_second, widths = _coupling(len(first), len(second))
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = float(np.abs(first[of_first] - second[of_second]) @ widths) / spread
    return scaled if math.isfinite(scaled) else None


@lru_cache(maxsize=64)
def _coupling(n: int, m: int) -> tuple[Integers, Integers, Floats]:
    """Which order statistics two samples have between the borders of both quantile functions, and how far apart those
    borders are.
    """
    borders = np.union1d(np.arange(1, n + 1, dtype=np.int64) * m, np.arange(1, m + 1, dtype=np.int64) * n)
    return (borders - 1) // m, (borders - 1) // n, np.diff(borders, prepend=0) / (n * m)


def _counter(feature: CategoryProfile) -> Counter[str | None]:
    named: dict[str | None, int] = dict(zip(feature.categories, feature.counts[:-1].tolist(), strict=True))
    return Counter(named | ({None: int(feature.counts[-1])} if feature.counts[-1] else {}))


def _counted(texts: Texts) -> Counter[str | None]:
    return Counter(texts.tolist())
