"""Experiments and rollbacks on a history of prices, day by day, by models of the product's trainer and its own rules.

A model is trained as of a day on what was known then, and predicts the days that follow. Each day's difference, the
guardrails and the decision are the product's. What is wrong with the worse version is planted, in what it is asked
about: the features of another name of the date (`names mixed`: the order of names is lost, and how many are called
positive is not), or each feature in the place of another one (`features mixed`). Called by `acis evaluate-experiments`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.experiment_history import Days, History, Vector
from lab.experiment_walk import walk
from mlops.domain.errors import DataError
from mlops.domain.experiments.decision import Action, Guardrail, Mode
from mlops.domain.experiments.duration import planned_days, planned_watch_days
from mlops.domain.experiments.guardrails import PairedAnswers, guard_answers
from mlops.domain.experiments.policy import ExperimentPolicy, GuardrailPolicy
from mlops.domain.experiments.records import Measure
from mlops.domain.experiments.rollback import FormerChampion, RollbackAction, RollbackFacts, evidence_of
from mlops.domain.experiments.sequence import confidence_sequence, mixture_variance
from mlops.domain.labels import is_return
from mlops.domain.training.trading import TRADING_DAYS
from mlops.stages.live.pairs import MIN_DATES, RECENT_DATES
from mlops.stages.scoring import positive_probability

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy

PERIODS = ((2007, 2009), (2019, 2021))
"""First and last year in which experiments start"""
STARTS = ("03-31", "06-30", "09-30", "12-31")
"""As-of days of a year, from the end of the year before the period on"""
LONG_WATCH = 252
"""Days for which some of the former champions are watched; the others for `watch_days` of the policy"""
OLD_YEARS = 5
DECAYS_AFTER = 20
"""Scored days on which a champion that decays is as it was"""
_SEED = 17


def _said(model: Any, features: Sequence[str], days: Days) -> Vector:  # noqa: ANN401 -- an XGBClassifier
    x = days.table[list(features)].to_numpy(dtype=np.float32)
    return positive_probability(model, np.where(np.isfinite(x), x, np.float32(np.nan)))


Planted = Callable[[Any, Sequence[str], Days], Vector]
"""What a model says of rows, with something wrong or not."""


def _names_mixed(model: Any, features: Sequence[str], days: Days) -> Vector:  # noqa: ANN401
    said, rng = _said(model, features, days), np.random.default_rng(_SEED)
    _, first = np.unique(days.dates, return_index=True)
    for place, after in zip(first, np.append(first[1:], len(said)), strict=True):
        said[place:after] = rng.permutation(said[place:after])
    return said


def _features_mixed(model: Any, features: Sequence[str], days: Days) -> Vector:  # noqa: ANN401
    order = np.random.default_rng(_SEED).permutation(len(features))
    return _said(model, [features[place] for place in order], days)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is compared, in a canary where nothing else is said."""

    name: str
    planted: tuple[Planted, Planted]
    """In what the challenger says, and the champion; of a rollback: the champion from its decay on, and before"""
    champion_years: int = 0
    """That the champion was trained before the challenger"""
    mode: Mode = Mode.CANARY
    by_bare_move: bool = False
    """By the next date's absolute return, not in units of the name's own volatility: how not to do it"""
    is_rollback: bool = False
    watch_days: int | None = None
    """Of a rollback; None: the policy's"""


