"""Two versions that answer side by side on panels whose truth is known: how often a test errs, and how long it takes.

A name's daily return is a share of the market's and its own, both independent from day to day. A version sees the
return of the next `horizon` days in noise that lasts, an AR(1) over the days, as that of slow features does, and says
the probability that it is positive. Called by `acis evaluate-experiments` and `bench/experiments.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from lab.experiment_walk import walk
from mlops.domain.experiments.daily_scores import increment_difference, mark_difference
from mlops.domain.experiments.decision import Action
from mlops.domain.experiments.duration import MAX_DAYS, expected_duration, planned_days
from mlops.domain.experiments.policy import ExperimentPolicy
from mlops.domain.experiments.sequence import first_decision, mixture_variance
from mlops.domain.training.trading import TRADING_DAYS

Vector = npt.NDArray[np.float64]

ALPHA, NAMES, RATIOS = 0.05, (10, 100, 500), (0.5, 1.0, 2.0, 3.5, 7.0)
HORIZON = 20
SKILL, BETTER = 0.1, 0.15
"""Correlation of what both versions see with the return over the horizon, and of what a better one does"""
HELD_OUT = 60
"""Days before an experiment by whose marks its wait is said and its mixture set; they are none of its own"""
_SPREAD = 0.01
"""Of a name's daily return."""
_SAID = 30
"""Experiments whose wait is said beforehand"""
_SEED = 17


@dataclass(frozen=True, kw_only=True)
class ExperimentDesign:
    """Design of a simulated experiment."""

    n_names: int
    skill: tuple[float, float]
    """Correlation of what the challenger sees, and of what the champion sees, with the return over the horizon"""
    n_days: int = MAX_DAYS
    horizon: int = HORIZON
    common: float = 0.3
    """Share of a return's variance that is the market's"""
    lasting: float = 0.95
    """Autocorrelation of a version's noise"""


@dataclass(frozen=True, kw_only=True)
class Differences:
    """(k, t) the challenger's less the champion's, of k experiments on t days, and on `HELD_OUT` days before."""

    mark: Vector
    increment: Vector
    gain: Vector
    """Of the log loss of that day's labels, which look `horizon` days ahead: known only then"""
    mark_before: Vector
    increment_before: Vector
    gain_before: Vector


def simulate_differences(
    design: ExperimentDesign,
    experiments: int,
    rng: np.random.Generator,
    *,
    advance: Callable[[], None] = lambda: None,
) -> Differences:
    """Draw experiments. advance : called after each"""
    found = []
    for _ in range(experiments):
        found.append(_one(design, rng))
        advance()
    mark, increment, gain = (np.split(np.array([one[part] for one in found]), [HELD_OUT], axis=1) for part in range(3))
    return Differences(
        mark=mark[1],
        increment=increment[1],
        gain=gain[1],
        mark_before=mark[0],
        increment_before=increment[0],
        gain_before=gain[0],
    )


def _one(design: ExperimentDesign, rng: np.random.Generator) -> tuple[Vector, Vector, Vector]:
    days, n, h = HELD_OUT + design.n_days, design.n_names, design.horizon
    market = math.sqrt(design.common) * rng.normal(size=(days + h, 1))
    moves = market + math.sqrt(1 - design.common) * rng.normal(size=(days + h, n))
    so_far = np.vstack([np.zeros((1, n)), np.cumsum(moves, axis=0)])
    ahead = (so_far[h:] - so_far[:-h])[:days] / math.sqrt(h)
    challenger, champion = (calibrated_probabilities(ahead, skill, design.lasting, rng) for skill in design.skill)
    returns = _SPREAD * moves[:days]
    mark = mark_difference(challenger, champion, returns)
    increment = increment_difference(challenger, champion, returns, horizon_dates=h)
    loss = [-np.log(np.where(ahead > 0, p, 1 - p)).mean(axis=1) for p in (challenger, champion)]
    return mark, increment, loss[1] - loss[0]


def calibrated_probabilities(ahead: Vector, skill: float, lasting: float, rng: np.random.Generator) -> Vector:
    """(t, n) probabilities, calibrated, of a version that sees (t, n) standard returns with this correlation."""
    hidden = math.sqrt(1 - skill**2)
    noise = carried_on(rng.normal(size=ahead.shape), lasting)
    return np.asarray(norm.cdf(skill * (skill * ahead + hidden * noise) / hidden))


