"""Features that are compared together get the numbers that each gets alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstwo, wasserstein_distance

from mlops.domain.drift import calibration, numeric
from mlops.domain.drift.calibration import shared_out
from mlops.domain.drift.detect import compare_numbers
from mlops.domain.drift.ks import kolmogorov_tails, ks_p_values, ks_statistics
from mlops.domain.drift.numeric import wasserstein_rows
from mlops.domain.drift.ordered import blocks, ordered_table
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DriftPolicy
from tests.unit.drift_detection.checks import check

Floats = npt.NDArray[np.float64]

RNG = np.random.default_rng(11)
#: Levels and spreads that nothing of which may reach a neighbour.
SCALES = np.array([1.0, 1e-9, 1e9, 1e150, 1e-150])[:, np.newaxis]
LEVELS = np.array([0.0, 5.0, 1e12, 0.0, 0.0])[:, np.newaxis]


def windows(n: int, m: int, shift: float = 0.3) -> tuple[Floats, Floats]:
    """(f, n) and (f, m), ascending."""
    draw = [RNG.standard_normal((len(SCALES), size)) for size in (n, m)]
    first, second = draw[0] * SCALES + LEVELS, (draw[1] + shift) * SCALES + LEVELS
    return np.sort(first, axis=1), np.sort(second, axis=1)


@pytest.mark.parametrize(("n", "m"), [(3000, 500), (500, 3000), (7, 7), (1, 20), (5000, 4097)])
def test_distances_of_a_block_are_scipys_of_each_feature(n: int, m: int) -> None:
    first, second = windows(n, m)
    for statistic, apart, x, y in zip(
        ks_statistics(first, second), wasserstein_rows(first, second), first, second, strict=True
    ):
        assert statistic == pytest.approx(ks_2samp(x, y, method="asymp").statistic, abs=1e-14)
        # Taking the level away is exact, and scipy's own sums lose digits on it.
        assert apart == pytest.approx(wasserstein_distance(x - x[0], y - x[0]), rel=1e-11)


def test_a_long_block_takes_its_steps_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = windows(900, 400, shift=0.0)
    whole = wasserstein_rows(first, second)
    monkeypatch.setattr(numeric, "_STEPS", 7)
    assert wasserstein_rows(first, second) == pytest.approx(whole, rel=1e-14)


def test_a_row_whose_range_is_no_float_leaves_its_neighbours_alone() -> None:
    first = np.array([[0.0, 1.0], [-1.7e308, 1.7e308], [2.0, 3.0]])
    second = np.array([[1.0, 2.0], [0.0, 0.0], [2.0, 3.0]])
    assert wasserstein_rows(first, second) == [1.0, math.inf, 0.0]


@pytest.mark.parametrize("n", [140, 495, 5000, 120_000])
def test_the_tails_of_many_distances_are_scipys_of_each(n: int) -> None:
    statistics = [math.sqrt(weight / n) for weight in (0.05, 0.5, 1.0, 2.3, 4.0, 30.0)] + [0.5, 1.0]
    assert kolmogorov_tails(statistics, n) == pytest.approx(kstwo.sf(statistics, n), rel=1e-9, abs=1e-12)


def test_each_distance_has_the_p_of_its_own_size() -> None:
    found = ks_p_values([0.2, 0.3, 0.2, 1.0], [200, 300, 300, 0])
    assert found == pytest.approx([*kstwo.sf([0.2, 0.3, 0.2], [200, 300, 300]), 1.0], rel=1e-9)


def test_neighbours_that_hold_as_much_stand_in_one_block() -> None:
    inf, nan = np.inf, np.nan
    table = ordered_table(
        [np.array(row) for row in ([2, 1, nan], [nan, 4, 3], [inf, 1, nan], [-inf, 1, nan], [1, 2, 3.0], [nan] * 3)]
    )
    found = [(rows.start, rows.stop, block.n_missing, block.finite.tolist()) for rows, (block,) in blocks(table)]
    assert found == [
        (0, 2, 1, [[1, 2], [3, 4]]), (2, 3, 1, [[1]]), (3, 4, 1, [[1]]), (4, 5, 0, [[1, 2, 3]]), (5, 6, 3, [[]]),
    ]  # fmt: skip


def test_features_are_alike_only_where_both_windows_are() -> None:
    before, now = np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([[1.0, 2.0], [1.0, np.nan]])
    assert [rows for rows, _ in blocks(before, now)] == [slice(0, 1), slice(1, 2)]


values = st.lists(
    st.floats(-1e6, 1e6) | st.integers(-2, 2).map(float) | st.sampled_from([np.nan, np.inf, -np.inf]),
    min_size=12, max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(values, values), min_size=1, max_size=6))
def test_a_check_of_many_features_finds_of_each_what_it_finds_of_it_alone(
    pairs: list[tuple[list[float], list[float]]],
) -> None:
    pairs = [*pairs, ([float(i) for i in range(12)], [i + 0.5 for i in range(12)])]
    before = {f"f{i}": np.array(reference) for i, (reference, _) in enumerate(pairs)}
    now = {f"f{i}": np.array(current) for i, (_, current) in enumerate(pairs)}
    report = check(_frame(before), _frame(now))
    for name, found in report.features.items():
        alone, _ = compare_numbers(name, before[name], now[name], DriftPolicy())
        assert found.distribution == alone.distribution
        assert (found.psi, found.ks_statistic, found.ks_p) == (alone.psi, alone.ks_statistic, alone.ks_p)
        assert _same(found.wasserstein, alone.wasserstein)
        for one, other in ((found.reference, alone.reference), (found.current, alone.current)):
            assert one is not None
            assert other is not None
            assert replace(one, mean=None, std=None, skew=None, kurtosis=None) == replace(
                other, mean=None, std=None, skew=None, kurtosis=None
            )
            assert _same(one.mean, other.mean)
            assert _same(one.std, other.std)


@pytest.mark.parametrize(
    ("items", "at_most", "cores", "sizes"),
    [(45, 7, 2, [6] * 7 + [3]), (45, 1, 2, [1] * 45), (45, 100, 2, [23, 22]), (3, 100, 8, [1] * 3), (0, 5, 2, []),
     (45, 7, 1, [7] * 6 + [3])],
)  # fmt: skip
def test_every_core_gets_as_many_batches(
    items: int, at_most: int, cores: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "usable_cores", lambda: cores)
    batches = shared_out(range(items), at_most=at_most)
    assert [len(batch) for batch in batches] == sizes
    assert [item for batch in batches for item in batch] == list(range(items))


def _same(one: float | None, other: float | None) -> bool:
    """Both undefined, or alike but for the order of summing."""
    if one is None or other is None:
        return one is other
    return one == pytest.approx(other, rel=1e-12, abs=1e-9)


def _frame(numbers: dict[str, Floats]) -> FeatureFrame:
    return FeatureFrame(n_rows=12, numbers=numbers, categories={})
