"""One strategy's whole story under one axis: champions, trainings and decisions, drift checks, live performance."""

from __future__ import annotations

from starlette.responses import Response

from admin.pages import Pages
from admin.pictures.axes import ValueAxis
from admin.pictures.live_performance import (
    MEASURED_WINDOW,
    METRICS,
    WINDOW,
    scores_by_version,
    series_within,
    value_axis,
)
from admin.pictures.story import DataClock, Days, axis_of, champion_bands, check_bars, marks
from admin.request_context import Context
from mlops.domain.live.headline import decayed_on
from mlops.domain.live.rolling import LiveMetric
from mlops.domain.records import Kind

pages = Pages()

MOST_CHECKS, MOST_RUNS, MOST_DECISIONS = 2_000, 2_000, 1_000
"""Most checks, runs and decisions of a story, the newest: some years of daily checks."""
NEWEST = 40
"""Lines of the table below the pictures."""
_KINDS = (Kind.TRAIN, Kind.RETRAIN, Kind.PIPELINE, Kind.PROMOTE, Kind.ROLLBACK)


@pages.get("/strategies/{strategy}", action="strategy.read")
def story(context: Context, strategy: str, days: Days = "365", metric: LiveMetric = "roc_auc") -> Response:
    """Raises UnknownStrategy."""
    found = context.services.strategies[strategy]
    ledger = context.ledger
    standing = ledger.standings([strategy])[strategy]
    checks = ledger.recent_checks([strategy], limit=MOST_CHECKS).get(strategy, [])
    runs = ledger.run_lines(strategy=strategy, kinds=_KINDS, limit=MOST_RUNS)
    decisions = ledger.decisions(strategy=strategy, limit=MOST_DECISIONS)[::-1]
    clock = DataClock(
        [(check.checked_at, check.as_of) for check in checks if check.as_of]
        + [(run.created_at, run.as_of) for run in runs if run.as_of]
    )
    champion = standing.champion.version if standing.champion else None
    bands = champion_bands(decisions, champion, clock)
    events = marks(runs, decisions, clock)
    by_version = scores_by_version(ledger.live_days(strategy))
    known = [
        *(day for scores in by_version.values() for day in scores),
        *(check.as_of for check in checks if check.as_of),
        *(mark.day for mark in events),
    ]
    axis = axis_of(days, known, context.services.feature_day())
    line = ledger.live_lines([strategy]).get(strategy)
    series = series_within(by_version, axis, metric=metric, horizon_dates=found.training.horizon_dates)
    return context.show(
        "strategy.html",
        title=f"Story of {strategy}",
        strategy=strategy,
        description=found.description,
        days=days,
        axis=axis,
        champions=[band for band in bands if band.last is None or band.last >= axis.first],
        marks=[mark for mark in events if axis.has(mark.day)],
        checks=check_bars(check for check in checks if check.as_of and axis.has(check.as_of)),
        shares=ValueAxis(low=0.0, high=1.0),
        metric=metric,
        metrics=dict(METRICS),
        windows={"curve": WINDOW, "measured": MEASURED_WINDOW},
        series=series,
        values=value_axis(series),
        decayed=decayed_on(line.headline, champion) if line else None,
        promotions=[band for band in bands if axis.has(band.first)],
        predicted_to=ledger.predicted_to([strategy]).get(strategy),
        newest=[mark for mark in reversed(events) if mark.day >= axis.first][:NEWEST],
        open_runs=[run for run in ledger.open_runs() if run.strategy == strategy],
        experiment=ledger.running_experiment(strategy),
        standing=standing,
    )