def carried_on(noise: Vector, correlation: float) -> Vector:
    """(t, …) an AR(1) of as much spread, made of (t, …) independent values."""
    found = noise.copy()
    for day in range(1, len(found)):
        found[day] = correlation * found[day - 1] + math.sqrt(1 - correlation**2) * noise[day]
    return found


def annual_sharpe(differences: Vector) -> float:
    """Annual Sharpe ratio of (k, t) daily differences, the mean of k."""
    ratios = np.mean(differences, axis=1) / np.std(differences, axis=1)
    return float(np.mean(ratios) * math.sqrt(TRADING_DAYS))


# ---- Other tests, each looked at daily


def peeked_t_test(differences: Vector, *, alpha: float, first: int = 20) -> Vector:
    """(k,) first day on which a test for a fixed end excludes 0, looked at daily from `first` on; infinite: none."""
    return _first_day(np.abs(_standardised(differences)) > norm.isf(alpha / 2), first)


def likelihood_ratio(differences: Vector, *, alpha: float, first: int = 20) -> Vector:
    """(k,) the same of the generalised likelihood ratio of a normal mean, against the bound 1 / alpha."""
    return _first_day(_standardised(differences) ** 2 / 2 > math.log(1 / alpha), first)


def hac_test(differences: Vector, *, alpha: float, lags: int, first: int = 60) -> Vector:
    """(k,) the same of a z-test whose spread has Newey and West's weights on so many lags."""
    n = np.arange(1, differences.shape[1] + 1)
    mean = np.cumsum(differences, axis=1) / n
    variance = np.cumsum(differences**2, axis=1) / n - mean**2
    for lag in range(1, lags + 1):
        products = np.zeros_like(differences)
        products[:, lag:] = differences[:, lag:] * differences[:, :-lag]
        variance += 2 * (1 - lag / (lags + 1)) * (np.cumsum(products, axis=1) / n - mean**2)
    z = mean * np.sqrt(n / np.maximum(variance, 1e-300))
    return _first_day((np.abs(z) > norm.isf(alpha / 2)) & (variance > 0), first)


def asymptotic_sequence(differences: Vector, *, alpha: float, planned: float, first: int = 20) -> Vector:
    """(k,) first day on which the asymptotic confidence sequence excludes 0; infinite: none.

    It takes the differences for independent, which those of overlapping labels are not.
    Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Time-uniform central limit theory.
    """
    n = np.arange(1, differences.shape[1] + 1)
    c = -2 * math.log(alpha)
    rho2 = (c + math.log1p(c)) / planned
    half = np.sqrt((n * rho2 + 1) / (n * rho2) * (np.log(n * rho2 + 1) + c))
    return _first_day(np.abs(_standardised(differences)) > half, first)


def _standardised(differences: Vector) -> Vector:
    """(k, t) mean so far over its standard error, as if the days were independent."""
    n = np.arange(1, differences.shape[1] + 1)
    mean = np.cumsum(differences, axis=1) / n
    spread = np.sqrt(np.maximum(np.cumsum(differences**2, axis=1) / n - mean**2, 1e-300))
    return np.asarray(mean * np.sqrt(n) / spread)


def _first_day(excluded: npt.NDArray[np.bool_], first: int) -> Vector:
    seen = excluded.copy()
    seen[:, : first - 1] = False
    return np.where(seen.any(axis=1), seen.argmax(axis=1) + 1.0, np.inf)


def sequence_days(differences: Vector, before: Vector, *, sharpe: float, alpha: float = ALPHA) -> Vector:
    """(k,) first day on which the sequence of a plan for this ratio excludes 0; infinite: none within the days.

    before : (k, n) differences of earlier days, by which the mixtures are set
    """
    found = [
        first_decision(each[None], r=_r(earlier, sharpe=sharpe, alpha=alpha), alpha=alpha)[0][0]
        for each, earlier in zip(differences, before, strict=True)
    ]
    return np.array([days or np.inf for days in found])


def _r(before: Vector, *, sharpe: float, alpha: float) -> float:
    return mixture_variance(spread=float(np.std(before)), days=planned_days(sharpe, alpha=alpha), alpha=alpha)


# ---- What is wrong without a difference


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """Experiments of two equally good versions that were decided within two years of daily looks."""

    test: str
    series: str
    n: int
    promoted: float | None
    """Share in which the challenger won: a wrong promotion, or a wrong rollback where it is a former champion. None: of
    a test that has no rule of decision behind it"""
    decided: float
    """Share in which either won"""


