"""Rate of a policy's alarms on the strategy's own past: as it was, and with a planted change of known size; pure.

A placebo is a check of a past date as if it were today: same windows, same rules, same code. A change is planted
in its current window alone:

    mean    x + size · standard deviation of the reference, in all features, in half of them, or in one
    scale   mean + (x - mean) · (1 + size), in all features; mean: of the current window

Features that are constant in the reference, and texts, have nothing to move and stay as they are. Persistence and
cooldown play no part: a check is looked at alone. Called by `acis selftest`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np

from lab.placebos import Fired, PlaceboCheck, Rate, disjoint_checks, moved, rate_of, spreads_of, widened
from mlops.domain.drift.weights import Weights
from mlops.domain.errors import ConfigurationError, EmptyWindow
from mlops.domain.frame import FeatureFrame, feature_frame
from mlops.domain.panel import counted_dates
from mlops.domain.policies import Strategy
from mlops.domain.ports import FeatureSource, Window
from mlops.stages.drift_windows import columns_read

if TYPE_CHECKING:
    from mlops.features.price_universes import GivenPrices

# ---- The whole history of a strategy's features as a frame: from the feature source, or computed from a file of prices

#: More values than this are not held in memory (1.6 GB).
_MOST_VALUES = 200_000_000


def source_history(source: FeatureSource, strategy: Strategy, *, since: date | None = None) -> FeatureFrame:
    """All its rows from `since` on of dates that count, ascending.

    Raises EmptyWindow, MissingColumn, SourceUnavailable; ConfigurationError where they are too many to hold.
    """
    features, _ = columns_read(source.columns(), strategy)
    newest = source.latest_date(strategy.name)
    if newest is None or (since is not None and since > newest):
        rows = f"its newest row is of {newest}" if newest else "it has none at all"
        asked = f" from {since} on" if since else ""
        raise EmptyWindow(f"strategy {strategy.name!r} has no rows{asked}: {rows}; load its features")
    start = since - timedelta(days=1) if since is not None else date.min
    window = Window(start=start, end=newest)
    counted = counted_dates(source, strategy.name, window, min_share=strategy.data.min_date_share)
    n_rows = counted.count(strategy.name, window)
    if n_rows * len(features) > _MOST_VALUES:
        raise ConfigurationError(
            f"strategy {strategy.name!r} has {n_rows:,} rows of {len(features)} features, more than can be held; "
            f"give --since DATE for the newer part"
        )
    return feature_frame(counted.read(strategy.name, window, ["ticker", "date", *features]), features).held()


def price_history(strategy: Strategy, given: GivenPrices, *, since: date | None = None) -> FeatureFrame:
    """The sample's features of a file's prices: of the strategy's members, or of all names where none are given.

    Raises EmptyWindow where the members file does not hold the strategy, or no member has a row.
    """
    import pandas as pd  # noqa: PLC0415 -- for this source alone
    import pyarrow as pa  # noqa: PLC0415

    from mlops.features.price_universes import feature_rows  # noqa: PLC0415

    close = given.close
    universes = {strategy.name: close.notna()} if given.universes is None else given.universes
    if strategy.name not in universes:
        known = ", ".join(sorted(universes)) or "(none)"
        raise EmptyWindow(
            f"the members file has no members of {strategy.name!r} that {given.path} has prices of; one of: {known}"
        )
    rows = feature_rows(close, {strategy.name: universes[strategy.name]})[strategy.name]
    if rows.empty:
        raise EmptyWindow(
            f"{given.path} gives no row of {strategy.name!r}: a ticker's first one needs about a year of prices"
        )
    ordered = rows.sort_values(["date", "ticker"], kind="stable")
    features = [name for name in ordered.columns if name not in ("date", "ticker")]
    if since is not None:
        ordered = ordered[ordered["date"] >= pd.Timestamp(since)]
    table = pa.Table.from_pandas(ordered.assign(date=pd.to_datetime(ordered["date"]).dt.date), preserve_index=False)
    return feature_frame(table, features).held()


Change = Literal["mean", "scale"]
Where = Literal["all", "half", "one"]
Curve = tuple[Change, Where]

#: What is planted, each in every size.
CURVES: tuple[Curve, ...] = (("mean", "all"), ("mean", "half"), ("mean", "one"), ("scale", "all"))
#: The power at which a shift counts as seen.
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class PowerPoint:
    """Rate of alarms with one change planted; size 0: with none."""

    change: Change
    where: Where
    size: float
    calibrated: Rate
    raw: Rate


@dataclass(frozen=True, kw_only=True)
class SmallestShift:
    """Smallest size from which a curve is at POWER, interpolated between sizes. None: beyond the largest one."""

    change: Change
    where: Where
    calibrated: float | None
    raw: float | None


@dataclass(frozen=True, kw_only=True)
class Selftest:
    """Results of the placebo checks."""

    strategy: str
    rule: str
    """Rule in force"""
    alpha: float
    alert_share: float
    first: date
    """Number of placebos"""
    last: date
    n_placebos: int
    n_disjoint: int
    """Placebos that share no date: the intervals take them for as many independent looks"""
    n_insufficient: int
    insufficient_reason: str | None
    """Verdict of the first of them"""
    calibrated: Rate
    """Alarms with nothing planted: those of drift that the past really had, too, so the false ones are no more."""
    raw: Rate
    points: tuple[PowerPoint, ...]
    smallest: tuple[SmallestShift, ...]


def selftest(
    strategy: Strategy,
    past: FeatureFrame,
    placebos: Sequence[date],
    *,
    sizes: Sequence[float],
    rng: np.random.Generator,
    weights: Weights | None = None,
    track: Callable[[Iterable[date]], Iterable[date]] = iter,
) -> Selftest:
    """Check every placebo, once as it was and once with each change of each size.

    past : all rows with their dates, ascending      sizes : ascending, above 0
    `rng` chooses which features half and one are, per placebo. `weights`: of the
    features, where they do not count alike. `track` may show progress.
    """
    plain: list[Fired] = []
    planted: dict[tuple[Curve, float], list[Fired]] = {key: [] for key in itertools.product(CURVES, sizes)}
    for day in track(placebos):
        fired, by_change = _placebo(strategy, past, day, sizes=sizes, rng=rng, weights=weights)
        plain.append(fired)
        for key, found in by_change.items():
            planted[key].append(found)
    n = disjoint_checks(placebos, strategy.data)
    rates = {key: _rates(found, n) for key, found in planted.items()}
    none = _rates(plain, n)
    insufficient = [fired for fired in plain if fired.calibrated == "insufficient"]
    return Selftest(
        strategy=strategy.name,
        rule=strategy.drift.rule,
        alpha=strategy.drift.alpha,
        alert_share=strategy.drift.alert_share,
        first=min(placebos),
        last=max(placebos),
        n_placebos=len(plain),
        n_disjoint=n,
        n_insufficient=len(insufficient),
        insufficient_reason=insufficient[0].reason if insufficient else None,
        calibrated=none[0],
        raw=none[1],
        points=tuple(
            PowerPoint(change=curve[0], where=curve[1], size=size, calibrated=pair[0], raw=pair[1])
            for (curve, size), pair in rates.items()
        ),
        smallest=tuple(
            SmallestShift(
                change=curve[0],
                where=curve[1],
                calibrated=_reached(sizes, [none[0].share, *(rates[curve, size][0].share for size in sizes)]),
                raw=_reached(sizes, [none[1].share, *(rates[curve, size][1].share for size in sizes)]),
            )
            for curve in CURVES
        ),
    )


def _placebo(
    strategy: Strategy,
    past: FeatureFrame,
    day: date,
    *,
    sizes: Sequence[float],
    rng: np.random.Generator,
    weights: Weights | None,
) -> tuple[Fired, dict[tuple[Curve, float], Fired]]:
    check = PlaceboCheck(past, day, data=strategy.data, drift=strategy.drift, weights=weights)
    spreads = spreads_of(check.reference)
    order = [str(name) for name in rng.permutation(sorted(spreads))]
    which: dict[Where, list[str]] = {"all": order, "half": order[: math.ceil(len(order) / 2)], "one": order[:1]}
    found: dict[tuple[Curve, float], Fired] = {}
    for size in sizes:
        frames: dict[Change, FeatureFrame] = {
            "mean": moved(check.current, {name: size * spread for name, spread in spreads.items()}),
            "scale": widened(check.current, spreads, 1 + size),
        }
        for change, frame in frames.items():
            distances, drifted = check.distances(frame), check.psi.drifted(frame)
            for where, names in which.items():
                if (change, where) in CURVES:
                    found[(change, where), size] = check.fired(
                        {name: distances[name] for name in names if name in distances},
                        {name: drifted[name] for name in names},
                    )
    return check.fired({}, {}), found


def _rates(fired: Sequence[Fired], n: int) -> tuple[Rate, Rate]:
    """Rates of the calibrated and of the raw rule. `insufficient` did not fire."""
    total = len(fired)
    calibrated = sum(one.calibrated == "drifted" for one in fired) / total
    raw = sum(one.raw == "drifted" for one in fired) / total
    return rate_of(calibrated, n), rate_of(raw, n)


def _reached(sizes: Sequence[float], shares: Sequence[float]) -> float | None:
    """The first size, 0 included, from which on a straight line between the shares is at POWER."""
    points = list(zip([0.0, *sizes], shares, strict=True))
    if shares[0] >= POWER:
        return 0.0
    for (low, before), (high, after) in itertools.pairwise(points):
        if after >= POWER:
            return low + (high - low) * (POWER - before) / (after - before)
    return None
