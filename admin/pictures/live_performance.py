"""A strategy's live performance as the page shows it, from the scores of its days; pure.

What the policies and the statistics say is `mlops.domain.live`; here days are put together by version and by window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from threading import Lock

from cachetools import LRUCache, cached

from admin.pictures.axes import TimeAxis, ValueAxis, around
from mlops.domain.live.day_score import DayScore
from mlops.domain.live.performance import Performance, measure_performance
from mlops.domain.live.resampling import Measured
from mlops.domain.live.rolling import LiveMetric, WindowPoint, measure_metric, measured_windows, rolling_metric
from mlops.domain.live.signal import SignalPerformance
from mlops.ledger.queries.live import LiveDay, LiveReport

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
class VersionSeries:
    """One version's live days."""

    version: str
    first: date
    last: date
    curve: tuple[WindowPoint, ...]
    """The metric of the last `WINDOW` labelled dates, at each of them"""
    points: tuple[WindowPoint, ...]
    """The metric of the last `MEASURED_WINDOW` labelled dates, with an interval"""


@dataclass(frozen=True, kw_only=True)
class VersionLine:
    """One version's days in a line of the table."""

    version: str
    first: date
    last: date
    n_days: int
    """With an outcome"""
    n_labelled: int
    n_unripe: int
    n_never: int
    """Ripe, and without an outcome"""
    measured: Mapping[LiveMetric, Measured | None]


@cached(LRUCache(maxsize=2048), key=lambda day: day.digest, lock=Lock())
def score_of(day: LiveDay) -> DayScore:
    """The score itself; a page asks for the same days again and again, and a day's digest is that of its score."""
    return DayScore.from_json(day.score)


def scores_by_version(days: Iterable[LiveDay]) -> dict[str, dict[date, DayScore]]:
    """Scores of each version's days, versions in the order of their numbers."""
    found: dict[str, dict[date, DayScore]] = {}
    for day in days:
        found.setdefault(day.version, {})[day.as_of] = score_of(day)
    return dict(sorted(found.items(), key=lambda one: version_number(one[0])))


def served(days: Iterable[LiveDay]) -> list[LiveDay]:
    """The strategy's days: of each date that of the version that predicted most of its rows, else the newest."""
    ordered = sorted(days, key=lambda day: (day.as_of, day.n_predictions, version_number(day.version)))
    return list({day.as_of: day for day in ordered}.values())


@cached(LRUCache(maxsize=64), key=lambda days, horizon_dates: (horizon_dates, *days), lock=Lock())
def _measured(days: tuple[_Kept, ...], horizon_dates: int) -> Performance:
    return measure_performance({one.day.as_of: score_of(one.day) for one in days}, horizon_dates=horizon_dates)


def performance_of(days: Iterable[LiveDay], *, horizon_dates: int) -> Performance | None:
    """The performance of these days, one of each date; None without one. Kept, since it costs a tenth of a second."""
    kept = tuple(_Kept(day) for day in days)
    return _measured(kept, horizon_dates) if kept else None


class _Kept:
    """A scored day whose date and digest are its identity in the cache."""

    def __init__(self, day: LiveDay) -> None:
        self.day = day
        self._key = (day.as_of, day.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def version_number(version: str) -> tuple[int, str]:
    """What versions are sorted by: 9 before 10, names that are no numbers last."""
    return (int(version), "") if version.isdigit() else (2**62, version)


def version_series(version: str, scores: Scores, *, metric: LiveMetric, horizon_dates: int) -> VersionSeries:
    """One version's curve and points of a metric."""
    n_labelled = sum(bool(score.n_labelled) for score in scores.values())
    return VersionSeries(
        version=version,
        first=min(scores),
        last=max(scores),
        curve=rolling_metric(scores, metric, window=WINDOW),
        points=measured_windows(
            scores,
            metric,
            window=MEASURED_WINDOW,
            step=max(WINDOW, -(-n_labelled // _MOST_POINTS)),
            least=WINDOW,
            horizon_dates=horizon_dates,
        ),
    )


def series_within(
    by_version: Mapping[str, Scores], axis: TimeAxis, *, metric: LiveMetric, horizon_dates: int
) -> list[VersionSeries]:
    """Each version's series on the days that a picture shows; versions without one are left out."""
    within = {name: {day: one for day, one in scores.items() if axis.has(day)} for name, scores in by_version.items()}
    return [
        version_series(name, scores, metric=metric, horizon_dates=horizon_dates)
        for name, scores in within.items()
        if scores
    ]


def value_axis(series: Sequence[VersionSeries]) -> ValueAxis:
    """The axis that their curves, points and intervals need."""
    curves = [point.value for one in series for point in one.curve]
    bounds = [end for one in series for point in one.points for end in (point.low, point.high, point.value)]
    return around([*curves, *bounds], least=0.1)


def version_line(version: str, scores: Scores, *, horizon_dates: int, ripe_to: date | None) -> VersionLine:
    """All metrics of one version's days. ripe_to : see `last_ripe`"""
    waiting = without_outcome(scores, ripe_to=ripe_to)
    return VersionLine(
        version=version,
        first=min(scores),
        last=max(scores),
        n_days=sum(bool(score.n_labelled) for score in scores.values()),
        n_labelled=sum(score.n_labelled for score in scores.values()),
        n_unripe=waiting.n_unripe,
        n_never=waiting.n_never,
        measured={metric: measure_metric(scores, metric, horizon_dates=horizon_dates) for metric in METRICS},
    )


def last_ripe(report: LiveReport | None, days: Iterable[LiveDay]) -> date | None:
    """The last date whose horizon has passed by the newest scoring; where that does not say so, the last labelled."""
    found = report.document.get("outcomes", {}).get("ripe_to") if report else None
    return date.fromisoformat(found) if found else max((day.as_of for day in days if day.n_labelled), default=None)


@dataclass(frozen=True, kw_only=True)
class WithoutOutcome:
    """Predictions that have no outcome."""

    n_unripe: int
    """Their horizon has not passed"""
    n_never: int
    """It has: their label has no value, or their row is gone"""


def without_outcome(scores: Scores, *, ripe_to: date | None) -> WithoutOutcome:
    """Count the predictions without an outcome by whether their horizon has passed."""
    counts = [0, 0]
    for day, score in scores.items():
        counts[ripe_to is not None and day <= ripe_to] += score.n_waiting
    return WithoutOutcome(n_unripe=counts[0], n_never=counts[1])


# ---- Predictions against outcomes


@dataclass(frozen=True, kw_only=True)
class OutcomeBar:
    """Predictions of a tenth of the probabilities, by outcome."""

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
    """Ten bars from 0 to 1; a cell that lies across a border counts where its mean is."""
    counts = [[0, 0, 0] for _ in range(10)]
    for score in scores:
        for cell in score.cells:
            bar = counts[min(9, int(cell.probability / cell.n * 10))]
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
