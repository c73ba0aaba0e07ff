"""Evaluation of what is said of models in use: the loop replayed in process on a history of prices.

Champions are trained at each year's end as the product trains them: a judged twin gives the level at promotion, its
refit predicts the days after it. Each estimate and each decision about decay uses what was known on its day. Called by
`acis evaluate-live`.

What the statistics assume of the world (spreads of errors, the law of the largest moves) was taken from 1995-2018,
whose own values are among the results; 2019-2021 were looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lab.placebos import Rate, rate_of
from mlops.domain.labels import parse_label
from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.decay import detect_decay
from mlops.domain.live.estimate import EstimateCheck, EstimatedMetric, check_estimates
from mlops.domain.training.splits import all_known
from mlops.domain.training.trading import is_long_label
from mlops.stages.fitting import fit, fit_twin_and_refit
from mlops.stages.labelled_rows import read_labelled, split_rows
from mlops.stages.scoring import positive_probability

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.policies import Strategy, TrainingPolicy
    from mlops.domain.ports import FeatureSource, TrainingControl
    from mlops.domain.training.splits import Split
    from mlops.stages.labelled_rows import LabelledRows

METRICS: tuple[EstimatedMetric, ...] = ("accuracy", "log_loss", "brier", "roc_auc")
CHOSEN, REPORTED, CALM = (1995, 2018), (2019, 2021), (2012, 2019)
"""Years on which the statistics were chosen, on which they are reported, and which are calm"""
CHAMPIONS_OF_THE_BREAK = (2018, 2019)
"""Trained at the end of these years, and still in use at the break"""
_MOVE_DAYS = 10
_BLOCK = 20


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """A champion's predictions of one day, and what came of them."""

    probability: npt.NDArray[np.float64]
    """(n,)"""
    y: npt.NDArray[np.int8]
    known: npt.NDArray[np.bool_]
    next_return: npt.NDArray[np.float64]

    def score(self, *, is_long: bool) -> DayScore:
        """Score the day."""
        return score_day(self.probability, self.y, self.known, self.next_return, is_long=is_long)


@dataclass(frozen=True, kw_only=True)
class PastChampion:
    """A model that was trained at a year's end, its held-out dates and the days that it predicted afterwards."""

    year: int
    judged: Mapping[date, DayScore]
    """Of the held-out dates, by its judged twin where it was refitted"""
    live: Mapping[date, DayScore]
    predictions: Mapping[date, Predictions]
    """Those of the live days"""

    def first_year(self) -> dict[date, DayScore]:
        """Return the live days of the year after its training."""
        return {day: score for day, score in self.live.items() if day.year == self.year + 1}


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Share of the months in which what came lay within the estimate's 90 % interval."""

    metric: EstimatedMetric
    chosen: Rate
    n_chosen: int
    reported: Rate
    n_reported: int
    error_spread: float
    """Standard deviation of the estimate's error in the months of `CHOSEN`"""
    width: float
    """Mean width of the interval in the months of `REPORTED`"""


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """Years with an alarm of decay, of how many, and which signals gave it."""

    rate: Rate
    n_years: int
    signals: Mapping[str, int]
    """Name → years in which it fired"""
    fired: tuple[str, ...] = ()
    """`2008 moves 2008-10-10`"""


@dataclass(frozen=True, kw_only=True)
class BreakFound:
    """When a champion was first said to decay, of its days from the year before the break on."""

    champion: int
    """Year at whose end it was trained"""
    fired_on: date | None
    signal: str
    words: str
    log_loss_fired_on: date | None
    """The same of the outcomes alone"""
    accuracy_at_promotion: float
    accuracy_after: float | None
    """Accuracy of the ten days' predictions up to the alarm, known a horizon later"""


