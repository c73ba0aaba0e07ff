"""Live performance: what the champions' predictions were worth, of all strategies and of one; predict and score now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from starlette.responses import Response

from admin.listing import shown_strategies
from admin.pages import Pages
from admin.pictures.axes import ValueAxis, around
from admin.pictures.live_performance import (
    MEASURED_WINDOW,
    METRICS,
    WINDOW,
    last_ripe,
    outcome_bars,
    performance_of,
    score_of,
    scores_by_version,
    series_within,
    served,
    value_axis,
    version_line,
    version_number,
    wealth_points,
    without_outcome,
)
from admin.pictures.story import DataClock, Days, axis_of, champion_bands
from admin.request_context import Context, RequestContext
from mlops.domain.live import headline as headlines
from mlops.domain.live.estimate import check_estimates, estimate_performance
from mlops.domain.live.rolling import LiveMetric
from mlops.domain.records import Kind
from mlops.strategies.book import Unfit
from tasks import dispatch

if TYPE_CHECKING:
    from mlops.domain.records import Accepted
    from mlops.ledger.live.watermarks import Watermark
    from mlops.ledger.queries.live import LiveLine
    from mlops.ledger.queries.strategy_status import OpenRun

pages = Pages()

Show = Literal["", "predicting", "not predicting", "without outcomes", "decayed", "late", "running"]
_KINDS = (Kind.PREDICT, Kind.SCORE)


@dataclass(frozen=True, kw_only=True)
class LiveRow:
    """A strategy in the table."""

    strategy: str
    champion: str | None
    predicts: bool
    """Whether its policy lets the champion predict each date."""
    predicted_to: date | None
    """The newest predicted date."""
    line: LiveLine | None
    """The newest scoring; None: there is none."""
    late: Watermark | None
    """The features that are late; None: none are."""
    open_runs: tuple[OpenRun, ...]

    @property
    def headline(self) -> Mapping[str, Any]:
        """The newest scoring's headline; empty without one."""
        return self.line.headline if self.line else {}

    @property
    def has_outcomes(self) -> bool:
        """Whether the newest scoring measured something, and estimated not alone."""
        return self.headline.get("value") is not None and not self.headline.get("is_estimate")

    @property
    def measured_version(self) -> str | None:
        """The version that was measured, where it is not the champion any more."""
        return headlines.measured_version(self.headline, self.champion)

    @property
    def decayed_on(self) -> date | None:
        """The day from which on the present champion is said to decay."""
        return headlines.decayed_on(self.headline, self.champion)

    @property
    def why_not_tested(self) -> str | None:
        """Why nothing is said of the present champion's decay."""
        return headlines.why_not_tested(self.headline, self.champion)


SORTS: Mapping[str, Callable[[LiveRow], Any]] = {
    "strategy": lambda row: row.strategy,
    "predicted": lambda row: row.predicted_to,
    "scored": lambda row: row.line.as_of if row.line else None,
    "value": lambda row: row.headline.get("value"),
    "decayed": lambda row: row.decayed_on,
}
SHOWS: Mapping[str, Callable[[LiveRow], bool]] = {
    "": lambda _: True,
    "predicting": lambda row: row.predicts,
    "not predicting": lambda row: not row.predicts and row.predicted_to is None,
    "without outcomes": lambda row: not row.has_outcomes,
    "decayed": lambda row: row.decayed_on is not None,
    "late": lambda row: row.late is not None,
    "running": lambda row: bool(row.open_runs),
}


@pages.get("/live", action="live.read")
def live(context: Context, q: str = "", sort: str = "", page: int = 1, show: Show = "", tag: str = "") -> Response:
    """The table of strategies."""
    rows = _rows(context)
    listed = shown_strategies(context, rows, keep=SHOWS[show], tag=tag, q=q, sort=sort, page=page, sorts=SORTS)
    return context.show(
        "live.html",
        title="Live performance",
        list=listed,
        measures=context.ledger.live_measures([row.strategy for row in listed.rows]),
        show=show,
        tag=tag,
        shows=[name for name in SHOWS if name],
        totals={
            "strategies": len(rows),
            "predicting": sum(row.predicts for row in rows),
            "with outcomes": sum(row.has_outcomes for row in rows),
            "decayed": sum(row.decayed_on is not None for row in rows),
            "late": sum(row.late is not None for row in rows),
        },
        anything=any(row.predicted_to or row.line for row in rows),
    )


def _rows(context: RequestContext) -> list[LiveRow]:
    names = list(context.services.strategies)
    champions = context.ledger.model_keys(names)
    predicted = context.ledger.predicted_to(names)
    lines = context.ledger.live_lines(names)
    late = {mark.strategy: mark for mark in context.ledger.late_features()}
    running: dict[str, list[OpenRun]] = {}
    for run in context.ledger.open_runs():
        if run.kind in _KINDS:
            running.setdefault(run.strategy, []).append(run)
    settled = context.services.policies.all_settled()
    return [
        LiveRow(
            strategy=name,
            champion=champions[name].version,
            predicts=not isinstance(found := settled[name], Unfit) and found.strategy.live.predict,
            predicted_to=predicted.get(name),
            line=lines.get(name),
            late=late.get(name),
            open_runs=tuple(running.get(name, ())),
        )
        for name in names
    ]


