"""Silent failures measured in other drift libraries, each on its own data: none of them here."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp, poisson

from mlops.domain.drift.ks import ks_test
from mlops.domain.drift.psi import population_stability_index, quantile_bins
from tests.unit.drift_detection.checks import check_one, codes


def test_one_outlier_does_not_stretch_the_bins() -> None:
    # Equal-width bins over the pooled range: PSI of a shift by 0.5 sd falls from 0.247 to 0.022 (no drift).
    rng = np.random.default_rng(0)
    reference, current = rng.normal(size=20_000), rng.normal(0.5, 1.0, size=20_000)
    outlier = current.copy()
    outlier[0] = 1e4
    without, with_it = (population_stability_index(reference, values) for values in (current, outlier))
    assert without == pytest.approx(0.231, abs=0.02)
    assert with_it == pytest.approx(without, abs=1e-3)


def test_values_beyond_the_references_range_are_not_dropped() -> None:
    # U(0, 1), and now a fifth lies above 1: closed quantile edges gave 0.046, open ones 0.231.
    rng = np.random.default_rng(1)
    reference = rng.uniform(size=20_000)
    current = np.where(np.arange(20_000) % 5 == 0, rng.uniform(1, 2, size=20_000), rng.uniform(size=20_000))
    # nine bins of 0.08 and one of 0.28: 9 (-0.02) ln 0.8 + 0.18 ln 2.8 = 0.2255
    assert population_stability_index(reference, current) == pytest.approx(0.2255, abs=0.015)


def test_sixty_percent_nulls_after_none_are_drift_and_a_finding() -> None:
    # Dropping nulls, three tests out of three said "no drift" (p = 0.92).
    rng = np.random.default_rng(2)
    current = rng.normal(size=1_000)
    current[:600] = np.nan
    report = check_one(rng.normal(size=5_000), current)
    assert codes(report) == ["missing_share_changed"]
    assert report.drifted


def test_one_nan_beside_a_shift_does_not_hide_it() -> None:
    # A nan in 1,000 rows made p nan, and nan < 0.05 is false: no drift.
    rng = np.random.default_rng(3)
    current = rng.normal(1.0, 1.0, size=1_000)
    current[17] = np.nan
    report = check_one(rng.normal(size=1_000), current)
    feature = report.features["x"]
    assert feature.ks_p is not None
    assert feature.ks_p < 1e-50
    assert feature.drifted_ks
    assert feature.drifted_psi


def test_an_empty_bin_is_no_alarm_by_itself() -> None:
    # Zero counts replaced by 2.2e-308: 11.5 % of equal samples of 5,000 exceeded 0.2.
    rng = np.random.default_rng(4)
    psi = [population_stability_index(rng.normal(size=5_000), rng.normal(size=5_000)) for _ in range(100)]
    assert max(psi) < 0.02


def test_a_heavy_tail_keeps_its_exact_statistic_above_ten_thousand_rows() -> None:
    # 10,000 bins of equal width gave D = 0.0516 for 0.0826 on a lognormal with sigma 3.
    rng = np.random.default_rng(5)
    reference, current = rng.lognormal(0, 3, size=20_000), rng.lognormal(0.6, 3, size=20_000)
    exact = float(ks_2samp(reference, current, method="asymp").statistic)
    assert check_one(reference, current).features["x"].ks_statistic == pytest.approx(exact, abs=1e-12)
    assert exact > 0.07


def test_a_constant_reference_that_starts_to_vary_has_a_psi() -> None:
    # The electricity stream's price is constant for 17,424 rows, then live: KS 0.84, and quantile PSI said 0.0.
    rng = np.random.default_rng(6)
    report = check_one(np.full(17_424, 0.003467), rng.lognormal(-5.6, 0.3, size=27_888))
    assert codes(report) == ["started_to_vary"]
    psi = report.features["x"].psi
    assert psi is not None
    assert psi > 1


def test_many_zeros_leave_distinct_edges() -> None:
    # 60 % zeros: np.quantile repeats 0, and histogram functions raise or leave bins without width.
    rng = np.random.default_rng(7)
    reference = np.sort(np.where(rng.uniform(size=1_000) < 0.6, 0.0, rng.lognormal(size=1_000)))
    edges = quantile_bins(reference, bins=10).edges
    assert (np.diff(edges) > 0).all()
    assert check_one(reference, reference).features["x"].psi == 0.0


def test_eight_rows_are_no_verdict() -> None:
    # Eight rows against a hundred and fifty were called drifted.
    rng = np.random.default_rng(8)
    assert check_one(rng.normal(size=150), rng.normal(3.0, 1.0, size=8)).verdict == "insufficient"


def test_ties_do_not_raise_false_alarms_but_a_shift_among_them_is_seen() -> None:
    rng = np.random.default_rng(9)
    reference, same, more = (np.sort(rng.poisson(rate, 500).astype(float)) for rate in (1.0, 1.0, 1.6))
    assert ks_test(reference, same).p_value > 0.05
    # D of the two distributions: P(X = 0) at rate 1 minus that at 1.6, or at the next step
    expected = max(poisson.cdf(k, 1.0) - poisson.cdf(k, 1.6) for k in range(5))
    assert ks_test(reference, more).statistic == pytest.approx(expected, abs=0.06)
    assert ks_test(reference, more).p_value < 1e-4


def test_the_unit_of_a_feature_plays_no_part() -> None:
    rng = np.random.default_rng(10)
    reference, current = rng.normal(size=2_000), rng.normal(0.3, 1.0, size=300)
    plain = check_one(reference, current).features["x"]
    # powers of two, so that no value is rounded
    scaled = check_one(reference * 2.0**40, current * 2.0**40).features["x"]
    assert (plain.psi, plain.ks_statistic, plain.ks_p) == (scaled.psi, scaled.ks_statistic, scaled.ks_p)