@dataclass(frozen=True, kw_only=True)
class LiveEvaluation:
    """Results of one strategy and label."""

    strategy: str
    label: str
    n_champions: int
    coverage: tuple[Coverage, ...]
    calm: Alarms
    """First years of champions in calm years"""
    all_years: Alarms
    """First years of all champions up to 2018, with real breaks among them"""
    placebo: Alarms
    """Years of blocks of 20 days drawn from before and after the promotion alike: nothing has changed in them"""
    turned: Alarms
    """The same years with the probabilities turned around from the first live day on: what is found of the worst"""
    breaks: tuple[BreakFound, ...]
    largest_moves: tuple[float, ...]
    """Of each first year in `CHOSEN`: log of the largest 10-day mean move over that of the held-out dates"""


def replay(
    source: FeatureSource,
    strategy: Strategy,
    table: pa.Table,
    close: pd.DataFrame,
    *,
    years: Iterable[int],
    settings: Settings,
    control: TrainingControl,
) -> list[PastChampion]:
    """Train a champion at the end of each year and let it predict the next, those of the break to the end of 2021.

    table : the strategy's rows of the feature view      close : (dates, tickers) of prices
    """
    rows = past_rows(strategy, table, close)
    is_long = is_long_label(strategy.training.label)
    champions = []
    for year in years:
        as_of = date(year, 12, 31)
        labelled = read_labelled(source, strategy, as_of=as_of)
        split = split_rows(labelled, strategy.training)
        judge, model = train_both(strategy.training, labelled, split, settings=settings, control=control)
        last = REPORTED[1] if year in CHAMPIONS_OF_THE_BREAK else year + 1
        live = (rows.dates > np.datetime64(as_of)) & (rows.dates <= np.datetime64(f"{last}-12-31"))
        judged = np.isin(rows.dates, np.unique(labelled.dates[split.holdout]))
        after, before = (rows.predicted(one, labelled.features, part) for one, part in ((model, live), (judge, judged)))
        champions.append(
            PastChampion(
                year=year,
                judged={day: one.score(is_long=is_long) for day, one in before.items()},
                live={day: one.score(is_long=is_long) for day, one in after.items()},
                predictions=after,
            )
        )
    return champions


def train_both(
    policy: TrainingPolicy, rows: LabelledRows, split: Split, *, settings: Settings, control: TrainingControl
) -> tuple[Any, Any]:
    """Train the model that is judged on the held-out dates, and the one that is registered; one without a refit."""
    if not policy.refit:
        fitted = fit(policy, rows, split, settings=settings, control=control)
        return fitted.model, fitted.model
    everything = all_known(split, rows.dates, rows.known)
    both = fit_twin_and_refit(policy, rows, split, everything, settings=settings, control=control)
    return both.twin.model, both.refit.model


@dataclass(frozen=True, kw_only=True)
class PastRows:
    """A strategy's rows over all dates, ascending by date, with labels as they came."""

    dates: npt.NDArray[np.datetime64]
    table: pd.DataFrame
    y: npt.NDArray[np.int8]
    known: npt.NDArray[np.bool_]
    next_return: npt.NDArray[np.float64]

    def predicted(
        self,
        model: Any,  # noqa: ANN401 -- an XGBClassifier
        features: Sequence[str],
        part: npt.NDArray[np.bool_],
    ) -> dict[date, Predictions]:
        """Ask the model about some of the rows. part : (n,)"""
        x = self.table.loc[part, list(features)].to_numpy(dtype=np.float32)
        x = np.where(np.isfinite(x), x, np.float32(np.nan))
        probability = positive_probability(model, x)
        days, begins = np.unique(self.dates[part], return_index=True)
        y, known, returns = self.y[part], self.known[part], self.next_return[part]
        ends = [*begins[1:].tolist(), len(y)]
        return {
            day: Predictions(probability=probability[a:b], y=y[a:b], known=known[a:b], next_return=returns[a:b])
            for day, a, b in zip(days.astype(object).tolist(), begins.tolist(), ends, strict=True)
        }


