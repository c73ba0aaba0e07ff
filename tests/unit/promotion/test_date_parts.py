"""Metrics from what each date contributes: on all dates, and on any resample of whole dates, they are the metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlops.domain.promotion.date_parts import ScoredRows, date_parts, influence, metric_of

METRICS = ("accuracy", "brier", "lift_over_majority", "log_loss", "f1_score", "roc_auc", "sharpe")


def rows_of(seed: int, n_dates: int = 12, *, coarse: bool = False) -> ScoredRows:
    """A panel of unequal dates; `coarse` probabilities have many ties."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, n_dates)
    dates = np.repeat(np.datetime64("2020-01-01") + np.arange(n_dates), sizes)
    n = len(dates)
    p = rng.uniform(0.02, 0.98, n)
    return ScoredRows(
        dates=dates,
        y=rng.integers(0, 2, n).astype(np.int8),
        probability=np.round(p, 1) if coarse else p,
        target_return=rng.normal(size=n) * 0.05,
    )


def by_library(metric: str, rows: ScoredRows, drawn: list[int]) -> float:
    """The metric of those dates, drawn so often, by scikit-learn, or by arithmetic for the Sharpe ratio."""
    days = np.unique(rows.dates)
    index = np.concatenate([np.flatnonzero(rows.dates == days[day]) for day in drawn])
    y, p = rows.y[index], rows.probability[index]
    if metric == "sharpe":
        returns = returns_of(rows, drawn)
        return float(np.mean(returns) / np.std(returns, ddof=1) * np.sqrt(252 / 20))
    accuracy = float(sk.accuracy_score(y, p >= 0.5))
    if metric == "roc_auc":
        return float(sk.roc_auc_score(y, p))
    return {
        "accuracy": accuracy,
        "brier": float(np.mean((p - y) ** 2)),
        "lift_over_majority": accuracy - float(max(y.mean(), 1 - y.mean())),
        "log_loss": float(sk.log_loss(y, p, labels=[0, 1])),
        "f1_score": float(sk.f1_score(y, p >= 0.5, zero_division=0)),
    }[metric]


def returns_of(rows: ScoredRows, drawn: list[int]) -> list[float]:
    """What the signal earned on each of those dates."""
    assert rows.target_return is not None
    days = np.unique(rows.dates)
    masks = [(rows.dates == days[day]) & (rows.probability >= 0.5) for day in drawn]
    return [float(rows.target_return[held].mean()) if held.any() else 0.0 for held in masks]


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 10_000), drawn=st.lists(st.integers(0, 11), min_size=12, max_size=12), coarse=st.booleans())
def test_a_resample_of_dates_has_the_librarys_metric(metric: str, seed: int, drawn: list[int], coarse: bool) -> None:
    rows = rows_of(seed, coarse=coarse)
    counts = np.bincount(drawn, minlength=12).astype(float)[None, :]
    found = float(metric_of(metric, date_parts(metric, rows), counts, horizon_dates=20)[0])
    if not np.isfinite(found):
        return  # undefined: shown below
    if metric != "sharpe":
        assert found == pytest.approx(by_library(metric, rows, drawn), rel=1e-6, abs=1e-4)
        return
    # Returns lie on a grid of 1e-6, so that their mean is off by half of that at most, and a ratio that is not absurd by
    # so much over the deviation, annualised; the deviation's own error is far below 1e-3 of it.
    assume(abs(found) < 20)
    off = 0.5e-6 * np.sqrt(252 / 20) / np.std(returns_of(rows, drawn), ddof=1)
    assert found == pytest.approx(by_library(metric, rows, drawn), rel=1e-3, abs=off)


@pytest.mark.parametrize("metric", METRICS)
def test_the_sums_are_the_same_in_any_order_to_the_last_bit(metric: str) -> None:
    rows = rows_of(1, 40)
    parts = date_parts(metric, rows)
    counts = np.random.default_rng(0).integers(0, 3, (50, 40)).astype(float)
    order = np.random.default_rng(1).permutation(40)
    shuffled = {name: array[np.ix_(order, order)] if array.ndim == 2 else array[order] for name, array in parts.items()}
    as_given = metric_of(metric, parts, counts, horizon_dates=20)
    np.testing.assert_array_equal(metric_of(metric, shuffled, counts[:, order], horizon_dates=20), as_given)


def test_one_class_alone_has_no_area() -> None:
    rows = rows_of(1)
    same = ScoredRows(dates=rows.dates, y=np.ones_like(rows.y), probability=rows.probability, target_return=None)
    assert np.isnan(metric_of("roc_auc", date_parts("roc_auc", same), np.ones((1, 12)), horizon_dates=20)[0])


def test_positions_that_never_vary_have_no_sharpe_ratio_and_not_0() -> None:
    rows = rows_of(1)
    never = ScoredRows(
        dates=rows.dates, y=rows.y, probability=np.full(len(rows.y), 0.1), target_return=rows.target_return
    )
    assert np.isnan(metric_of("sharpe", date_parts("sharpe", never), np.ones((1, 12)), horizon_dates=20)[0])


def test_no_return_known_is_no_position() -> None:
    rows = rows_of(1)
    unknown = ScoredRows(
        dates=rows.dates, y=rows.y, probability=np.full(len(rows.y), 0.9), target_return=np.full(len(rows.y), np.nan)
    )
    assert date_parts("sharpe", unknown)["returns"].tolist() == [0.0] * 12


@pytest.mark.parametrize("metric", METRICS)
def test_the_influence_of_a_date_is_what_leaving_weight_on_it_changes(metric: str) -> None:
    """First order: the derivative of the metric in the date's weight, by differences."""
    rows, n, h = rows_of(3, 30), 30, 1e-5
    parts = date_parts(metric, rows)
    once = np.ones((1, n))
    base = metric_of(metric, parts, once, horizon_dates=252)[0]
    slopes = []
    for day in range(n):
        moved = once.copy()
        moved[0, day] += h
        slopes.append((metric_of(metric, parts, moved, horizon_dates=252)[0] - base) / h)
    found = influence(metric, parts) / (n if metric == "sharpe" else 1)
    np.testing.assert_allclose(found, slopes, rtol=0.15 if metric == "sharpe" else 1e-3, atol=2e-3)