CASES = (
    Case(name="good challenger, champion's names mixed", planted=(_said, _names_mixed)),
    Case(name="good challenger, champion's features mixed", planted=(_said, _features_mixed)),
    Case(
        name=f"new challenger, champion of {OLD_YEARS} years before", planted=(_said, _said), champion_years=OLD_YEARS
    ),
    Case(name="new challenger, champion of a year before", planted=(_said, _said), champion_years=1),
    Case(name="challenger's names mixed, in shadow", planted=(_names_mixed, _said), champion_years=1, mode=Mode.SHADOW),
    Case(name="challenger's names mixed", planted=(_names_mixed, _said), champion_years=1),
    Case(
        name="challenger's names mixed, scored by the bare absolute return",
        planted=(_names_mixed, _said),
        champion_years=1,
        by_bare_move=True,
    ),
    Case(
        name="challenger's features mixed, in shadow",
        planted=(_features_mixed, _said),
        champion_years=1,
        mode=Mode.SHADOW,
    ),
    Case(name="challenger's features mixed", planted=(_features_mixed, _said), champion_years=1),
    *(
        Case(
            name=name + ("" if days is None else f", watched for {days} days"),
            planted=(worse, _said),
            is_rollback=True,
            watch_days=days,
        )
        for name, worse in (
            ("champion decays: names mixed", _names_mixed),
            ("champion decays: features mixed", _features_mixed),
            ("champion as it was", _said),
        )
        for days in (None, LONG_WATCH)
    ),
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one experiment, or one watch over a champion, went."""

    strategy: str
    as_of: date
    end: str
    """Of an experiment its `Action`, of a watch its `RollbackAction`"""
    day: int
    """Scored days until then; of a champion that decays from the decay on"""
    step: int
    by_guardrail: bool
    sharpe: float
    """Annual, of the challenger's difference; of a watch: of the former champion's, from the decay on"""
    apart: tuple[float, float]
    """Largest value of the guardrails of the positive share and of the calibration, over all days until the deadline,
    whether it had ended or not"""
    words: str


def replay(
    history: History,
    case: Case,
    starts: Sequence[date],
    *,
    policy: ExperimentPolicy,
    advance: Callable[[], None] = lambda: None,
) -> Iterator[Ended]:
    """Run the case from each day on; days without the history for it are left out. advance : called after each"""
    is_volatility = history.measure is Measure.INCREMENT and not is_return(history.label.column)
    for as_of in starts:
        if case.by_bare_move and not is_volatility:
            advance()
            continue
        try:
            found = (
                _rolled_back(history, case, as_of, policy) if case.is_rollback else _ended(history, case, as_of, policy)
            )
        except DataError:
            found = None
        advance()
        if found is not None:
            yield found


def starts_of(period: tuple[int, int], *, every: int = 1) -> list[date]:
    """As-of days of a period: the end of each quarter, from that before the first year on."""
    first, last = period
    days = [date.fromisoformat(f"{year}-{day}") for year in range(first - 1, last + 1) for day in STARTS]
    return [day for day in days if date(first - 1, 12, 1) < day < date(last, 12, 1)][::every]


def _before(as_of: date, years: int) -> date:
    return as_of.replace(year=as_of.year - years)


def _r(history: History, days: Days, one: Vector, other: Vector, *, alpha: float, n_days: float) -> float:
    """Mixture that is fixed beforehand, by dates on which the challenger was judged."""
    _, values = history.differences(days, one, other)
    return mixture_variance(spread=float(np.std(values)) if len(values) else 0.0, days=n_days, alpha=alpha)


def _ended(history: History, case: Case, as_of: date, policy: ExperimentPolicy) -> Ended | None:
    challenger, champion = history.model(as_of), history.model(_before(as_of, case.champion_years))
    says_challenger, says_champion = case.planted
    before, days = history.held_out(challenger), history.after(as_of, policy.deadline_days)
    if case.by_bare_move:
        before, days = (replace(rows, part=rows.move) for rows in (before, days))
    r = _r(
        history,
        before,
        says_challenger(challenger.judge, challenger.features, before),
        # Both are asked about dates that neither learnt.
        says_champion(champion.registered if case.champion_years else champion.judge, champion.features, before),
        alpha=policy.alpha,
        n_days=planned_days(policy.sharpe, alpha=policy.alpha),
    )
    one = says_challenger(challenger.registered, challenger.features, days)
    other = says_champion(champion.registered, champion.features, days)
    dates, values = history.differences(days, one, other)
    if not len(values):
        return None
    guarded = _Guarded(days, one, other, horizon_dates=history.horizon_dates)
    found = walk(values, policy=policy, r=r, mode=case.mode, guardrails=lambda day: guarded.on(dates[day - 1]))
    return Ended(
        strategy=history.strategy.name,
        as_of=as_of,
        end=str(found.end),
        day=found.day,
        step=found.step,
        by_guardrail=found.end is Action.ABORT,
        sharpe=_sharpe(values),
        apart=guarded.largest(),
        words=found.words,
    )


def _sharpe(values: Vector) -> float:
    spread = float(np.std(values))
    return float(np.mean(values)) / spread * math.sqrt(TRADING_DAYS) if spread > 0 else 0.0


class _Guarded:
    """Guardrails of a version beside another one, as they were known on a day."""

    def __init__(self, days: Days, one: Vector, other: Vector, *, horizon_dates: int) -> None:
        self._rows, self._one, self._other, self._horizon = days, one, other, horizon_dates
        self._days, self._first = np.unique(days.dates, return_index=True)
        self._policy = GuardrailPolicy()
        self._found: dict[np.datetime64, tuple[Guardrail, ...]] = {}

    def on(self, day: np.datetime64) -> tuple[Guardrail, ...]:
        """Give those of a day."""
        if day not in self._found:
            self._found[day] = self._compared(day)
        return self._found[day]

    def _compared(self, day: np.datetime64) -> tuple[Guardrail, ...]:
        """Compare what both called positive of the newest dates, and how calibrated they are where labels are known."""
        place = int(np.searchsorted(self._days, day))
        after = int(np.append(self._first, len(self._rows.dates))[place + 1])
        enough = np.flatnonzero(after - self._first[: place + 1] >= self._policy.min_answers)
        begin = min(int(enough[-1]) if len(enough) else 0, max(0, place + 1 - RECENT_DATES))
        found = []
        if place + 1 - begin >= MIN_DATES:
            found.append(guard_answers(self._answers(slice(int(self._first[begin]), after)), self._policy)[0])
        # The next day's return is known, so that it is the day after; labels of `horizon` dates before that are.
        ripe = int(self._first[max(0, place + 2 - self._horizon)])
        calibration = guard_answers(self._answers(slice(0, ripe)), self._policy)[1]
        return (*found, calibration) if calibration.is_known else tuple(found)

    def largest(self) -> tuple[float, float]:
        """Give the largest value of each on any day, 0 where it was never known."""
        found = [one for day in self._days for one in self.on(day) if one.is_known]
        share, calibration = (
            max((one.value for one in found if one.name == name), default=0.0)
            for name in ("positive share", "calibration")
        )
        return share, calibration

    def _answers(self, on: slice) -> PairedAnswers:
        rows = self._rows
        return PairedAnswers(one=self._one[on], other=self._other[on], y=rows.y[on], known=rows.known[on])


def _rolled_back(history: History, case: Case, as_of: date, policy: ExperimentPolicy) -> Ended | None:
    """Watch two former champions, of one and two years before, beside a champion that decays."""
    policy = replace(policy, watch_days=case.watch_days or policy.watch_days)
    champion = history.model(as_of)
    former = [history.model(_before(as_of, years)) for years in (1, 2)]
    days = history.after(as_of, policy.watch_days)
    worse, whole = (says(champion.registered, champion.features, days) for says in case.planted)
    calendar = np.unique(days.dates)
    decayed = days.dates >= calendar[min(DECAYS_AFTER, len(calendar) - 1)]
    ours = np.where(decayed, worse, whole)
    theirs = [_said(one.registered, one.features, days) for one in former]
    before = history.held_out(champion)
    level = policy.alpha / len(former)
    each = []
    for model, said in zip(former, theirs, strict=True):
        dates, values = history.differences(days, said, ours)
        was = _said(model.registered, model.features, before)
        r = _r(
            history,
            before,
            was,
            np.full(len(was), 0.5),
            alpha=level,
            n_days=planned_watch_days(policy, alpha=level),
        )
        each.append((model, dates, values, r, _Guarded(days, ours, said, horizon_dates=history.horizon_dates)))
    if not all(len(values) for _, _, values, _, _ in each):
        return None
    lows = [confidence_sequence(values, r=r, alpha=level).low for _, _, values, r, _ in each]
    found: dict[str, Any] = {"action": RollbackAction.NONE, "to": None, "words": ""}
    for day in calendar:
        known = [int(np.searchsorted(dates, day, side="right")) for _, dates, _, _, _ in each]
        guards = [guarded.on(day) for *_, guarded in each]
        is_better = any(k and low[k - 1] > 0 for k, low in zip(known, lows, strict=True))
        if not is_better and not any(one.is_broken for of_one in guards for one in of_one):
            continue  # nothing speaks against the champion, so that the product decides nothing
        facts = RollbackFacts(
            strategy=history.strategy.name,
            as_of=str(day),
            champion={"version": "3", "seq": 3, "model_sha256": "", "promotion_id": 3},
            measure=str(history.measure),
            why_not=None,
            mode="automatic",
            alpha=policy.alpha,
            cooldown_days=policy.rollback_cooldown_days,
            days_since_rollback=None,
            former=[
                FormerChampion(
                    version=version,
                    model_sha256=version,
                    made_by=None,
                    is_watched=True,
                    r=r,
                    differences=tuple(zip(dates[:k].astype(str).tolist(), values[:k].tolist(), strict=True)),
                    guardrails=guards[place],
                )
                for place, (version, k, (_, dates, values, r, _)) in enumerate(zip("21", known, each, strict=True))
            ],
        )
        found = evidence_of(facts)
        if found["action"] != RollbackAction.NONE:
            break
    _, dates, values, _, _ = each[0]
    on = dates >= calendar[min(DECAYS_AFTER, len(calendar) - 1)]
    return Ended(
        strategy=history.strategy.name,
        as_of=as_of,
        end=f"{found['action']} to {found['to']}" if found["to"] else str(found["action"]),
        day=int(np.searchsorted(calendar, day)) + 1 - DECAYS_AFTER,
        step=0,
        by_guardrail="breaks a guardrail" in found["words"],
        sharpe=_sharpe(values[on]),
        apart=each[0][-1].largest(),
        words=str(found["words"]),
    )


# ---- Summary


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Experiments of a case in a period, all strategies of a label together."""

    case: str
    label: str
    period: str
    n: int
    ends: dict[str, int]
    """How many ended how"""
    days: tuple[float, float, float] | None
    """Least, median and most days of those that were decided; None: none was"""
    in_first_step: int
    """That ended before the second step"""
    by_guardrail: int
    sharpe: float
    """Median, annual, of the difference"""
    years: float
    """That a difference of this ratio takes to be decided"""
    apart: tuple[tuple[float, ...], tuple[float, ...]]
    """5, 50 and 95 % quantiles of `Ended.apart`"""


_OPEN = {str(Action.UNDECIDED), str(Action.WAIT), str(RollbackAction.NONE)}


def summarise(case: Case, label: str, period: tuple[int, int], found: Sequence[Ended], *, alpha: float) -> Summary:
    """Put experiments together."""
    decided = [one.day for one in found if one.end not in _OPEN]
    ratio = float(np.median([one.sharpe for one in found]))
    c = 2 * math.log(1 / alpha)
    return Summary(
        case=case.name,
        label=label,
        period=f"{period[0]}-{period[1]}",
        n=len(found),
        ends={end: sum(one.end == end for one in found) for end in sorted({one.end for one in found})},
        days=None if not decided else (min(decided), float(np.median(decided)), max(decided)),
        in_first_step=sum(one.step == 0 and one.end not in _OPEN for one in found),
        by_guardrail=sum(one.by_guardrail for one in found),
        sharpe=ratio,
        # As in `duration.planned_days`, without its bound.
        years=(c + math.log1p(c)) / max(ratio**2, 1e-9),
        apart=(_quantiles([one.apart[0] for one in found]), _quantiles([one.apart[1] for one in found])),
    )


def _quantiles(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(np.quantile(values, (0.05, 0.5, 0.95)).tolist())


def with_label(strategy: Strategy, label: str) -> Strategy:
    """Give the strategy with another label."""
    return replace(strategy, training=replace(strategy.training, label=label))
