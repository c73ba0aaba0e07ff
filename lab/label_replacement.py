"""Evaluation of what follows an alarm of the label watch on streams, whose truth is known.

A training on the dates since the located change, the decision about it, another training where it was not promoted: as
the drift, train and promote stages take these steps. Called by `acis evaluate-labels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lab.label_streams import StreamName, draw_stream
from mlops.domain.errors import InsufficientData
from mlops.domain.promotion.bootstrap import MIN_BLOCKS
from mlops.domain.promotion.date_parts import ScoredRows, date_parts, influence
from mlops.domain.promotion.evidence import CommonDates, Facts, evidence_of
from mlops.domain.promotion.paired import SEED
from mlops.domain.training.metrics import evaluate_classifier, majority_class_share
from mlops.domain.training.since_change import least_dates, next_dates
from mlops.domain.training.trading import TRADING_DAYS

if TYPE_CHECKING:
    from config.settings import Settings
    from lab.label_streams import Change, StreamRows
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import TrainingControl
from lab.label_evaluation import CHANGE_AT, Alarm, LabelPanel, Model, Rates, Scored, Watched, alarms, rates, train

BETTER_DATES = 60
"""Dates after a replacement on which old and new are compared"""
_BEFORE = 250
"""Dates before a change from which the champion's spread is taken, as the product has it"""


