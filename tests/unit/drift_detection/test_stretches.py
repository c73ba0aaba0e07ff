"""Long samples are compared stretch by stretch; the result is that of comparing every value."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, wasserstein_distance

from mlops.domain.drift import ks, numeric
from mlops.domain.drift.data_quality import describe
from mlops.domain.drift.ordered import ordered_column

Floats = npt.NDArray[np.float64]

VALUES = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.floats(-1e-3, 1e-3),
)
SAMPLES = st.lists(VALUES, min_size=1, max_size=120).map(lambda values: np.sort(np.array(values)))


@pytest.fixture
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen values make many stretches."""
    monkeypatch.setattr(ks, "_STRETCH", 3)
    monkeypatch.setattr(ks, "_WHOLE", 4)
    monkeypatch.setattr(numeric, "_STRETCH", 3)
    monkeypatch.setattr(numeric, "_WHOLE", 4)


@pytest.mark.usefixtures("short_stretches")
@settings(max_examples=300, deadline=None)
@given(first=SAMPLES, second=SAMPLES)
def test_the_ks_distance_is_the_largest_over_all_points(first: Floats, second: Floats) -> None:
    points = np.concatenate([first, second])
    largest = max(abs(np.mean(first <= point) - np.mean(second <= point)) for point in points)
    assert ks.ks_statistic(first, second) == pytest.approx(largest, abs=1e-15)


@pytest.mark.usefixtures("short_stretches")
@settings(max_examples=300, deadline=None)
@given(first=SAMPLES, second=SAMPLES)
def test_the_wasserstein_distance_is_scipys(first: Floats, second: Floats) -> None:
    scale = max(1e-300, float(np.abs(np.concatenate([first, second])).max()))
    assert numeric.wasserstein(first, second) == pytest.approx(
        wasserstein_distance(first, second), rel=1e-12, abs=1e-15 * scale
    )


@pytest.mark.usefixtures("short_stretches")
def test_infinities_at_both_ends_are_values_like_others_to_ks() -> None:
    first = np.sort(np.array([-np.inf, -np.inf, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, np.inf]))
    second = np.sort(np.array([-np.inf, 0.5, 1.5, 2.5, 3.5, 4.5, np.inf, np.inf]))
    # At -inf 2/9 against 1/8; at 5 8/9 against 6/8; just above 0 3/9 against 1/8 is the largest.
    assert ks.ks_statistic(first, second) == pytest.approx(3 / 9 - 1 / 8, abs=1e-15)


@pytest.mark.parametrize("shift", [0.0, 0.003, 0.3])
@pytest.mark.parametrize("level", [0.0, 1e6])
def test_long_samples_agree_with_scipy(shift: float, level: float) -> None:
    rng = np.random.default_rng(5)
    first = np.sort(np.exp(rng.normal(size=60_000)) + level)
    second = np.sort(np.exp(rng.normal(shift, 1.0, size=21_000)) + level)
    assert ks.ks_statistic(first, second) == pytest.approx(ks_2samp(first, second, method="asymp").statistic, abs=1e-15)
    assert numeric.wasserstein(first, second) == pytest.approx(
        wasserstein_distance(first, second), rel=1e-12 if level == 0.0 else 1e-7
    )


@pytest.mark.parametrize("n", [16_383, 16_384, 16_385, 50_001])
@pytest.mark.parametrize("level", [0.0, 1e8])
def test_moments_summed_block_by_block_are_those_of_the_whole_column(n: int, level: float) -> None:
    values = np.exp(np.random.default_rng(n).normal(size=n)) + level
    # Taking the level away is exact.
    wide = (values - level).astype(np.longdouble)
    centred = wide - wide.mean()
    second, third, fourth = (float((centred**power).mean()) for power in (2, 3, 4))
    found = describe(ordered_column(values))
    assert found.mean == pytest.approx(level + float(wide.mean()), rel=1e-14)
    assert found.std == pytest.approx((second * n / (n - 1)) ** 0.5, rel=1e-12)
    assert found.skew == pytest.approx((n * (n - 1)) ** 0.5 / (n - 2) * third / second**1.5, rel=1e-12)
    excess = fourth / second**2 - 3
    assert found.kurtosis == pytest.approx((n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * excess + 6), rel=1e-12)
