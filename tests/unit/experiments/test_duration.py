"""How long an experiment will take."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlops.domain.experiments.duration import MAX_DAYS, expected_duration, planned_days
from mlops.domain.experiments.sequence import first_decision, mixture_variance

ALPHA = 0.05
YEAR = 252


@pytest.mark.parametrize("sharpe", [3.5, 7.0])
@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_the_median_that_is_said_is_the_median_that_comes(sharpe: float, tails: str) -> None:
    rng = np.random.default_rng(1)

    def drawn(size: tuple[int, ...]) -> np.ndarray:
        return rng.normal(size=size) if tails == "normal" else rng.standard_t(5, size=size) / math.sqrt(5 / 3)

    said = expected_duration(0.004 * drawn((250,)), sharpe=sharpe, alpha=ALPHA)
    came = drawn((2_000, MAX_DAYS)) + sharpe / math.sqrt(YEAR)
    r = mixture_variance(spread=1.0, days=planned_days(sharpe, alpha=ALPHA), alpha=ALPHA)
    days, _ = first_decision(came, r=r, alpha=ALPHA)
    median = float(np.median(np.where(days > 0, days, np.inf)))
    assert said.median == pytest.approx(median, rel=0.25)
    assert said.words.startswith(f"about {said.median:.0f} trading days for a difference")


def test_a_small_difference_takes_more_than_two_years_and_that_is_said() -> None:
    said = expected_duration(np.random.default_rng(2).normal(size=250), sharpe=1.0, alpha=ALPHA)
    assert said.median is None
    assert said.decided < 0.5
    assert said.words == (
        "more than two years for a difference with an annual Sharpe ratio of 1: use the held-out test instead"
    )


def test_too_few_days_of_ones_own_are_taken_as_normal() -> None:
    few, none = (expected_duration(0.01 * np.arange(n, dtype=np.float64), sharpe=7.0, alpha=ALPHA) for n in (10, 0))
    assert few == none
    assert expected_duration(np.zeros(100), sharpe=7.0, alpha=ALPHA) == none