@dataclass(frozen=True, kw_only=True)
class StreamDesign:
    """A stream and its labels."""

    name: StreamName
    coin: float
    """Share of the labels that a coin draws"""
    horizon_dates: int
    n_rows: int
    """Rows of a date"""


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What followed the change of a stream; dates from it on, as of which the steps were taken."""

    seed: int
    change: Change
    alarm: int | None
    """Alarm of the label watch; negative: before the change"""
    n_trainings: int
    replaced: int | None
    """Promotion of a version that was trained since the located change; None: none within a year"""
    old_auc: float | None
    """AUC of the champion on the 60 dates after it was replaced"""
    new_auc: float | None


@dataclass(frozen=True, kw_only=True)
class StreamResult:
    """Results of one design."""

    design: StreamDesign
    roc_auc: float
    """Mean over the seeds, of the years without a change"""
    rates: Mapping[str, list[Rates]]
    """Alarms in years without a change, and what was found of the change, by what changed"""
    replacements: tuple[Replacement, ...]


def evaluate_stream(
    design: StreamDesign,
    strategy: Strategy,
    *,
    seeds: int,
    years: int,
    settings: Settings,
    control: TrainingControl,
) -> StreamResult:
    """Train a champion for each seed, and watch `years` years without a change and one with each change."""
    strategy = replace(strategy, training=replace(strategy.training, horizon_dates=design.horizon_dates))
    n_train = round(strategy.training.training_days * TRADING_DAYS / 365)
    calm: list[list[Alarm]] = []
    changed: dict[Change, list[list[Alarm]]] = {"market": [], "turned": [], "gradual": []}
    replacements, areas = [], []
    for seed in range(seeds):
        control.check()
        draw = _Draws(design, seed)
        before = draw.panel(n_train)
        model = train(before, strategy, begin=0, after=n_train, settings=settings, control=control)
        held = model.judged(before)
        for _ in range(years):
            live = Scored.of(draw.panel(TRADING_DAYS), model.refit, 0, TRADING_DAYS)
            calm.append(alarms(held, live, horizon_dates=design.horizon_dates))
            areas.append(live.roc_auc)
        for change, found in changed.items():
            # More dates, for what follows the alarm and for the comparison with what comes then.
            panel = before.followed_by(draw.panel(2 * TRADING_DAYS, change=change))
            live = model.live(panel, n_train + TRADING_DAYS)
            found.append(alarms(held, live, horizon_dates=design.horizon_dates))
            if change != "market":
                steps = _Steps(panel, strategy, model, settings, control, seed=seed, change=change)
                replacements.append(steps.taken(found[-1][0]))
    return StreamResult(
        design=design,
        roc_auc=float(np.mean(areas)),
        rates={change: rates(calm, found) for change, found in changed.items()},
        replacements=tuple(replacements),
    )


class _Draws:
    """Panels of one stream, one after the other."""

    def __init__(self, design: StreamDesign, seed: int) -> None:
        self._design, self._rng = design, np.random.default_rng(seed)

    def panel(self, n_dates: int, *, change: Change = "none") -> LabelPanel:
        drawn: StreamRows = draw_stream(
            self._design.name,
            coin=self._design.coin,
            n_dates=n_dates,
            n_rows=self._design.n_rows,
            change=change,
            change_at=CHANGE_AT,
            rng=self._rng,
        )
        days = pd.bdate_range("2010-01-01", periods=n_dates).to_numpy().astype("datetime64[D]")
        return LabelPanel(
            dates=np.repeat(days, self._design.n_rows),
            x=drawn.x.reshape(-1, drawn.x.shape[-1]),
            y=drawn.y.ravel(),
            features=tuple(f"x{i}" for i in range(drawn.x.shape[-1])),
        )


class _Steps:
    """The steps after an alarm, as the drift, train and promote stages take them day by day."""

    def __init__(
        self,
        panel: LabelPanel,
        strategy: Strategy,
        champion: Model,
        settings: Settings,
        control: TrainingControl,
        *,
        seed: int,
        change: Change,
    ) -> None:
        self._panel, self._strategy, self._champion = panel, strategy, champion
        self._settings, self._control, self._seed, self._change = settings, control, seed, change
        self._first = champion.held_out[1]
        year = champion.live(panel, self._first + CHANGE_AT + TRADING_DAYS)
        self._watched = Watched(champion.judged(panel), year, horizon_dates=strategy.training.horizon_dates)
        self._horizon = strategy.training.horizon_dates
        self._earlier: list[dict[str, Any]] = []
        self._spent = 0.0

    def taken(self, alarm: Alarm) -> Replacement:
        """Train and decide until a version replaces the champion, for a year after the change."""
        true = self._first + CHANGE_AT
        if alarm.at is None or alarm.change_at is None:
            return self._result(alarm, None, None)
        least, after = least_dates(self._horizon), self._first + alarm.at + 1
        while after + self._horizon <= true + TRADING_DAYS:
            self._control.check()
            located = self._watched.located(after - self._first)
            since = after if located is None else self._first + located
            if after - since >= least:
                challenger = self._trained(since, after)
                if challenger is not None and self._decided(challenger, since, after) == "promote":
                    return self._result(alarm, after, challenger)
                least = next_dates(after - since)
            after += 1
        return self._result(alarm, None, None)

    def _trained(self, since: int, after: int) -> Model | None:
        try:
            return train(
                self._panel,
                self._strategy,
                begin=since,
                after=after,
                settings=self._settings,
                control=self._control,
                since=True,
            )
        except InsufficientData:
            return None

    def _decided(self, challenger: Model, since: int, after: int) -> str:
        policy, metric = self._strategy.promotion, self._strategy.promotion.main_metric
        ours, theirs = (self._rows(one, *challenger.held_out) for one in (challenger, self._champion))
        before = self._rows(self._champion, max(self._champion.held_out[0], since - _BEFORE), since)
        share = majority_class_share(self._panel.y[self._panel.rows(since, challenger.held_out[0])])
        metrics = [
            evaluate_classifier(one.y, one.probability, train_positive_share=share).metrics for one in (ours, theirs)
        ]
        n_dates = challenger.held_out[1] - challenger.held_out[0]
        is_enough = n_dates >= MIN_BLOCKS * max(1, self._horizon)
        name = f"{since}-{after}"
        common = CommonDates(
            first=str(ours.dates[0]),
            last=str(ours.dates[-1]),
            n_dates=n_dates,
            n_rows=len(ours.y),
            data_fingerprint=name,
            champion_data_fingerprint=name,
            is_enough=is_enough,
            challenger=metrics[0],
            champion=metrics[1],
            parts_challenger=date_parts(metric, ours),
            parts_champion=date_parts(metric, theirs),
            predictions_challenger=name,
            champion_before=None if is_enough else influence(metric, date_parts(metric, before)),
        )
        evidence = evidence_of(
            Facts(
                kind="pipeline",
                as_of=None,
                version=name,
                metrics=metrics[0],
                model_sha256=name,
                data_fingerprint=name,
                holdout=(None, None),
                champion={"version": "1", "seq": 1},
                policy=policy,
                horizon_dates=self._horizon,
                seed=SEED,
                tuning_trials=0,
                earlier_challengers=tuple(self._earlier),
                error_spent=round(self._spent, 9),
                code={},
                common=common,
            )
        )
        error = evidence["error"] or {"spends": 0.0, "level": None}
        self._spent += error["spends"]
        self._earlier.append(
            {
                "version": name,
                "model_sha256": name,
                "rows": name,
                "predictions": name,
                "level": error["level"],
                "metric": metric,
                "margin": policy.margin,
                "missed": [],
            }
        )
        return str(evidence["decision"])

    def _rows(self, model: Model, begin: int, after: int) -> ScoredRows:
        scored = Scored.of(self._panel, model.twin, begin, after)
        return ScoredRows(
            dates=self._panel.dates[self._panel.rows(begin, after)],
            y=scored.y,
            probability=scored.probability,
            target_return=None,
        )

    def _result(self, alarm: Alarm, after: int | None, model: Model | None) -> Replacement:
        areas: tuple[float | None, float | None] = (None, None)
        if after is not None and model is not None:
            begin = after + self._horizon
            old, new = (
                Scored.of(self._panel, one.refit, begin, begin + BETTER_DATES).roc_auc
                for one in (self._champion, model)
            )
            areas = old, new
        # The labels of the dates before `after` are known a horizon later.
        return Replacement(
            seed=self._seed,
            change=self._change,
            alarm=None if alarm.at is None else alarm.at + self._horizon - CHANGE_AT,
            n_trainings=len(self._earlier),
            replaced=None if after is None else after - 1 + self._horizon - self._first - CHANGE_AT,
            old_auc=areas[0],
            new_auc=areas[1],
        )
