"""A check of the current rows alone, against the profile that a model version carries; pure.

The same report as `detect`'s. PSI has the profile's edges and counts; KS and Wasserstein compare with its grid, whose
D is off by less than 1 / 4096; descriptions and categories are the profile's. Called by the drift stage.

How unusual the check's distance from the profile is, is ranked among earlier placements as far from their reference:

    … | reference: the r dates that were trained on | g dates | current (k dates) |          the check
      [ r dates ][ g dates ][ k dates ]                                                      placement 1
        [ r dates ][ g dates ][ k dates ]                                                    placement 2 …

What the dates looked like drifts with the time between them, so every placement has the check's own g; it grows as the
champion ages, and fewer placements are left. Distance, statistic and p are those of `calibration`; cells and the
overall spread are the profile's, so the placements do not depend on the current rows. All features go through each
step together, in blocks that stay in the cache. Why so: docs/decisions/0018.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import groupby

import numpy as np

from mlops.domain.drift.calibration import (
    LEAST_BLOCKS,
    Calibration,
    are_enough,
    covered_enough,
    insufficient,
    least_placements,
    ranked,
)
from mlops.domain.drift.detect import (
    compare_texts,
    conclude,
    duplicate_findings,
    kinds_of,
    schema_findings,
    staleness_findings,
)
from mlops.domain.drift.numeric import Compared, ReferenceBlock, compare_block
from mlops.domain.drift.ordered import OrderedBlock, blocks, ordered_table
from mlops.domain.drift.placements import (
    MISSING,
    Dates,
    Singles,
    category_distances,
    dates_of,
    number_distances,
    padded,
    rows_kept,
    suffixes,
)
from mlops.domain.drift.psi import Bins
from mlops.domain.drift.references.training_profile import (
    GRID,
    CategoryProfile,
    DriftProfile,
    NumberProfile,
    category_cells,
    number_cells,
)
from mlops.domain.drift.report import DriftReport, ReferenceUsed
from mlops.domain.drift.weights import Weights
from mlops.domain.errors import EmptyWindow
from mlops.domain.frame import FeatureFrame, Floats, Texts
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window

#: Features that go through a step together: 4 x 500 placements x 65 cells in single precision are 520 KB.
_AT_ONCE = 8


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
    """Check current rows against a profile and report.

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
        ordered = ordered_table([current.numbers[name] for name in names])
        for rows, (grid, column) in blocks(grids, ordered):
            block = _reference_block(grid, [numbers[name] for name in names[rows]])
            compared |= zip(names[rows], compare_block(names[rows], block, column, policy), strict=True)
    for name, feature in profile.features.items():
        if isinstance(feature, CategoryProfile) and name in current.categories:
            compared[name] = compare_texts(
                name, category_counter(feature), text_counts(current.categories[name]), policy
            )
    return compared


def _reference_block(grid: OrderedBlock, features: Sequence[NumberProfile]) -> ReferenceBlock:
    return ReferenceBlock(
        ordered=grid,
        descriptions=[feature.description for feature in features],
        n_values=[feature.description.n - feature.description.n_missing for feature in features],
        bins=[Bins(edges=feature.edges) for feature in features],
        counts=[feature.counts for feature in features],
    )


def category_counter(feature: CategoryProfile) -> Counter[str | None]:
    """Trained rows of each category; None: missing."""
    named: dict[str | None, int] = dict(zip(feature.categories, feature.counts[:-1].tolist(), strict=True))
    return Counter(named | ({None: int(feature.counts[-1])} if feature.counts[-1] else {}))


def text_counts(texts: Texts) -> Counter[str | None]:
    """Rows of each text; None: missing."""
    return Counter(texts.tolist())


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Positions of the placements' windows in the profile's dates."""

    first: int
    """First date of the check's own reference"""
    r: int
    g: int
    k: int
    n: int
    """Placements; the first one's reference begins with the profile's first date"""

    def reference(self, upto: Singles) -> Singles:
        """(…, placements + 1) of the references. upto : (…, dates + 1) up to each date"""
        found = np.empty((*upto.shape[:-1], self.n + 1), dtype=upto.dtype)
        np.subtract(upto[..., self.r : self.r + self.n], upto[..., : self.n], out=found[..., :-1])
        np.subtract(upto[..., self.first + self.r], upto[..., self.first], out=found[..., -1])
        return found

    def newest(self, upto: Singles, now: Singles) -> Iterator[Singles]:
        """(…, placements + 1) of the newest 1, 2, 4, … dates. now : (…, of each) the check's own"""
        end = self.r + self.g + self.k
        for i, length in enumerate(suffixes(self.k)):
            found = np.empty((*upto.shape[:-1], self.n + 1), dtype=upto.dtype)
            before = upto[..., end - length : end - length + self.n]
            np.subtract(upto[..., end : end + self.n], before, out=found[..., :-1])
            found[..., -1] = now[..., i]
            yield found