# ---- One strategy


@pages.get("/live/{strategy}", action="live.strategy.read")
def performance(
    context: Context, strategy: str, days: Days = "365", metric: LiveMetric = "roc_auc", version: str = ""
) -> Response:
    """Raises UnknownStrategy."""
    policy = context.services.strategies[strategy]
    horizon = policy.training.horizon_dates
    ledger = context.ledger
    everything = ledger.live_days(strategy)
    axis = axis_of(days, [day.as_of for day in everything], context.services.feature_day())
    within = [day for day in everything if axis.has(day.as_of) and version in ("", day.version)]
    by_version = scores_by_version(within)
    shown = served(within)
    scores = {day.as_of: score_of(day) for day in served(everything)}
    found = performance_of(shown, horizon_dates=horizon)
    report = ledger.live_report(strategy)
    ripe_to = last_ripe(report, everything)
    unripe = min((day for day in scores if ripe_to is None or day > ripe_to), default=None)
    wealth = wealth_points(found.signal) if found and found.signal else []
    checks = [
        one
        for one in check_estimates(scores, as_of=max(scores, default=axis.last), horizon_dates=horizon)
        if one.estimate.metric == metric
    ]
    series = series_within(by_version, axis, metric=metric, horizon_dates=horizon)
    standing = ledger.standings([strategy])[strategy]
    decisions = ledger.decisions(strategy=strategy, limit=1_000)[::-1]
    clock = DataClock((line.created_at, line.as_of) for line in ledger.run_lines(strategy=strategy) if line.as_of)
    champion = standing.champion.version if standing.champion else None
    bands = champion_bands(decisions, champion, clock)
    head = report.document.get("headline", {}) if report else {}
    return context.show(
        "live_strategy.html",
        title=f"Live performance of {strategy}",
        strategy=strategy,
        policy=policy.live,
        horizon_dates=horizon,
        days=days,
        metric=metric,
        metrics=dict(METRICS),
        version=version,
        versions=sorted({day.version for day in everything}, key=version_number),
        windows={"curve": WINDOW, "measured": MEASURED_WINDOW},
        axis=axis,
        values=value_axis(series),
        promotions=[band for band in bands if axis.has(band.first)],
        series=series,
        lines=[
            version_line(name, found_days, horizon_dates=horizon, ripe_to=ripe_to)
            for name, found_days in by_version.items()
        ],
        found=found,
        waiting=without_outcome({day.as_of: score_of(day) for day in shown}, ripe_to=ripe_to),
        is_scored=bool(everything),
        bars=outcome_bars([score_of(day) for day in shown]),
        unit=ValueAxis(low=0.0, high=1.0),
        wealth=wealth,
        wealth_axis=around([end for point in wealth for end in (point.signal, point.all)], least=0.05),
        estimates=estimate_performance(scores, first=unripe, as_of=max(scores), horizon_dates=horizon)
        if unripe
        else (),
        checks=checks,
        estimated=around(
            [end for one in checks for end in (one.estimate.low, one.estimate.high, one.measured)], least=0.1
        ),
        report=report,
        decayed=headlines.decayed_on(head, champion),
        measured_version=headlines.measured_version(head, champion),
        predicted_to=ledger.predicted_to([strategy]).get(strategy),
        champion=standing.champion,
        open_runs=[run for run in ledger.open_runs() if run.strategy == strategy and run.kind in _KINDS],
        runs=ledger.run_lines(strategy=strategy, kinds=_KINDS, limit=8),
    )


# ---- What an operator does


@pages.post("/live/{strategy}/predict", action="live.predict")
def predict(context: Context, strategy: str) -> Response:
    """The champion predicts the newest complete date, on a worker. Raises UnknownStrategy, InvalidPolicyEdit."""
    accepted = dispatch.start_prediction(strategy, reason="asked for on the page", requested_by=context.person.actor)
    return _begun(context, strategy, accepted, "The prediction")


@pages.post("/live/{strategy}/score", action="live.score")
def score(context: Context, strategy: str) -> Response:
    """Predictions are scored against the outcomes that are known now. Raises UnknownStrategy, InvalidPolicyEdit."""
    accepted = dispatch.start_scoring(strategy, reason="asked for on the page", requested_by=context.person.actor)
    return _begun(context, strategy, accepted, "The scoring")


def _begun(context: RequestContext, strategy: str, accepted: Accepted, what: str) -> Response:
    context.note(run_id=accepted.run_id, created=accepted.created)
    words = f"{what} has begun." if accepted.created else f"{what} is there already; this is its run."
    to = f"/admin/live/{quote(strategy)}" if accepted.created else f"/admin/runs/{accepted.run_id}"
    return context.done(words, to=to, run_id=accepted.run_id, created=accepted.created)
