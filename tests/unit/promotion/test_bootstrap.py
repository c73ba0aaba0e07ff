"""The resamples of dates: what Politis & Romano (1994) say of them, and that every machine draws the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mlops.domain.promotion.bootstrap import automatic_block_length, stationary_counts


def test_every_resample_has_as_many_dates_as_there_are() -> None:
    counts = stationary_counts(37, block_dates=5, resamples=200, seed=1)
    assert counts.shape == (200, 37)
    assert set(counts.sum(axis=1)) == {37.0}


def test_every_date_is_drawn_equally_often() -> None:
    counts = stationary_counts(30, block_dates=10, resamples=20_000, seed=1)
    # A date's count has mean 1; its standard error over 20,000 resamples of blocks of 10 is below 0.03.
    assert np.abs(counts.mean(axis=0) - 1).max() < 0.05


def test_the_mean_length_of_a_block_is_the_one_asked_for() -> None:
    """Neighbours are drawn together unless a block begins between them: with probability 1 - 1/L."""
    n, length = 400, 8.0
    counts = stationary_counts(n, block_dates=length, resamples=2_000, seed=3)
    # Var(mean of iid N(0,1) under blocks of mean L around a circle), Politis & Romano 1994, lemma 1:
    # sum over lags of (1 - |k|/n)(1 - 1/L)^|k| + (|k|/n)(1 - 1/L)^(n - |k|) times the circular autocovariance.
    series = np.sin(np.arange(n) / 7.0)
    drawn = counts @ series / n
    centred = series - series.mean()
    q = 1 - 1 / length
    circular = [float(centred @ np.roll(centred, lag)) / n for lag in range(n)]
    expected = circular[0] / n + 2 / n * sum((1 - k / n) * q**k * circular[k] for k in range(1, n))
    assert drawn.var() == pytest.approx(expected, rel=0.1)


def test_one_seed_gives_one_stream_on_every_machine() -> None:
    counts = stationary_counts(5, block_dates=2, resamples=3, seed=42)
    # Recorded on x86-64 with numpy 2.3; the raw stream of PCG64 is part of numpy's promise (NEP 19).
    assert counts.tolist() == [[0, 1, 1, 2, 1], [1, 0, 0, 2, 2], [1, 1, 1, 2, 0]]


def test_blocks_of_one_date_are_the_ordinary_bootstrap() -> None:
    n = 50
    counts = stationary_counts(n, block_dates=1, resamples=20_000, seed=5)
    # Multinomial: variance of a count is 1 - 1/n, covariance -1/n.
    covariance = np.cov(counts.T)
    assert np.diag(covariance).mean() == pytest.approx(1 - 1 / n, rel=0.02)
    assert covariance[~np.eye(n, dtype=bool)].mean() == pytest.approx(-1 / n, rel=0.05)


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7])
def test_the_automatic_length_is_that_of_politis_and_white_for_an_autoregression(rho: float) -> None:
    """AR(1): G = 2 rho / (1 - rho)^2 R(0) and the spectrum (1 + rho) / (1 - rho) R(0) give b in closed form."""
    n, lengths = 2_000, []
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(size=n + 100)
        series = np.empty(n + 100)
        series[0] = noise[0]
        for place in range(1, n + 100):
            series[place] = rho * series[place - 1] + noise[place]
        lengths.append(automatic_block_length(series[100:]))
    expected = (2 * rho / (1 - rho**2)) ** (2 / 3) * n ** (1 / 3)
    assert np.median(lengths) == pytest.approx(expected, rel=0.15)


def test_independent_dates_need_no_blocks() -> None:
    lengths = [automatic_block_length(np.random.default_rng(seed).normal(size=400)) for seed in range(40)]
    assert np.median(lengths) < 3


@pytest.mark.parametrize("series", [np.ones(100), np.array([1.0, 2.0]), np.zeros(0)])
def test_a_constant_or_short_series_needs_no_blocks(series: npt.NDArray[np.float64]) -> None:
    assert automatic_block_length(series) == 1.0


def test_the_automatic_length_leaves_three_blocks() -> None:
    assert automatic_block_length(np.arange(60.0)) <= 20.0
