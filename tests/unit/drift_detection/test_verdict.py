"""The documented rule: the share of features that drifted by PSI, at or above the alert share."""

from __future__ import annotations

import pytest

from mlops.domain.drift.verdict import FeatureVerdict, raw_verdict
from mlops.domain.policies import DriftPolicy
from tests.unit.drift_detection.checks import N_CURRENT, N_REFERENCE, check, frame, noise


def features(drifted: int, of: int) -> list[FeatureVerdict]:
    # drifted by KS throughout: the rule must not look at it
    return [FeatureVerdict(name=f"f{n}", drifted_ks=True, drifted_psi=n < drifted) for n in range(of)]


@pytest.mark.parametrize(
    ("drifted", "of", "verdict"),
    [
        (0, 10, "stable"),
        (2, 10, "stable"),
        (3, 10, "drifted"),
        (10, 10, "drifted"),
        (29, 100, "stable"),
        (30, 100, "drifted"),
    ],
)
def test_the_alert_share_itself_is_drift(drifted: int, of: int, verdict: str) -> None:
    decision = raw_verdict(features(drifted, of), alert_share=0.3, n_current=100, min_current_rows=100)
    assert decision.verdict == verdict
    assert decision.share == drifted / of
    assert f"{drifted} of {of} features" in decision.reason


@pytest.mark.parametrize("of", [10, 20, 30, 100, 300])
def test_a_threshold_written_in_decimals_is_reached_exactly(of: int) -> None:
    for drifted in range(of // 10, of + 1, of // 10):
        threshold = float(f"{10 * drifted // of / 10:.1f}")
        decision = raw_verdict(features(drifted, of), alert_share=threshold, n_current=100, min_current_rows=100)
        assert decision.verdict == "drifted"


def test_too_few_rows_say_nothing_whatever_the_features_say() -> None:
    decision = raw_verdict(features(10, 10), alert_share=0.3, n_current=99, min_current_rows=100)
    assert decision.verdict == "insufficient"
    assert "has 99 rows; a verdict needs 100" in decision.reason
    assert decision.share == 1.0


def test_ninety_nine_current_rows_are_insufficient_and_a_hundred_are_enough() -> None:
    reference = frame(x=noise(N_REFERENCE))
    assert check(reference, frame(x=noise(99, shift=5.0))).verdict == "insufficient"
    assert check(reference, frame(x=noise(100, shift=5.0))).verdict == "drifted"


def test_an_insufficient_check_has_not_drifted() -> None:
    assert not check(frame(x=noise(N_REFERENCE)), frame(x=noise(8, shift=5.0))).drifted


def test_the_callers_threshold_is_the_one_that_counts() -> None:
    reference = frame(x=noise(N_REFERENCE), y=noise(N_REFERENCE))
    current = frame(x=noise(N_CURRENT, shift=5.0), y=noise(N_CURRENT, seed=1))
    assert check(reference, current, DriftPolicy(rule="raw", alert_share=0.5)).verdict == "drifted"
    assert check(reference, current, DriftPolicy(rule="raw", alert_share=0.51)).verdict == "stable"