SEQUENCE = "sequence"


def wrong_decisions(null: Differences, *, rng: np.random.Generator) -> list[Wrong]:
    """Look daily at experiments without a difference; those of the sequence go through the product's rules."""
    gain = null.gain[:, :-HORIZON]  # known a horizon later
    planned = planned_days(ExperimentPolicy().sharpe, alpha=ALPHA)
    found = [
        _walked("marks", null.mark, null.mark_before),
        _walked("increments", null.increment, null.increment_before),
    ]
    for name, differences in _other_laws(len(null.mark), rng).items():
        found.append(_walked(name, differences[:, HELD_OUT:], differences[:, :HELD_OUT]))
    found += [
        _walked("losses of overlapping labels", gain, null.gain_before),
        _walked(f"losses of each {HORIZON}th day", _apart(gain), null.gain_before),
    ]
    others = {
        ("t-test for a fixed end", "marks"): peeked_t_test(null.mark, alpha=ALPHA),
        ("likelihood ratio", "marks"): likelihood_ratio(null.mark, alpha=ALPHA),
        ("t-test for a fixed end", "losses of overlapping labels"): peeked_t_test(gain, alpha=ALPHA),
        (f"z-test, {HORIZON} lags", "losses of overlapping labels"): hac_test(gain, alpha=ALPHA, lags=HORIZON),
        ("asymptotic sequence", "losses of overlapping labels"): asymptotic_sequence(
            gain, alpha=ALPHA, planned=planned
        ),
    }
    for (test, series), days in others.items():
        share = float(np.isfinite(days).mean())
        found.append(Wrong(test=test, series=series, n=len(days), promoted=None, decided=share))
    return found


def _apart(gain: Vector) -> Vector:
    """(k, blocks) losses of dates whose labels share no day."""
    return gain[:, ::HORIZON]


def _walked(series: str, differences: Vector, before: Vector) -> Wrong:
    policy = ExperimentPolicy(alpha=ALPHA, deadline_days=MAX_DAYS)
    ends = [
        walk(each, policy=policy, r=_r(earlier, sharpe=policy.sharpe, alpha=ALPHA)).end
        for each, earlier in zip(differences, before, strict=True)
    ]
    promoted, kept = (sum(end is one for end in ends) / len(ends) for one in (Action.PROMOTE, Action.KEEP))
    return Wrong(test=SEQUENCE, series=series, n=len(ends), promoted=promoted, decided=promoted + kept)


