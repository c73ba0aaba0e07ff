"""The population stability index: against feature-engine, by arithmetic, and by its properties."""

from __future__ import annotations

from math import log

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from feature_engine.selection import DropHighPSIFeatures
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import make_classification

from mlops.domain.drift.psi import (
    Bins,
    bin_counts,
    index_from_counts,
    population_stability_index,
    quantile_bins,
    sorted_values,
)

Floats = npt.NDArray[np.float64]
NAN = float("nan")
SAMPLES = st.lists(
    st.one_of(st.integers(-30, 30).map(float), st.just(NAN)), min_size=1, max_size=80
).map(lambda values: np.array(values, float))  # fmt: skip


def oracle(reference: Floats, current: Floats) -> float:
    """feature-engine's PSI: 10 quantile bins of the reference, open ends, no smoothing, shares of at least 1e-4."""
    frame = pd.DataFrame({"x": np.concatenate([reference, current]), "row": np.arange(len(reference) + len(current))})
    selector = DropHighPSIFeatures(split_col="row", cut_off=len(reference) - 1)
    return float(selector.fit(frame).psi_values_["x"])


# At 10 j + 1 observations the k-th decile is the (k j + 1)-th of them, for interpolated quantiles too, so both
# libraries have the same edges.
@pytest.mark.parametrize(("n", "m"), [(101, 40), (501, 500), (2_001, 150), (1_001, 3_000)])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.2), (-2.0, 0.5), (5.0, 1.0)])
def test_without_smoothing_it_is_feature_engines(n: int, m: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(n + m)
    reference, current = rng.normal(size=n), rng.normal(shift, scale, size=m)
    ours = population_stability_index(reference, current, smoothing=0, floor=1e-4)
    assert ours == pytest.approx(oracle(reference, current), abs=1e-9)


GOLDEN = {
    "var_0": 0.043828484052281,
    "var_1": 0.040929870747665395,
    "var_2": 0.04330418495156895,
    "var_3": 0.03773286532548153,
    "var_4": 0.05047388515663041,
    "var_5": 0.014717735595712466,
    "drift_1": 8.283089355027482,
}
"""Of feature-engine's own tests, computed there with Probatus; edges are interpolated quantiles."""


@pytest.mark.parametrize("name", list(GOLDEN))
def test_on_interpolated_edges_it_gives_the_published_numbers(name: str) -> None:
    x, _ = make_classification(
        n_samples=1000, n_features=6, n_redundant=2, n_clusters_per_class=1, weights=[0.5], class_sep=2, random_state=1
    )
    column = np.arange(1000.0) if name == "drift_1" else x[:, int(name[-1])]
    (reference, _), (current, _) = sorted_values(column[:500]), sorted_values(column[500:])
    edges = Bins(edges=np.quantile(reference, np.arange(1, 10) / 10))
    psi = index_from_counts(bin_counts(reference, 0, edges), bin_counts(current, 0, edges), smoothing=0, floor=1e-4)
    assert psi == pytest.approx(GOLDEN[name], abs=1e-9)


def test_values_beyond_the_reference_count_in_full() -> None:
    # the published fixture: 0..499 against 500..999 gives 8.283; bins closed at the reference's range gave 6.90
    reference, current = np.arange(500.0), np.arange(500.0, 1000.0)
    psi = population_stability_index(reference, current, smoothing=0, floor=1e-4)
    # nine bins of share 0.1 against 1e-4, and the last of 0.1 against 1
    assert psi == pytest.approx(9 * (1e-4 - 0.1) * log(1e-4 / 0.1) + 0.9 * log(10), abs=1e-9)
    assert psi == pytest.approx(8.283089355027482, abs=1e-9)


def test_counts_get_a_half_each_before_the_shares() -> None:
    # 20 in two bins 10 + 10; current 4 and 16: r = 10.5/21, c = 4.5/21 and 16.5/21
    psi = index_from_counts(np.array([10, 10, 0]), np.array([4, 16, 0]))
    expected = (4.5 - 10.5) / 21 * log(4.5 / 10.5) + (16.5 - 10.5) / 21 * log(16.5 / 10.5)
    assert psi == pytest.approx(expected, abs=1e-15)


def test_an_empty_bin_costs_about_one_observation() -> None:
    reference = np.full(10, 100)
    current = np.array([0, *[100] * 9])
    one = np.array([1, *[100] * 9])
    half_sum = 900 + 5.0
    # the bin's own term is (0.5/905 - 100.5/1005) ln((0.5/905) / (100.5/1005)); with one observation 0.5 becomes 1.5
    term = (0.5 / half_sum - 0.1) * log(0.5 / half_sum / 0.1)
    assert index_from_counts(reference, current) == pytest.approx(
        term + 9 * (100.5 / half_sum - 0.1) * log(100.5 / half_sum / 0.1), abs=1e-12
    )
    # one observation more or less changes it by about a tenth of ln 3, not by hundreds
    difference = index_from_counts(reference, current) - index_from_counts(reference, one)
    assert difference == pytest.approx(0.1 * log(3), rel=0.05)


def test_missing_values_have_a_bin_of_their_own() -> None:
    reference = np.arange(100.0)
    current = np.concatenate([np.arange(40.0) * 2.5, np.full(60, NAN)])
    # ten bins of 10 and 4, one of 0 and 60; sums with halves 105.5 each
    expected = 10 * (4.5 - 10.5) / 105.5 * log(4.5 / 10.5) + (60.5 - 0.5) / 105.5 * log(60.5 / 0.5)
    assert population_stability_index(reference, current) == pytest.approx(expected, abs=1e-12)
    assert population_stability_index(reference, current[:40]) < 0.01


def test_the_missing_bin_plays_no_part_where_nothing_is_missing() -> None:
    with_bin = index_from_counts(np.array([5, 7, 0]), np.array([7, 5, 0]))
    assert with_bin == index_from_counts(np.array([5, 7]), np.array([7, 5]))


def test_an_atom_heavier_than_a_bin_has_a_bin_of_its_own() -> None:
    # 60 % zeros; the rest 1..40: deciles 0,0,0,0,0,0,10,20,30 are four distinct edges
    reference = np.concatenate([np.zeros(60), np.arange(1.0, 41.0)])
    bins = quantile_bins(np.sort(reference), bins=10)
    below, at, *_ = bin_counts(np.sort(reference), 0, bins)
    assert (below, at) == (0, 60)
    # what was zero is a little above or below it now: the whole 60 % have moved
    for moved in (1e-9, -1e-9):
        assert population_stability_index(reference, np.where(reference == 0, moved, reference)) > 1


@pytest.mark.parametrize("weight", [11, 15, 30])
def test_an_atom_is_what_weighs_more_than_a_tenth(weight: int) -> None:
    reference = np.concatenate([np.arange(-45.0, 0.0), np.zeros(weight), np.arange(1.0, 56.0 - weight)])
    assert len(reference) == 100
    bins = quantile_bins(reference, bins=10)
    assert weight in bin_counts(reference, 0, bins)
    # without the atom, no bin but its neighbours' remnants holds more than its tenth
    assert sorted(bin_counts(reference, 0, bins))[-2] <= 10


def test_a_value_just_below_an_atom_is_not_in_its_bin() -> None:
    bins = quantile_bins(np.full(50, 3.0), bins=10)
    values = np.array([np.nextafter(3.0, -np.inf), 3.0, np.nextafter(3.0, np.inf)])
    assert bin_counts(values, 0, bins).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("n", [10, 11, 19, 30, 70, 457, 1_000])
def test_bins_without_atoms_hold_the_same_number_of_the_reference(n: int) -> None:
    reference = np.arange(float(n))
    counts = bin_counts(reference, 0, quantile_bins(reference, bins=10))[:-1]
    assert len(counts) == 10
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("reference", [[1.0], [1.0, 2.0], [1.0, 1.0, 1.0, 2.0]])
def test_fewer_values_than_bins_are_binned_all_the_same(reference: list[float]) -> None:
    assert population_stability_index(np.array(reference), np.array(reference)) == 0.0
    assert population_stability_index(np.array(reference), np.array([50.0] * 20)) > 0.2


def test_a_reference_without_a_value_is_undefined() -> None:
    assert np.isnan(population_stability_index(np.full(5, NAN), np.arange(5.0)))


def test_a_current_window_without_a_value_has_all_of_it_in_the_missing_bin() -> None:
    psi = population_stability_index(np.arange(100.0), np.full(100, NAN))
    # ten bins of 10 and 0, one of 0 and 100
    expected = 10 * (0.5 - 10.5) / 105.5 * log(0.5 / 10.5) + (100.5 - 0.5) / 105.5 * log(100.5 / 0.5)
    assert psi == pytest.approx(expected, abs=1e-12)


def test_infinities_lie_in_the_open_ends() -> None:
    reference = np.arange(100.0)
    upper = population_stability_index(reference, np.concatenate([reference, np.full(100, np.inf)]))
    assert upper == population_stability_index(reference, np.concatenate([reference, np.full(100, 1e300)]))
    atom = np.concatenate([reference, np.full(50, np.inf)])
    assert population_stability_index(atom, atom) == 0.0


@pytest.mark.parametrize(("n", "exceeds"), [(100, 0.847), (300, 0.096), (500, 0.007)])
def test_equal_samples_exceed_a_tenth_as_often_as_published(n: int, exceeds: float) -> None:
    # PSI of equal samples is (1/n + 1/m) chi-square(9) (Yurdakul 2018); shares above 0.1 without smoothing.
    # The smoothing of a half makes them a little rarer, never more frequent.
    rng = np.random.default_rng(n)
    psi = [
        population_stability_index(rng.normal(size=n), rng.normal(size=n), smoothing=0, floor=1e-4) for _ in range(400)
    ]
    # 400 draws: three standard errors of the share
    assert np.mean(np.array(psi) > 0.1) == pytest.approx(exceeds, abs=0.01 + 3 * (exceeds * (1 - exceeds) / 400) ** 0.5)


@given(SAMPLES, SAMPLES)
def test_it_is_never_negative_and_finite(reference: Floats, current: Floats) -> None:
    psi = population_stability_index(reference, current)
    assert np.isnan(reference).all() or (np.isfinite(psi) and psi >= 0.0)


@given(SAMPLES)
def test_it_is_zero_on_itself(sample: Floats) -> None:
    assert np.isnan(sample).all() or population_stability_index(sample, sample) == 0.0


@given(SAMPLES, SAMPLES)
def test_a_monotone_transform_of_both_samples_changes_nothing(reference: Floats, current: Floats) -> None:
    before = population_stability_index(reference, current)
    after = population_stability_index(np.exp(reference / 4), np.exp(current / 4))
    assert after == before or (np.isnan(before) and np.isnan(after))


@given(SAMPLES, SAMPLES)
def test_order_plays_no_part(reference: Floats, current: Floats) -> None:
    forward = population_stability_index(reference, current)
    backward = population_stability_index(reference[::-1], current[::-1])
    assert forward == backward or np.isnan(forward)


def test_without_smoothing_or_floor_an_empty_bin_is_infinitely_far() -> None:
    reference, current = np.array([5, 5, 0]), np.array([5, 0, 0])
    assert index_from_counts(reference, current, smoothing=0.0) == float("inf")
    assert index_from_counts(current, reference, smoothing=0.0) == float("inf")


def test_counts_of_nothing_are_undefined_not_equal() -> None:
    assert np.isnan(index_from_counts(np.array([3, 2]), np.array([0, 0]), smoothing=0.0))
