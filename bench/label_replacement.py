"""How many dates after a change of the labels' relation a champion is replaced by one that learnt the new relation.

    .venv/bin/python bench/label_replacement.py [--json] [--seeds 10] [--names 50] [--dates-before 80]

SEA and STAGGER panels whose labels are turned around on one date (`lab/label_streams.py`), with the product's own parts
from the watch to the decision and its defaults: a label of 20 dates, 60 held out, the documented parameters. The gate
of the accuracy is at .6, since a coin draws a part of the labels. The champion is trained `--dates-before` dates
before the change. Each date is a check; `weekly`: with a forced retraining every five dates, each of which spends a
part of the year's error; `still`: no change, in as many dates.

    AUC               the champion's from the change on, within a date; median of the seeds
    alarm, replaced   median dates after the change; `within 60`: replaced by then, of so many seeds
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from lab.label_streams import STREAMS, StreamName, draw_stream
from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.label_watch import watch_labels
from mlops.domain.policies import PromotionPolicy, TrainingPolicy
from mlops.domain.promotion.date_parts import Parts, ScoredRows, date_parts, influence
from mlops.domain.promotion.error_budget import allowance
from mlops.domain.promotion.paired import compare_on_dates
from mlops.domain.promotion.policy import Decision, Incumbent, decide
from mlops.domain.training.metrics import evaluate_classifier, majority_class_share
from mlops.domain.training.since_change import least_dates, next_dates, policy_since
from mlops.domain.training.splits import labelled_dates, split_by_date

FIRST = np.datetime64("2020-01-01")
TRAINING, PROMOTION = TrainingPolicy(), PromotionPolicy(min_accuracy=0.6)
#: Dates that the champion had to learn from and to be judged on, and those that are looked at after a change.
BEFORE_TRAINING, AFTER = 300, 75
#: Share of the labels that a coin draws.
COINS = (0.2, 0.5)
WEEK = 5


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Rows by date."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int8]
    dates: npt.NDArray[np.datetime64]

    def of(self, dates: npt.NDArray[np.datetime64]) -> npt.NDArray[np.bool_]:
        """(n,) rows of these dates."""
        return np.isin(self.dates, dates)


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What came of a seed; dates after the change."""

    alarm: int | None
    replaced: int | None
    auc: float
    """Champion's, of the dates from the change on"""


def replacement(
    name: StreamName, *, coin: float, seed: int, names: int, before: int, weekly: bool, changes: bool
) -> Replacement:
    """Follow one panel."""
    change_at = BEFORE_TRAINING + before
    stream = draw_stream(
        name,
        coin=coin,
        n_dates=change_at + AFTER,
        n_rows=names,
        change="turned" if changes else "none",
        change_at=change_at,
        rng=np.random.default_rng(seed),
    )
    n = len(stream.y)
    panel = Panel(
        x=stream.x.reshape(n * names, -1), y=stream.y.reshape(-1), dates=np.repeat(FIRST + np.arange(n), names)
    )
    champion = Champion(panel, trained_at=BEFORE_TRAINING)
    alarm, tried, spent = None, 0, 0.0
    for at in range(BEFORE_TRAINING + 1, n):
        if weekly and at % WEEK == 0:  # its challenger is as good as the champion, or as wrong
            spent += allowance(float(PROMOTION.yearly_error or 0.0), spent, has_gates=True).spends
        watched = watch_labels(
            champion.days(at),
            held_out=champion.held_out,
            as_of=_day(at),
            horizon_dates=TRAINING.horizon_dates,
            alpha=0.05,
        )
        if watched.change_at is None:
            continue
        alarm = at - change_at if alarm is None else alarm
        since = np.datetime64(watched.change_at)
        known = labelled_dates(panel.dates, as_of=_day(at), horizon_dates=TRAINING.horizon_dates)
        labelled = known[known >= since]
        if len(labelled) < (next_dates(tried) if tried else least_dates(TRAINING.horizon_dates)):
            continue
        tried = len(labelled)
        level = allowance(float(PROMOTION.yearly_error or 0.0), spent, has_gates=False)
        spent += level.spends
        if champion.challenged(since, labelled, level=level.test).decision == "promote":
            return Replacement(alarm=alarm, replaced=at - change_at, auc=champion.auc_from(change_at))
    return Replacement(alarm=alarm, replaced=None, auc=champion.auc_from(change_at))