def _other_laws(n: int, rng: np.random.Generator) -> dict[str, Vector]:
    """(n, days) each of mean 0, by name: what marks could be like, and what the sequence does not withstand.

    The first `HELD_OUT` of the days are before the experiment.
    """
    shape = (n, HELD_OUT + MAX_DAYS)
    laws = {f"AR(1) of {c}": carried_on(rng.normal(size=shape[::-1]), c).T for c in (0.2, 0.4, 0.6)}
    loud = np.exp(carried_on(rng.normal(size=shape[::-1]), 0.95).T)
    laws["t with 3 degrees of freedom"] = rng.standard_t(3, size=shape)
    laws["spread that lasts"] = loud * rng.normal(size=shape)
    laws["exponential (skewed)"] = rng.exponential(size=shape) - 1.0
    # A difference with a Sharpe ratio of 3.5 for a quarter, and of -3.5 for the next.
    turning = np.where(np.arange(-HELD_OUT, MAX_DAYS) // 63 % 2 == 0, 1.0, -1.0) * 3.5 / math.sqrt(TRADING_DAYS)
    laws["gain of 3.5 that turns each quarter"] = rng.normal(size=shape) + turning * rng.choice([-1.0, 1.0], (n, 1))
    laws["+1 on 99 days, -99 on one"] = np.where(rng.random(shape) < 0.01, -99.0, 1.0)
    return laws


# ---- How long it takes


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Days to a decision at an annual Sharpe ratio of the difference, on so many names; infinite: > 2 years."""

    sharpe: float
    n_names: int
    median: float
    within_year: float
    """Share that decides within a year"""
    said: float
    """Median over `_SAID` experiments of the median that was said of each, by its days before"""
    peeked: float
    """Median of the t-test for a fixed end, looked at daily, on the same marks"""
    asymptotic: float
    """Median of the asymptotic sequence on losses of overlapping labels of the same ratio"""
    apart: float
    """Median of the sequence on losses of each `HORIZON`th day, of the same ratio, in days"""


def waits(null: Differences, n_names: int, *, advance: Callable[[], None] = lambda: None) -> list[Wait]:
    """Give both versions a difference of each ratio, and look daily. advance : called after each"""
    gain, found = null.gain[:, :-HORIZON], []
    for sharpe in RATIOS:
        marks, gains = (_shifted(one, sharpe) for one in (null.mark, gain))
        days = sequence_days(marks, null.mark_before, sharpe=sharpe)
        said = [expected_duration(one, sharpe=sharpe, alpha=ALPHA).median for one in null.mark_before[:_SAID]]
        planned = planned_days(sharpe, alpha=ALPHA)
        found.append(
            Wait(
                sharpe=sharpe,
                n_names=n_names,
                median=float(np.median(days)),
                within_year=float(np.mean(days <= TRADING_DAYS)),
                said=float(np.median([math.inf if one is None else one for one in said])),
                peeked=float(np.median(peeked_t_test(marks, alpha=ALPHA))),
                asymptotic=HORIZON + float(np.median(asymptotic_sequence(gains, alpha=ALPHA, planned=planned))),
                apart=HORIZON
                * float(np.median(sequence_days(_apart(gains), null.gain_before, sharpe=sharpe * math.sqrt(HORIZON)))),
            )
        )
        advance()
    return found


def _shifted(null: Vector, sharpe: float) -> Vector:
    return np.asarray(null + sharpe / math.sqrt(TRADING_DAYS) * np.std(null, axis=1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class OnePair:
    """The same two versions on so many names: annual Sharpe ratios of their differences, and days to a decision."""

    n_names: int
    mark_sharpe: float
    increment_sharpe: float
    mark_days: float
    increment_days: float


def one_pair(n_names: int, experiments: int, *, advance: Callable[[], None] = lambda: None) -> OnePair:
    """Compare a version that sees `BETTER` with one that sees `SKILL`."""
    design = ExperimentDesign(n_names=n_names, skill=(BETTER, SKILL))
    found = simulate_differences(design, experiments, np.random.default_rng([_SEED + 1, n_names]), advance=advance)
    planned = ExperimentPolicy().sharpe
    return OnePair(
        n_names=n_names,
        mark_sharpe=annual_sharpe(found.mark),
        increment_sharpe=annual_sharpe(found.increment),
        mark_days=float(np.median(sequence_days(found.mark, found.mark_before, sharpe=planned))),
        increment_days=float(np.median(sequence_days(found.increment, found.increment_before, sharpe=planned))),
    )


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """All of it."""

    wrong: Sequence[Wrong]
    waits: Sequence[Wait]
    pairs: Sequence[OnePair]

    @property
    def said_over_median(self) -> tuple[float, float]:
        """Least and largest of the waits that were said over those that came, where both are within two years."""
        ratios = [one.said / one.median for one in self.waits if math.isfinite(one.median) and math.isfinite(one.said)]
        return min(ratios), max(ratios)


def simulate(experiments: int, *, report: Callable[[int, int], None] | None = None) -> Simulation:
    """Run everything. report : done and total steps of the work"""
    counts = {n_names: experiments if n_names <= 100 else max(20, experiments // 5) for n_names in NAMES}
    pairs = {n_names: max(10, experiments // 10) for n_names in NAMES}
    # A step is a panel of 100 names; the waits of a ratio take as long as 20 of them.
    weight = {n_names: max(1, n_names // 100) for n_names in NAMES}
    total = sum((counts[n] + pairs[n]) * weight[n] for n in NAMES) + 20 * len(RATIOS) * len(NAMES)
    done = 0

    def advance(by: int) -> Callable[[], None]:
        def step() -> None:
            nonlocal done
            done += by
            if report is not None:
                report(done, total)

        return step

    nulls = {
        n: simulate_differences(
            ExperimentDesign(n_names=n, skill=(SKILL, SKILL)),
            counts[n],
            np.random.default_rng([_SEED, n]),
            advance=advance(weight[n]),
        )
        for n in NAMES
    }
    return Simulation(
        wrong=wrong_decisions(nulls[100], rng=np.random.default_rng(_SEED)),
        waits=[wait for n in NAMES for wait in waits(nulls[n], n, advance=advance(20))],
        pairs=[one_pair(n, pairs[n], advance=advance(weight[n])) for n in NAMES],
    )