def past_rows(strategy: Strategy, table: pa.Table, close: pd.DataFrame) -> PastRows:
    """Give a strategy's rows of the feature view with what came of them. close : (dates, tickers)"""
    ordered = table.sort_by([("date", "ascending"), ("ticker", "ascending")])
    y, known = parse_label(strategy.training.label).evaluate(ordered)
    frame = ordered.to_pandas()
    moves = close.pct_change(fill_method=None).shift(-1)
    dates = pd.to_datetime(frame["date"])
    places = moves.index.get_indexer(dates), moves.columns.get_indexer(frame["ticker"])
    return PastRows(
        dates=dates.to_numpy().astype("datetime64[D]"),
        table=frame,
        y=y,
        known=known,
        next_return=moves.to_numpy(dtype=np.float64)[places],
    )


def strategy_rows(view: pa.Table, name: str) -> pa.Table:
    """Rows of one strategy of a feature view."""
    return view.filter(pc.equal(view.column("strategy"), name))


def evaluate_live(
    strategy: Strategy,
    champions: Sequence[PastChampion],
    *,
    placebos: int,
    placebo_dates: int | None = None,
    seed: int = 1,
) -> LiveEvaluation:
    """Evaluate the estimate and the decay of one strategy's champions.

    placebos : years drawn of each champion      placebo_dates : on which it is judged in them; None: as many as it was
    """
    days = {day: score for champion in champions for day, score in champion.first_year().items()}
    horizon, alpha = strategy.training.horizon_dates, strategy.live.decay_alpha
    checks = check_estimates(days, as_of=max(days), horizon_dates=horizon)
    rng = np.random.default_rng(seed)

    def alarms(of: Iterable[tuple[int, Mapping[date, DayScore], Mapping[date, DayScore]]]) -> Alarms:
        signals: dict[str, int] = {}
        fired, n_fired, n_years = [], 0, 0
        for year, judged, live in of:
            found = detect_decay(live, at_promotion=judged, as_of=max(live), horizon_dates=horizon, alpha=alpha)
            n_years, n_fired = n_years + 1, n_fired + (found.fired_on is not None)
            for signal in found.signals:
                if signal.fired_on is not None:
                    signals[signal.name] = signals.get(signal.name, 0) + 1
                    fired.append(f"{year} {signal.name} {signal.fired_on}")
        return Alarms(
            rate=rate_of(n_fired / max(1, n_years), max(1, n_years)),
            n_years=n_years,
            signals=signals,
            fired=tuple(fired),
        )

    fresh = [(one.year + 1, one.judged, one.first_year()) for one in champions]
    is_long = is_long_label(strategy.training.label)
    drawn = [
        year
        for champion in champions
        if champion.year < CHOSEN[1]
        for year in _placebos(champion, placebos, rng, placebo_dates)
    ]
    turned = [
        (champion.year + 1, champion.judged, _turned(champion, is_long=is_long))
        for champion in champions
        if champion.year < CHOSEN[1]
    ]
    return LiveEvaluation(
        strategy=strategy.name,
        label=strategy.training.label,
        n_champions=len(champions),
        coverage=tuple(_coverage(metric, checks) for metric in METRICS),
        calm=alarms(one for one in fresh if CALM[0] <= one[0] <= CALM[1]),
        all_years=alarms(one for one in fresh if one[0] <= CHOSEN[1]),
        placebo=replace(alarms(drawn), fired=()),
        turned=replace(alarms(turned), fired=()),
        breaks=tuple(
            _break_found(one, horizon=horizon, alpha=alpha) for one in champions if one.year in CHAMPIONS_OF_THE_BREAK
        ),
        largest_moves=tuple(_largest_move(one) for one in champions if CHOSEN[0] <= one.year + 1 <= CHOSEN[1]),
    )


def _coverage(metric: EstimatedMetric, checks: Sequence[EstimateCheck]) -> Coverage:
    def of(years: tuple[int, int]) -> list[EstimateCheck]:
        return [
            check
            for check in checks
            if check.estimate.metric == metric and years[0] <= check.estimate.first.year <= years[1]
        ]

    chosen, reported = of(CHOSEN), of(REPORTED)
    rates = [
        rate_of(float(np.mean([one.is_covered for one in part])) if part else 0.0, max(1, len(part)))
        for part in (chosen, reported)
    ]
    return Coverage(
        metric=metric,
        chosen=rates[0],
        n_chosen=len(chosen),
        reported=rates[1],
        n_reported=len(reported),
        error_spread=float(np.std([one.measured - one.estimate.value for one in chosen])) if chosen else float("nan"),
        width=float(np.mean([one.estimate.high - one.estimate.low for one in reported])) if reported else float("nan"),
    )