class Champion:
    """A refit, its judged twin, and what they say of every date."""

    def __init__(self, panel: Panel, *, trained_at: int) -> None:
        self._panel = panel
        horizon = TRAINING.horizon_dates
        known = labelled_dates(panel.dates, as_of=_day(trained_at), horizon_dates=horizon)
        split = split_by_date(
            panel.dates,
            panel.of(known),
            horizon_dates=horizon,
            holdout_dates=TRAINING.holdout_dates,
            embargo_dates=TRAINING.embargo_dates,
        )
        self._twin, refit = fitted(panel, split.train), fitted(panel, panel.of(known))
        self._first_unseen = np.datetime64(split.first_holdout)
        scores = (scored(panel, self._twin, split.holdout), scored(panel, refit, panel.dates > known[-1]))
        self.held_out, self._days = scores

    def days(self, at: int) -> dict[date, DayScore]:
        """Scores of the dates since its training up to one."""
        return {day: score for day, score in self._days.items() if day <= _day(at)}

    def auc_from(self, at: int) -> float:
        """Share of the pairs of names of the same date that are in the right order, from a date on."""
        since = [score for day, score in self._days.items() if day >= _day(at)]
        return sum(score.pairs_won for score in since) / sum(score.n_pairs for score in since)

    def challenged(self, since: np.datetime64, labelled: npt.NDArray[np.datetime64], *, level: float) -> Decision:
        """What becomes of a challenger that is trained on the labelled dates since a change."""
        panel = self._panel
        rows = panel.of(labelled)
        policy = policy_since(TRAINING, n_labelled=len(labelled))
        split = split_by_date(
            panel.dates[rows],
            np.ones(int(rows.sum()), dtype=np.bool_),
            horizon_dates=policy.horizon_dates,
            holdout_dates=policy.holdout_dates,
            embargo_dates=policy.embargo_dates,
        )
        train, holdout = (np.zeros(len(rows), dtype=np.bool_) for _ in range(2))
        train[rows], holdout[rows] = split.train, split.holdout
        challenger = fitted(panel, train, policy)
        earlier = (panel.dates >= self._first_unseen) & (panel.dates < since)
        test = compare_on_dates(
            PROMOTION.main_metric,
            challenger=parts(panel, challenger, holdout),
            champion=parts(panel, self._twin, holdout),
            horizon_dates=policy.horizon_dates,
            margin=PROMOTION.margin,
            confidence=PROMOTION.confidence,
            level=level,
            champion_before=influence(PROMOTION.main_metric, parts(panel, self._twin, earlier)),
        )
        metrics = evaluate_classifier(
            panel.y[holdout],
            challenger.predict_proba(panel.x[holdout])[:, 1],
            train_positive_share=majority_class_share(panel.y[train]),
        ).metrics
        return decide(PROMOTION, metrics=metrics, incumbent=Incumbent(version="1", test=test, missed=()))


def fitted(panel: Panel, on: npt.NDArray[np.bool_], policy: TrainingPolicy = TRAINING) -> xgb.XGBClassifier:
    """A model of the policy's parameters."""
    model = xgb.XGBClassifier(**policy.params, random_state=TRAINING.seed, n_jobs=1)
    return model.fit(panel.x[on], panel.y[on])


def scored(panel: Panel, model: xgb.XGBClassifier, on: npt.NDArray[np.bool_]) -> dict[date, DayScore]:
    """A model's scores of dates."""
    probability = model.predict_proba(panel.x[on])[:, 1].astype(np.float64)
    y, dates = panel.y[on], panel.dates[on]
    days, starts = np.unique(dates, return_index=True)
    every = zip(days.tolist(), starts, np.append(starts[1:], len(y)), strict=True)
    return {day: score_day(probability[a:b], y[a:b], np.ones(b - a, dtype=np.bool_)) for day, a, b in every}


def parts(panel: Panel, model: xgb.XGBClassifier, on: npt.NDArray[np.bool_]) -> Parts:
    """What each date contributes to the main metric."""
    probability = model.predict_proba(panel.x[on])[:, 1].astype(np.float64)
    rows = ScoredRows(dates=panel.dates[on], y=panel.y[on], probability=probability, target_return=None)
    return date_parts(PROMOTION.main_metric, rows)


def _day(at: int) -> date:
    return date(2020, 1, 1) + timedelta(days=at)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--names", type=int, default=50)
    parser.add_argument("--dates-before", type=int, default=80)
    options = parser.parse_args()
    figures: list[dict[str, Any]] = []
    print(f"{'stream':8} {'coin':>4} {'':7} {'AUC':>4} {'alarms':>6} {'alarm':>6} {'replaced':>8} {'within 60':>9}")
    for name in STREAMS:
        for coin in COINS:
            for weekly, changes in ((False, True), (True, True), (False, False)):
                found = [
                    replacement(
                        name,
                        coin=coin,
                        seed=seed,
                        names=options.names,
                        before=options.dates_before,
                        weekly=weekly,
                        changes=changes,
                    )
                    for seed in range(options.seeds)
                ]
                figures.append(row(name, coin, "still" if not changes else "weekly" if weekly else "", found))
    if options.json:
        print(json.dumps({"figures": figures}))
    return 0


def row(name: str, coin: float, what: str, found: list[Replacement]) -> dict[str, Any]:
    """Print one line, and give it."""
    alarms = [one.alarm for one in found if one.alarm is not None]
    replaced = [one.replaced for one in found if one.replaced is not None]
    within = sum(one <= 60 for one in replaced)
    shown = [f"{median(part):.0f}" if part else "-" for part in (alarms, replaced)]
    auc = median(one.auc for one in found)
    print(
        f"{name:8} {coin:>4} {what:7} {auc:4.2f} {len(alarms):>3}/{len(found)} {shown[0]:>6} {shown[1]:>8} "
        f"{within:>6}/{len(found)}",
        flush=True,
    )
    return {
        "stream": name,
        "coin": coin,
        "what": what,
        "auc": [round(one.auc, 4) for one in found],
        "alarms": alarms,
        "replaced": replaced,
        "within_60": within,
        "seeds": len(found),
    }


if __name__ == "__main__":
    sys.exit(main())
