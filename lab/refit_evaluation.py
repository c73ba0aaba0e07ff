"""Evaluation of the refit: the dates after a training, scored with it and without, and its distance from its twin.

At each of several past dates the judged twin and the refit are trained as the product trains them and predict the
dates that came next. Beside them models that a refit must not be taken for, or may be: the twin on a part of its
blocks of dates, the refit of labels in a random order. Called by `acis evaluate-refit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.stats import t
from sklearn.metrics import log_loss, roc_auc_score

from mlops.domain.errors import DataError, InsufficientData
from mlops.domain.ports import Progress
from mlops.domain.promotion.bootstrap import INTERVAL
from mlops.domain.training.leakage import rows_to_look_at
from mlops.domain.training.refit_distance import refit_distance
from mlops.domain.training.splits import all_known
from mlops.stages.fitting import QuietControl, fit, fit_twin_and_refit
from mlops.stages.labelled_rows import read_labelled, split_rows
from mlops.stages.scoring import positive_probability

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource, TrainingControl
    from mlops.stages.labelled_rows import LabelledRows

NEXT_DATES = 60
"""Dates after a training on which both models are scored"""
METRICS = ("log_loss", "roc_auc")
_LEAST_BLOCKS = 2
REFIT, PART, RANDOM = "refit", "twin on 63 % of its dates", "refit of random labels"


@dataclass(frozen=True, kw_only=True)
class NextDates:
    """One training, and the dates that came next."""

    strategy: str
    as_of: date
    last: date
    """Last of the next dates"""
    age_single: int
    """Dates between the last training date of the judged model and the date of the training"""
    age_refit: int
    single: Mapping[str, float]
    """Metrics of the judged model on the next dates; no `roc_auc` where they have labels of one class"""
    refit: Mapping[str, float]
    distances: Mapping[str, float]
    """From the judged model: of the refit, and of what stands beside it"""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of the next dates with the refit and without."""

    metric: str
    single: float
    refit: float
    value: float
    """The refit's minus the judged model's"""
    low: float
    high: float
    """90 % interval"""
    n_blocks: int
    """Successive stretches of dates, each of all strategies: one observation each"""


def evaluate_refit(
    source: FeatureSource,
    strategy: Strategy,
    *,
    calendar: Sequence[date],
    n: int,
    settings: Settings,
    control: TrainingControl,
) -> tuple[list[NextDates], list[str]]:
    """Train as of every 60th date and score the next dates; those that cannot be trained or scored as well, with why.

    calendar : dates of all panels that are compared, ascending, so that they share as-of and next dates
    n : as-of dates, back from the newest after which the labels of the next dates are known
    """
    long = replace(strategy, training=replace(strategy.training, training_days=36_500))
    whole, found, left_out = read_labelled(source, long, as_of=calendar[-1]), [], []
    places = _places(len(calendar), strategy.training.horizon_dates)[:n]
    for done, place in enumerate(places):
        control.check()
        control.report(Progress(done=done, total=len(places), unit="as-of dates"))
        as_of, after = calendar[place], calendar[place + 1 : place + 1 + NEXT_DATES]
        try:
            rows = read_labelled(source, strategy, as_of=as_of)
            found.append(_next_dates(rows, whole, strategy, as_of, after, settings, QuietControl(control)))
        except DataError as exc:
            left_out.append(f"{strategy.name} as of {as_of}: {exc}")
    return found, left_out


def _places(n_dates: int, horizon_dates: int) -> range:
    """Places of the as-of dates, the newest first."""
    return range(n_dates - 1 - NEXT_DATES - horizon_dates, -1, -NEXT_DATES)