def _placebos(
    champion: PastChampion, n: int, rng: np.random.Generator, n_judged: int | None
) -> list[tuple[int, dict[date, DayScore], dict[date, DayScore]]]:
    """Draw years in which nothing has changed: blocks of held-out and live days in a random order, cut anew."""
    scores = [part[day] for part in (champion.judged, champion.first_year()) for day in sorted(part)]
    scores = [score for score in scores if score.n_labelled]
    blocks = [scores[i : i + _BLOCK] for i in range(0, len(scores) - _BLOCK + 1, _BLOCK)]
    n_live = len(blocks) * _BLOCK - len(champion.judged) // _BLOCK * _BLOCK
    n_judged = (n_judged or len(champion.judged)) // _BLOCK * _BLOCK
    drawn = []
    for _ in range(n):
        mixed = [score for place in rng.permutation(len(blocks)) for score in blocks[place]]
        # One more horizon, so that the outcomes of all blocks become known.
        keys = [date.fromordinal(date(champion.year, 1, 1).toordinal() + i) for i in range(len(mixed) + _BLOCK)]
        judged = dict(zip(keys, mixed[:n_judged], strict=False))
        after = [*mixed[n_judged:], *mixed[-_BLOCK:]][: n_live + _BLOCK]
        live = dict(zip(keys[n_judged:], after, strict=False))
        drawn.append((champion.year + 1, judged, live))
    return drawn


def _turned(champion: PastChampion, *, is_long: bool) -> dict[date, DayScore]:
    return {
        day: replace(one, probability=1.0 - one.probability).score(is_long=is_long)
        for day, one in champion.predictions.items()
        if day.year == champion.year + 1
    }


def _break_found(champion: PastChampion, *, horizon: int, alpha: float) -> BreakFound:
    live = {day: score for day, score in champion.live.items() if day <= date(2020, 12, 31)}
    found = detect_decay(live, at_promotion=champion.judged, as_of=max(live), horizon_dates=horizon, alpha=alpha)
    by_name = {signal.name: signal for signal in found.signals}
    first = next((signal for signal in found.signals if signal.fired_on == found.fired_on), None)
    accuracy_after = None
    if found.fired_on is not None:
        until = [live[day] for day in sorted(live) if day < found.fired_on][-_MOVE_DAYS:]
        accuracy_after = sum(one.n_hits for one in until) / max(1, sum(one.n_labelled for one in until))
    judged = champion.judged.values()
    return BreakFound(
        champion=champion.year,
        fired_on=found.fired_on,
        signal=first.name if first is not None and found.fired_on is not None else "",
        words=found.words,
        log_loss_fired_on=by_name["log_loss"].fired_on if "log_loss" in by_name else None,
        accuracy_at_promotion=sum(one.n_hits for one in judged) / max(1, sum(one.n_labelled for one in judged)),
        accuracy_after=accuracy_after,
    )


def _largest_move(champion: PastChampion) -> float:
    usual = np.mean([score.mean_move for score in champion.judged.values() if score.mean_move is not None])
    year = champion.first_year()
    moves = [year[day].mean_move for day in sorted(year)]
    priced = np.array([move for move in moves if move is not None], dtype=np.float64)
    lately = np.convolve(priced, np.full(_MOVE_DAYS, 1 / _MOVE_DAYS), "valid")
    return float(np.log(lately.max() / usual))


def law_of_moves(results: Sequence[LiveEvaluation]) -> tuple[float, float]:
    """Mean and standard deviation of `largest_moves`, each strategy once."""
    by_strategy = {result.strategy: result.largest_moves for result in results}
    values = np.concatenate([np.asarray(moves) for moves in by_strategy.values()])
    return float(values.mean()), float(values.std())
