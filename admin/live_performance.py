"""A strategy's live performance as the page shows it, from the scores of its days; pure.

What the policies and the statistics say is `mlops.domain.live`; here days are put together by version and by window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

from mlops.domain.live.day_score import N_CELLS, DayScore
from mlops.domain.live.performance import Measured, Performance, SignalPerformance, measure_performance
from mlops.domain.live.rolling import RollingPoint, rolling_performance

if TYPE_CHECKING:
    from mlops.ledger.queries.live import LiveDay

LiveMetric = Literal["roc_auc", "accuracy", "log_loss", "brier"]
METRICS: Mapping[LiveMetric, str] = {
    "roc_auc": "ROC AUC",
    "accuracy": "Accuracy",
    "log_loss": "Log loss",
    "brier": "Brier score",
}
WINDOW = 20
"""Dates of the curve: a month."""
MEASURED_WINDOW = 60
"""Dates of each point with an interval: labels that look 20 dates ahead overlap, so that a month has hardly one."""
_MOST_POINTS = 8
"""With an interval, of a version: each is a resampling."""

Scores = Mapping[date, DayScore]


@dataclass(frozen=True, kw_only=True)
class MeasuredPoint:
    """A metric over the window that ends with a day."""

    day: date
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class VersionSeries:
    """One version's live days."""

    version: str
    first: date
    last: date
    performance: Performance
    curve: tuple[RollingPoint, ...]
    """Of the last `WINDOW` labelled dates as the days go by"""
    points: tuple[MeasuredPoint, ...]
    """Of the last `MEASURED_WINDOW` labelled dates, with an interval"""


def scores_by_version(days: Iterable[LiveDay]) -> dict[str, dict[date, DayScore]]:
    """Scores of each version's days, versions in the order of their numbers."""
    found: dict[str, dict[date, DayScore]] = {}
    for day in days:
        found.setdefault(day.version, {})[day.as_of] = DayScore.from_json(day.score)
    return dict(sorted(found.items(), key=lambda one: version_number(one[0])))


def served(by_version: Mapping[str, Scores]) -> dict[date, DayScore]:
    """Scores of the strategy's days: of each date the newest version that predicted it."""
    found: dict[date, DayScore] = {}
    for scores in by_version.values():
        found |= scores
    return dict(sorted(found.items()))


def version_number(version: str) -> tuple[int, str]:
    """What versions are sorted by: 9 before 10, names that are no numbers last."""
    return (int(version), "") if version.isdigit() else (2**62, version)


def version_series(version: str, scores: Scores, *, metric: LiveMetric, horizon_dates: int) -> VersionSeries:
    """One version's curve and points of a metric."""
    return VersionSeries(
        version=version,
        first=min(scores),
        last=max(scores),
        performance=measure_performance(scores, horizon_dates=horizon_dates),
        curve=rolling_performance(scores, window=WINDOW),
        points=_points(scores, metric, horizon_dates),
    )


def _points(scores: Scores, metric: LiveMetric, horizon_dates: int) -> tuple[MeasuredPoint, ...]:
    """At the last labelled date, and so many dates before it each."""
    labelled = [day for day in sorted(scores) if scores[day].n_labelled]
    step = max(WINDOW, -(-len(labelled) // _MOST_POINTS))
    found = []
    for end in range(len(labelled), WINDOW - 1, -step):
        window = {day: scores[day] for day in labelled[max(0, end - MEASURED_WINDOW) : end]}
        measured: Measured | None = getattr(measure_performance(window, horizon_dates=horizon_dates), metric)
        if measured is not None:
            low, high = measured.low, measured.high
            found.append(MeasuredPoint(day=labelled[end - 1], value=measured.value, low=low, high=high))
    return tuple(reversed(found))


# ---- Predictions against outcomes


@dataclass(frozen=True, kw_only=True)
class OutcomeBar:
    """Predictions of a tenth of the probabilities, and what came."""

    low: float
    high: float
    n_positive: int
    n_negative: int
    n_waiting: int

    @property
    def n(self) -> int:
        """All of them."""
        return self.n_positive + self.n_negative + self.n_waiting


def outcome_bars(scores: Sequence[DayScore]) -> list[OutcomeBar]:
    """Ten bars from 0 to 1; a cell that lies across a border counts where its middle is."""
    counts = [[0, 0, 0] for _ in range(10)]
    for score in scores:
        for cell in score.cells:
            bar = counts[min(9, int((cell.index + 0.5) / N_CELLS * 10))]
            bar[0] += cell.n_positive
            bar[1] += cell.n_labelled - cell.n_positive
            bar[2] += cell.n - cell.n_labelled
    return [
        OutcomeBar(low=n / 10, high=(n + 1) / 10, n_positive=one, n_negative=other, n_waiting=waiting)
        for n, (one, other, waiting) in enumerate(counts)
    ]


# ---- What the signal became


@dataclass(frozen=True, kw_only=True)
class WealthPoint:
    """What 1 became until a day."""

    day: date
    signal: float
    all: float


def wealth_points(signal: SignalPerformance) -> list[WealthPoint]:
    """One for each day that is priced."""
    return [
        WealthPoint(day=day, signal=one, all=other)
        for day, one, other in zip(signal.days, signal.wealth, signal.wealth_of_all, strict=True)
    ]
