"""A check of the current rows alone, against the profile that a model version carries; pure.

The same report as `detect`'s. PSI has the profile's edges and counts; KS and Wasserstein compare with its grid, whose
D is off by less than 1 / 4096; descriptions and categories are the profile's. Called by the drift stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime
from itertools import groupby

import numpy as np

from mlops.domain.drift.detect import (
    compare_texts,
    conclude,
    duplicate_findings,
    kinds_of,
    schema_findings,
    staleness_findings,
)
from mlops.domain.drift.drift_profile import GRID, CategoryProfile, DriftProfile, NumberProfile
from mlops.domain.drift.frozen_calibration import calibrate_frozen, gap_dates
from mlops.domain.drift.numeric_comparison import Compared, ReferenceBlock, compare_block
from mlops.domain.drift.ordered import OrderedBlock, blocks, ordered_table
from mlops.domain.drift.psi import Bins
from mlops.domain.drift.report import DriftReport, ReferenceUsed
from mlops.domain.drift.weights import Weights
from mlops.domain.errors import EmptyWindow
from mlops.domain.frame import FeatureFrame, Texts
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window


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
            current=current,
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
    compared: dict[str, Compared] = {}
    # Grids are of one length but where few rows were trained on, or many are missing.
    for _, alike in groupby(numbers, key=lambda name: len(numbers[name].grid)):
        names = list(alike)
        grids = np.stack([numbers[name].grid for name in names])
        now = ordered_table([current.numbers[name] for name in names])
        for rows, (grid, column) in blocks(grids, now):
            block = _reference_block(grid, [numbers[name] for name in names[rows]])
            compared |= zip(names[rows], compare_block(names[rows], block, column, policy), strict=True)
    for name, feature in profile.features.items():
        if isinstance(feature, CategoryProfile) and name in current.categories:
            compared[name] = compare_texts(name, _counter(feature), _counted(current.categories[name]), policy)
    return compared


def _reference_block(grid: OrderedBlock, features: Sequence[NumberProfile]) -> ReferenceBlock:
    return ReferenceBlock(
        ordered=grid,
        descriptions=[feature.description for feature in features],
        n_values=[feature.description.n - feature.description.n_missing for feature in features],
        bins=[Bins(edges=feature.edges) for feature in features],
        counts=[feature.counts for feature in features],
    )


def _counter(feature: CategoryProfile) -> Counter[str | None]:
    named: dict[str | None, int] = dict(zip(feature.categories, feature.counts[:-1].tolist(), strict=True))
    return Counter(named | ({None: int(feature.counts[-1])} if feature.counts[-1] else {}))


def _counted(texts: Texts) -> Counter[str | None]:
    return Counter(texts.tolist())
