"""The small picture of both windows that a report carries: numpy's histogram and quantiles are the oracle."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.drift.distributions import (
    BINS,
    CATEGORIES,
    LEVELS,
    NumberDistribution,
    category_distribution,
    number_distribution,
)
from tests.unit.drift_detection.checks import N_CURRENT, N_REFERENCE, check, frame, noise

finite_samples = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60).map(lambda values: np.sort(np.array(values)))


def of(reference: np.ndarray, current: np.ndarray) -> NumberDistribution:
    found = number_distribution(np.sort(reference), np.sort(current), spread=float(np.std(reference, ddof=1)))
    assert found is not None
    return found


def test_the_bins_are_those_of_numpys_histogram() -> None:
    reference, current = noise(N_REFERENCE), noise(N_CURRENT, seed=1, shift=0.5)
    found = of(reference, current)
    for counts, values in ((found.reference, reference), (found.current, current)):
        expected, _ = np.histogram(values, bins=BINS, range=(found.low, found.high))
        assert counts[1:-1] == tuple(expected)
        assert (counts[0], counts[-1]) == ((values < found.low).sum(), (values > found.high).sum())


@given(reference=finite_samples, current=finite_samples)
def test_every_value_is_counted_once(reference: np.ndarray, current: np.ndarray) -> None:
    found = number_distribution(reference, current, spread=None)
    assert found is not None
    assert (sum(found.reference), sum(found.current)) == (len(reference), len(current))
    assert len(found.reference) == len(found.current) == BINS + 2


def test_an_outlier_stretches_no_bin() -> None:
    calm = noise(N_REFERENCE)
    assert of(np.append(calm, 1e9), calm).high < 10
    assert of(np.append(calm, 1e9), calm).reference[-1] >= 1


def test_a_current_window_far_away_is_in_the_picture() -> None:
    found = of(noise(N_REFERENCE), noise(N_CURRENT, shift=100.0))
    assert found.low < 0
    assert found.high > 100
    assert sum(found.current[1:-1]) > 0.95 * N_CURRENT


def test_the_shift_of_the_quantiles_is_in_spreads_of_the_reference() -> None:
    reference, current = noise(N_REFERENCE), 3.0 * noise(N_CURRENT, seed=1) + 2.0
    expected = (np.quantile(current, LEVELS) - np.quantile(reference, LEVELS)) / reference.std(ddof=1)
    assert of(reference, current).quantile_shift == pytest.approx(expected, abs=1e-4)


def test_a_constant_that_stays_has_bins_around_it_and_no_shift() -> None:
    found = number_distribution(np.full(50, 7.0), np.full(5, 7.0), spread=0.0)
    assert found is not None
    assert found.low < 7 < found.high
    assert (sum(found.reference[1:-1]), sum(found.current[1:-1])) == (50, 5)
    assert found.quantile_shift is None


def test_a_movement_beyond_the_largest_float_is_not_stated() -> None:
    found = number_distribution(np.array([0.0, 1e-300]), np.array([1e300]), spread=1e-300)
    assert found is not None
    assert found.quantile_shift is None


@pytest.mark.parametrize("sample", [np.array([]), np.array([-1.7e308] * 9 + [1.7e308] * 9)])
def test_what_cannot_be_drawn_is_none(sample: np.ndarray) -> None:
    assert number_distribution(sample, np.array([1.0]), spread=1.0) is None


def test_the_largest_categories_are_named_and_the_rest_is_counted() -> None:
    names = [f"c{number:02}" for number in range(20)] + [None]
    counts = np.array([[100 - number for number in range(20)] + [3], [0] * 19 + [50] + [4]])
    found = category_distribution(names, counts)
    assert found.counts[0] == ("c19", 81, 50)  # the whole current window, hardly a twentieth of the reference
    assert found.counts[1] == ("c00", 100, 0)
    assert len(found.counts) == CATEGORIES
    assert found.missing == (3, 4)
    assert found.other == (sum(range(100 - 18, 100 - 10)), 0)


def test_the_report_carries_each_features_distribution() -> None:
    reference = frame(
        calm=noise(N_REFERENCE), empty=np.full(N_REFERENCE, np.nan), odd=np.append(noise(N_REFERENCE - 1), np.inf),
        sector=np.array(["tech", "food"] * (N_REFERENCE // 2), dtype=object),
    )  # fmt: skip
    current = frame(
        calm=noise(N_CURRENT), empty=np.full(N_CURRENT, np.nan), odd=np.append(noise(N_CURRENT - 1), np.nan),
        sector=np.array(["tech", None] * (N_CURRENT // 2), dtype=object),
    )  # fmt: skip
    document = check(reference, current).to_json()["distributions"]
    assert document["quantiles"] == list(LEVELS)
    assert document["features"]["empty"] is None
    assert sum(document["features"]["odd"]["reference"]) == N_REFERENCE - 1
    assert document["features"]["sector"] == {
        "categories": [["food", N_REFERENCE // 2, 0], ["tech", N_REFERENCE // 2, N_CURRENT // 2]],
        "other": [0, 0],
        "missing": [0, N_CURRENT // 2],
    }
    # 45 features of a million rows stay well below what one row of a ledger should hold.
    assert len(json.dumps(document["features"]["calm"])) < 700
