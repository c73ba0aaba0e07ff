"""One number a day for two versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from lab.experiment_simulation import ExperimentDesign, annual_sharpe, asymptotic_sequence, simulate_differences
from mlops.domain.experiments.daily_scores import increment_difference, mark_difference
from mlops.domain.experiments.sequence import first_decision, mixture_variance

A, B = np.array([0.9, 0.6, 0.4, 0.2, 0.7, 0.5]), np.array([0.4, 0.6, 0.7, 0.1, 0.3, 0.2])
CAME = np.array([0.02, -0.01, 0.03, -0.02, 0.01, math.nan])


def test_the_mark_is_what_the_positions_earn() -> None:
    # A holds names 0, 1 and 4 (and 5, whose return is not known); B holds 1 and 2.
    assert mark_difference(A, B, CAME) == pytest.approx((0.02 - 0.01 + 0.01) / 3 - (-0.01 + 0.03) / 2)
    assert mark_difference(A, B * 0, CAME) == pytest.approx(0.02 / 3), "who holds nothing earns nothing"
    assert math.isnan(mark_difference(A, B, np.full(6, math.nan)))


def test_the_increment_is_scored_by_its_log_density() -> None:
    known = slice(0, 5)
    came = CAME[known] - CAME[known].mean()
    came = came / came.std()
    logs = []
    for probability in (A, B):
        z = norm.ppf(probability[known]) / math.sqrt(20)
        logs.append(norm.logpdf(came, loc=z - z.mean()).mean())
    assert increment_difference(A, B, CAME, horizon_dates=20) == pytest.approx(logs[0] - logs[1])
    assert math.isnan(increment_difference(A[:4], B[:4], CAME[:4], horizon_dates=20)), "four names have no spread"
    assert math.isnan(increment_difference(A, B, np.full(6, 0.01), horizon_dates=20))


def test_the_market_adds_nothing_to_the_increment() -> None:
    shifted = increment_difference(A, B, CAME + 0.05, horizon_dates=20)
    assert shifted == pytest.approx(float(increment_difference(A, B, CAME, horizon_dates=20)))


def test_no_other_mean_than_the_true_one_gains_by_the_increment() -> None:
    rng = np.random.default_rng(4)
    true = np.array([0.3, 0.1, 0.0, -0.1, -0.3])
    came = true + rng.standard_t(4, size=(40_000, 5)) / math.sqrt(2)
    said = norm.cdf(true / came.std())

    def gain(other: np.ndarray) -> float:
        return float(np.mean(increment_difference(np.tile(other, (len(came), 1)), said, came, horizon_dates=1)))

    for times in (0.0, 0.5, 2.0, -1.0):
        assert gain(norm.cdf(times * true / came.std())) < 0
    assert gain(said[::-1]) < 0


def test_days_are_scored_as_one_by_one() -> None:
    rng = np.random.default_rng(1)
    a, b, came = rng.random((7, 9)), rng.random((7, 9)), rng.normal(size=(7, 9))
    came[rng.random((7, 9)) < 0.2] = math.nan
    each = [mark_difference(*day) for day in zip(a, b, came, strict=True)]
    np.testing.assert_allclose(mark_difference(a, b, came), each)
    each = [increment_difference(*day, horizon_dates=5) for day in zip(a, b, came, strict=True)]
    np.testing.assert_allclose(increment_difference(a, b, came, horizon_dates=5), each)


def test_losses_of_labels_that_overlap_fool_a_sequence_and_marks_do_not() -> None:
    null = simulate_differences(ExperimentDesign(n_names=20, skill=(0.1, 0.1)), 60, np.random.default_rng(2))
    r = mixture_variance(spread=float(null.mark.std()), days=120, alpha=0.05)
    assert np.mean(first_decision(null.mark, r=r, alpha=0.05)[0] > 0) <= 0.1
    assert np.isfinite(asymptotic_sequence(null.gain, alpha=0.05, planned=120)).mean() > 0.7


def test_a_version_that_sees_more_gains_by_both_scores() -> None:
    design = ExperimentDesign(n_names=100, skill=(0.3, 0.05))
    found = simulate_differences(design, 8, np.random.default_rng(3))
    assert annual_sharpe(found.mark) > 2
    assert annual_sharpe(found.increment) > 2
