"""How much worse than another version one answers: arithmetic by hand, and silence with few answers."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from mlops.domain.experiments.guardrails import (
    PairedAnswers,
    guard_answers,
    guard_missing,
    guard_served,
    latency_quantile,
)
from mlops.domain.experiments.policy import GuardrailPolicy
from mlops.domain.experiments.records import LATENCY_BOUNDS_MS, AnswerCount

POLICY = GuardrailPolicy(min_answers=10, positive_share=0.25, calibration=0.1)


def counted(n: int, *, n_errors: int = 0, place: int = 3) -> AnswerCount:
    """Rows of one minute, all of one latency."""
    latency = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    latency[place] = n
    return AnswerCount(
        strategy="growth",
        version="1",
        model_sha256="aa",
        variant="champion",
        minute=datetime(2026, 11, 27, tzinfo=UTC),
        writer="w",
        n=n,
        n_errors=n_errors,
        n_positive=0,
        n_missing_rows=0,
        latency_ms=tuple(latency),
    )


def test_the_shares_of_positive_calls_and_the_calibrations_are_compared_on_the_same_rows() -> None:
    y = np.array([1, 0] * 10, dtype=np.int8)
    known = np.arange(20) < 12  # of which 6 are positive
    answers = PairedAnswers(one=np.full(20, 0.8), other=np.array([0.6, 0.4] * 10), y=y, known=known)
    share, calibration = guard_answers(answers, POLICY)
    assert (share.value, share.n) == (pytest.approx(0.5), 20)  # all of them, and every second
    assert share.is_broken
    # |0.8 - 0.5| - |0.5 - 0.5|
    assert (calibration.value, calibration.n) == (pytest.approx(0.3), 12)
    assert calibration.is_broken


def test_a_version_that_is_better_calibrated_breaks_nothing() -> None:
    y, known = np.array([1, 0] * 10, dtype=np.int8), np.ones(20, dtype=np.bool_)
    answers = PairedAnswers(one=np.full(20, 0.5), other=np.full(20, 0.9), y=y, known=known)
    assert guard_answers(answers, POLICY)[1].value == pytest.approx(-0.4)


def test_with_fewer_answers_than_the_policy_says_nothing_is_broken() -> None:
    few = guard_served([counted(9, n_errors=9)], [counted(1000)], POLICY)
    assert [one.is_known for one in few] == [False, False]
    assert not any(one.is_broken for one in guard_served([], [], POLICY))
    (missing,) = guard_missing(0.9, 0.0, n_rows=9, policy=POLICY)
    assert not missing.is_broken


def test_the_error_rate_is_held_to_the_other_versions_and_the_latency_is_a_ratio() -> None:
    errors, latency = guard_served([counted(100, n_errors=5), counted(100)], [counted(50, n_errors=1)], POLICY)
    assert errors.value == pytest.approx(5 / 200 - 1 / 50)
    assert latency.value == pytest.approx(1.0)
    (_, slow) = guard_served([counted(100, place=10)], [counted(100, place=3)], POLICY)
    assert LATENCY_BOUNDS_MS[9] / LATENCY_BOUNDS_MS[3] < slow.value < LATENCY_BOUNDS_MS[10] / LATENCY_BOUNDS_MS[2]
    assert slow.is_broken


def test_a_quantile_lies_within_its_bucket() -> None:
    buckets = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    buckets[5], buckets[9] = 90, 10
    assert latency_quantile(buckets, 0.9) == pytest.approx(LATENCY_BOUNDS_MS[5])
    found = latency_quantile(buckets, 0.95)
    assert found is not None
    assert LATENCY_BOUNDS_MS[8] < found < LATENCY_BOUNDS_MS[9]
    assert latency_quantile([0] * len(buckets), 0.95) is None
