"""The confidence sequence of paired daily differences."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from mlops.domain.experiments.sequence import (
    alpha_of_repeat,
    carried_over,
    confidence_sequence,
    first_decision,
    log_evidence,
    mixture_variance,
)

ALPHA = 0.05
YEAR = 252
Vector = npt.NDArray[np.float64]


def r_of(days: float = 120, spread: float = 1.0) -> float:
    return mixture_variance(spread=spread, days=days, alpha=ALPHA)


def test_the_evidence_is_the_mixture_that_it_is_said_to_be() -> None:
    d = np.random.default_rng(1).normal(size=40) + 0.3
    r, mean = r_of(), 0.1
    total, v = (d - mean).sum(), carried_over(d)[-1] * ((d - mean) ** 2).sum()
    integral, _ = quad(
        lambda bet: math.exp(bet * total - bet**2 * v / 2) * norm.pdf(bet, scale=1 / math.sqrt(r)), -10, 10
    )
    assert log_evidence(d, r=r, mean=mean)[-1] == pytest.approx(math.log(integral), rel=1e-9)


@pytest.mark.parametrize(
    ("squares", "bound"),
    [(5.0, 11.103211892976985), (40.0, 19.98025749993586), (120.0, 33.24810020810541), (500.0, 70.11480454171118)],
)
def test_the_bound_of_the_sum_is_that_of_another_library(squares: float, bound: float) -> None:
    # ville 0.1.0: best_rho(120, 0.05), and normal_mixture(squares, 0.05, rho).
    rho, n = 14.612829326475518, 100
    mean = bound / n
    # Days that alternate carry nothing on; their sum is the bound, and the sum of their squares as given.
    d = mean + math.sqrt(squares / n - mean**2) * (-1.0) ** np.arange(n)
    assert (d.sum(), (d**2).sum()) == pytest.approx((bound, squares))
    assert log_evidence(d, r=rho)[-1] == pytest.approx(math.log(1 / ALPHA), rel=1e-9)
    assert r_of(120) == pytest.approx(rho, rel=0.05)


def test_repeats_of_one_pair_spend_two_alphas_together() -> None:
    each = [alpha_of_repeat(ALPHA, n) for n in range(60)]
    assert each[:3] == [0.05, 0.025, 0.0125]
    assert sum(each) == pytest.approx(2 * ALPHA)


@pytest.mark.parametrize("correlation", [0.4, 0.6])
def test_marks_that_carry_on_keep_the_level(correlation: float) -> None:
    paths = carrying(np.random.default_rng(9), (2_000, 2 * YEAR), correlation)
    days, _ = first_decision(paths, r=r_of(), alpha=ALPHA)
    assert np.mean(days > 0) <= ALPHA


def test_at_an_end_of_the_interval_the_evidence_is_the_bound() -> None:
    d = np.random.default_rng(2).standard_t(4, size=200) + 0.2
    r = r_of(spread=1.4)
    bounds = confidence_sequence(d, r=r, alpha=ALPHA)
    assert not np.isfinite(bounds.low[:5]).any(), "five days say nothing"
    # The running interval's ends are those of the day on which they were last moved.
    moved = np.flatnonzero(bounds.low > np.append(-np.inf, bounds.low[:-1]))
    assert len(moved) > 20
    for day in moved:
        at_end = log_evidence(d[: day + 1], r=r, mean=float(bounds.low[day]))[-1]
        assert at_end == pytest.approx(math.log(1 / ALPHA), abs=1e-9)


def test_the_interval_excludes_zero_on_the_day_of_the_decision() -> None:
    d = np.random.default_rng(3).normal(size=(50, YEAR)) + 0.25
    r = r_of()
    days, signs = first_decision(d, r=r, alpha=ALPHA)
    for row, day, sign in zip(d, days, signs, strict=True):
        low, high = confidence_sequence(row, r=r, alpha=ALPHA)
        excluded = np.flatnonzero((low > 0) | (high < 0))
        assert (excluded[0] + 1 if len(excluded) else 0) == day
        assert sign == (0 if day == 0 else 1 if low[day - 1] > 0 else -1)


def carrying(rng: np.random.Generator, shape: tuple[int, int], correlation: float) -> Vector:
    noise = rng.normal(size=shape)
    found = np.empty(shape)
    found[:, 0] = noise[:, 0]
    for day in range(1, shape[1]):
        found[:, day] = correlation * found[:, day - 1] + math.sqrt(1 - correlation**2) * noise[:, day]
    return found


def loud(rng: np.random.Generator, shape: tuple[int, int]) -> Vector:
    """Loud days follow loud days, and a day in twenty is five times as loud."""
    spread = np.exp(carrying(rng, shape, 0.95)) * np.where(rng.random(shape) < 0.05, 5.0, 1.0)
    return np.asarray(spread * rng.normal(size=shape))


@pytest.mark.parametrize(
    ("law", "spread"),
    [
        (lambda rng, shape: rng.normal(size=shape), 1.0),
        (lambda rng, shape: rng.standard_t(3, size=shape), 1.7),
        (loud, 2.0),
        (lambda rng, shape: carrying(rng, shape, 0.3), 1.0),
        (lambda rng, shape: rng.exponential(size=shape) - 1.0, 1.0),
    ],
    ids=["normal", "heavy tails", "loud days", "carried over", "skewed"],
)
def test_two_years_of_daily_looks_err_at_most_as_often_as_promised(law: object, spread: float) -> None:
    paths = law(np.random.default_rng(4), (1_000, 2 * YEAR))  # type: ignore[operator]
    days, _ = first_decision(paths, r=r_of(spread=spread), alpha=ALPHA)
    assert np.mean(days > 0) <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / len(paths))


def test_a_test_with_a_fixed_end_that_is_looked_at_daily_errs_far_more_often() -> None:
    paths = np.random.default_rng(5).normal(size=(1_000, 2 * YEAR))
    n_days = np.arange(1, 2 * YEAR + 1)
    z = np.cumsum(paths, axis=1) / np.sqrt(n_days)
    fooled = np.mean((np.abs(z[:, 20:]) > norm.isf(ALPHA / 2)).any(axis=1))
    assert fooled > 0.3


def test_a_wrong_guess_of_the_spread_costs_time_alone() -> None:
    rng = np.random.default_rng(6)
    null, better = rng.normal(size=(1_000, YEAR)), rng.normal(size=(1_000, YEAR)) + 0.4
    medians = []
    for guess in (0.1, 1.0, 10.0):
        r = r_of(spread=guess)
        assert np.mean(first_decision(null, r=r, alpha=ALPHA)[0] > 0) <= ALPHA
        days, _ = first_decision(better, r=r, alpha=ALPHA)
        medians.append(np.median(np.where(days > 0, days, np.inf)))
    assert medians[1] == min(medians)


@pytest.mark.parametrize(("sharpe", "most"), [(7.0, 80), (3.5, 200)])
def test_differences_are_decided_within_their_time(sharpe: float, most: int) -> None:
    d = np.random.default_rng(7).normal(size=(1_000, 2 * YEAR)) + sharpe / math.sqrt(YEAR)
    days, signs = first_decision(d, r=r_of(), alpha=ALPHA)
    assert np.median(np.where(days > 0, days, np.inf)) <= most
    assert np.mean(signs < 0) < 0.01, "the worse one wins"


def test_versions_that_say_the_same_are_never_told_apart() -> None:
    days, signs = first_decision(np.zeros((3, YEAR)), r=r_of(), alpha=ALPHA)
    assert not days.any()
    assert not signs.any()
    low, high = confidence_sequence(np.zeros(YEAR), r=r_of(), alpha=ALPHA)
    assert (low <= 0).all()
    assert (high >= 0).all()


def test_marks_that_carry_on_count_for_fewer_days() -> None:
    rng = np.random.default_rng(8)
    independent, carried = rng.normal(size=(1, 5_000)), carrying(rng, (1, 5_000), 0.5)
    assert carried_over(independent)[0, -1] == pytest.approx(1.0, abs=0.1)
    assert carried_over(carried)[0, -1] == pytest.approx(3.0, rel=0.1)  # (1 + 0.5) / (1 - 0.5)
    assert (carried_over(np.full((1, 50), 0.01)) == 1.0).all(), "a constant carries nothing on"