def _next_dates(
    rows: LabelledRows,
    whole: LabelledRows,
    strategy: Strategy,
    as_of: date,
    after: Sequence[date],
    settings: Settings,
    quiet: TrainingControl,
) -> NextDates:
    policy = strategy.training
    on = whole.known & np.isin(whole.dates, np.array(after, dtype="datetime64[D]"))
    if not on.any():
        message = f"no row of the {len(after)} dates after {as_of} has a label; give prices without so long a gap"
        raise InsufficientData(message)
    split = split_rows(rows, policy)
    everything = all_known(split, rows.dates, rows.known)
    both = fit_twin_and_refit(policy, rows, split, everything, settings=settings, control=quiet)
    single, refit = (
        _scored(whole.y[on], positive_probability(one.model, whole.x[on])) for one in (both.twin, both.refit)
    )
    rng = np.random.default_rng(policy.seed)
    drawn = replace(split, train=split.train & _some_blocks(rows.dates, split.train, policy.horizon_dates, rng))
    shuffled = rows.y.copy()
    shuffled[rows.known] = rng.permutation(shuffled[rows.known])
    beside = {
        PART: fit(policy, rows, drawn, settings=settings, control=quiet).model,
        RANDOM: fit(policy, replace(rows, y=shuffled), everything, settings=settings, control=quiet).model,
        REFIT: both.refit.model,
    }
    looked_at = rows.x[rows_to_look_at(rows.x, rows.y, rows.marks, on=split.train)]
    of_twin = positive_probability(both.twin.model, looked_at)
    dates = np.unique(rows.dates)
    ages = [int(np.sum(dates > np.datetime64(one.last_train))) for one in (split, everything)]
    return NextDates(
        strategy=strategy.name,
        as_of=as_of,
        last=after[-1],
        age_single=ages[0],
        age_refit=ages[1],
        single=single,
        refit=refit,
        distances={
            name: refit_distance(of_twin, positive_probability(model, looked_at), bound=1.0).value
            for name, model in beside.items()
        },
    )


def _some_blocks(
    dates: npt.NDArray[np.datetime64], on: npt.NDArray[np.bool_], horizon: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Rows of as many blocks of dates as n draws of n with replacement hit: a subsample, of 1 - 1 / e on average."""
    days = np.unique(dates[on])
    block = np.searchsorted(days, dates) // max(1, horizon)
    n = int(block[on].max()) + 1
    return np.isin(block, rng.integers(0, n, n))


def _scored(y: npt.NDArray[np.int8], probability: npt.NDArray[np.float64]) -> dict[str, float]:
    found = {"log_loss": float(log_loss(y, probability, labels=[0, 1]))}
    return found | ({"roc_auc": float(roc_auc_score(y, probability))} if len(np.unique(y)) > 1 else {})


def differences(found: Iterable[NextDates]) -> list[Difference]:
    """Compare with the refit and without, over all strategies.

    The strategies of one as-of date share its shocks, and the next dates their models, so that each as-of date is one
    observation: Student's interval of its means. Raises InsufficientData where there are fewer than two.
    """
    by_date = [list(group) for _, group in groupby(sorted(found, key=lambda one: one.as_of), key=lambda one: one.as_of)]
    if len(by_date) < _LEAST_BLOCKS:
        message = (
            f"an interval needs trainings as of {_LEAST_BLOCKS} dates at least, {NEXT_DATES} dates apart, found "
            f"{len(by_date)}; give a longer history, or prices without gaps, or lower --holdout-dates"
        )
        raise InsufficientData(message)
    return [_difference(metric, by_date) for metric in METRICS]


def _difference(metric: str, by_date: Sequence[Sequence[NextDates]]) -> Difference:
    known = [[one for one in group if metric in one.single] for group in by_date]
    pairs = [np.mean([(one.single[metric], one.refit[metric]) for one in group], axis=0) for group in known if group]
    if len(pairs) < _LEAST_BLOCKS:
        message = f"the next dates of {len(pairs)} trainings have labels of both classes, which {metric} needs; "
        raise InsufficientData(message + "give a longer history, or more names")
    single, refit = np.transpose(pairs)
    gained = refit - single
    half = float(t.ppf(INTERVAL[1], len(gained) - 1) * np.std(gained, ddof=1) / np.sqrt(len(gained)))
    mean = float(gained.mean())
    return Difference(
        metric=metric,
        single=float(single.mean()),
        refit=float(refit.mean()),
        value=mean,
        low=mean - half,
        high=mean + half,
        n_blocks=len(gained),
    )