def gap_dates(profile: DriftProfile, current_start: date) -> int:
    """Number of dates between the reference's last and the current window's first.

    The profile's own are counted; later ones are as dense as those, since no row of them is read.
    """
    after = profile.first_trained + profile.n_trained
    known = int(np.searchsorted(profile.dates, np.datetime64(current_start, "D"), side="right")) - after
    later = (current_start - profile.dates[-1].astype(object)).days
    span = (profile.dates[-1] - profile.dates[0]).astype(int)
    return max(known, 0) + (round(later * (len(profile.dates) - 1) / span) if later > 0 and span else 0)


def calibrate_frozen(
    profile: DriftProfile,
    current: FeatureFrame,
    *,
    current_start: date,
    alpha: float,
    min_days: int,
    owner: str,
    weights: Weights | None = None,
) -> Calibration:
    """Rank the check's distance from the profile. `current_start`: the current window's first date is after it.

    `owner` is how the message about too few placements names the version.
    """
    first = profile.dates[0].astype(object)
    if current.dates is None:
        return insufficient(alpha, "the rows carry no dates: read the column `date` with the features")
    days = np.unique(dates_of(current))
    k, r, g = len(days), profile.n_trained, gap_dates(profile, current_start)
    # Nothing from the current window on: a break is not compared with itself.
    n_dates = int(np.searchsorted(profile.dates, np.datetime64(current_start, "D"), side="right"))
    n_placements = max(0, n_dates - r - g - k + 1)
    covered = (profile.trained.start - first).days
    shortfall = None
    if not covered_enough(covered, min_days):
        shortfall = (
            f"the profile of {owner} reaches {covered} days before the dates that were trained on; a calibrated "
            f"verdict needs {min_days}: load earlier features and retrain"
        )
    elif not are_enough(n_placements, n_placements // k, alpha=alpha):
        shortfall = (
            f"{owner} is {(current_start - profile.trained.end).days} days past the dates that it was trained on: its "
            f"profile leaves {n_placements} places for windows {g} dates apart, {n_placements // k} without a common "
            f"date; a calibrated verdict needs {least_placements(alpha)} and {LEAST_BLOCKS}: retrain, or use the "
            f"trailing reference"
        )
    if shortfall:
        return insufficient(alpha, shortfall, n_dates=n_dates, n_placements=n_placements, first=first)
    numbers = [name for name in current.numbers if isinstance(profile.features.get(name), NumberProfile)]
    texts = [name for name in current.categories if isinstance(profile.features.get(name), CategoryProfile)]
    place = {name: i for i, name in enumerate(profile.features)}
    now = _current_counts(profile, current, days, [*numbers, *texts])
    starts = range(0, len(numbers), _AT_ONCE)
    places = _Places(first=profile.first_trained, r=r, g=g, k=k, n=n_placements)

    def block(start: int) -> Singles:
        part = slice(start, start + _AT_ONCE)
        names = numbers[part]
        upto = profile.upto[_run([place[name] for name in names])]
        middles = np.stack([_middles(profile, name) for name in names])
        newest = places.newest(upto, now[: len(numbers)][part])
        return number_distances(places.reference(upto), newest, upto[:, :, -1], middles)

    def category(i: int) -> Singles:
        upto = profile.upto[place[texts[i]]]
        return category_distances(places.reference(upto), places.newest(upto, now[len(numbers) + i]))

    found = [row for start in starts for row in block(start)] + [category(i) for i in range(len(texts))]
    ends = np.arange(r + g + k, r + g + k + n_placements)
    return ranked(
        {name: row.astype(np.float64) for name, row in zip([*numbers, *texts], found, strict=True)},
        last_dates=profile.dates[ends - 1],
        k=k,
        alpha=alpha,
        n_dates=n_dates,
        first=first,
        weights=weights,
    )


def _current_counts(profile: DriftProfile, current: FeatureFrame, days: Dates, names: Sequence[str]) -> Singles:
    """(features, CELLS + 1, suffixes) counts of the newest 1, 2, 4, … dates, of numbers added up over the cells."""
    dates = dates_of(current)
    kept = rows_kept(dates, tickers=current.tickers)
    day = np.searchsorted(days, dates[kept])
    counts = np.empty((len(names), len(days), MISSING + 1), dtype=np.float32)
    for out, name in zip(counts, names, strict=True):
        feature = profile.features[name]
        if isinstance(feature, NumberProfile):
            cells = number_cells(current.numbers[name][kept], feature)
        else:
            cells = category_cells(current.categories[name][kept], feature)
        flat = np.bincount(day * (MISSING + 1) + cells, minlength=len(days) * (MISSING + 1))
        out[:] = flat.reshape(len(days), MISSING + 1)
        if isinstance(feature, NumberProfile):
            np.cumsum(out[:, :MISSING], axis=1, out=out[:, :MISSING])
    newest = np.cumsum(counts[:, ::-1], axis=1)
    return np.asarray(newest[:, [n - 1 for n in suffixes(len(days))]].swapaxes(1, 2))


def _run(places: list[int]) -> slice | list[int]:
    """Return neighbouring places as a slice, which copies nothing."""
    is_run = places == list(range(places[0], places[0] + len(places)))
    return slice(places[0], places[0] + len(places)) if is_run else places


def _middles(profile: DriftProfile, name: str) -> Floats:
    feature = profile.features[name]
    return padded(feature.middles) if isinstance(feature, NumberProfile) else np.zeros(MISSING)
