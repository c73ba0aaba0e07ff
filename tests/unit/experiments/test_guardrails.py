"""How much worse than another version one answers: arithmetic by hand, and silence with few answers."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import binom

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
    (_, slow) = guard_served([counted(400, place=10)], [counted(400, place=3)], POLICY)
    assert LATENCY_BOUNDS_MS[9] / LATENCY_BOUNDS_MS[3] < slow.value < LATENCY_BOUNDS_MS[10] / LATENCY_BOUNDS_MS[2]
    assert slow.is_broken


def rates(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> tuple[bool, bool]:
    """Whether the guardrail of (n, errors) of minutes is beyond its bound, and broken."""
    both = ([counted(n, n_errors=errors) for n, errors in minutes] for minutes in (one, other))
    (errors, _) = guard_served(*both, GuardrailPolicy())
    return errors.value > errors.bound, errors.is_broken


@pytest.mark.parametrize(
    ("one", "other", "is_broken"),
    [
        ([(200, 3)], [(5_000, 5)], False),  # 1.5 %: at a true rate of 0.2 % one of 128 windows
        ([(200, 50)], [(200, 0)], True),
        ([(20_000, 250)], [(20_000, 0)], False),
        ([(20_000, 400)], [(20_000, 0)], True),
        ([(20_000, 800)], [(20_000, 600)], False),  # both err, as when a feed is late
        ([*[(1_333, 0)] * 14, (1_333, 300)], [(1_333, 0)] * 15, False),  # one refused frame
        ([(1_333, 30)] * 15, [(1_333, 0)] * 15, True),
        ([(100, 0)] * 5 + [(100, 100)] * 10, [(100, 0)] * 15, True),
    ],
)
def test_an_error_rate_breaks_beyond_its_bound_where_chance_and_one_bad_minute_do_not_explain_it(
    one: list[tuple[int, int]], other: list[tuple[int, int]], is_broken: bool
) -> None:
    assert rates(one, other) == (True, is_broken)


def test_rows_of_one_call_fail_together() -> None:
    frames = [replace(counted(2_000, n_errors=errors), latency_ms=counted(20).latency_ms) for errors in (100, 0)]
    single = [counted(2_000, n_errors=errors) for errors in (100, 0)]
    assert [guard_served([one], [other], GuardrailPolicy())[0].is_broken for one, other in (frames, single)] == [
        False,  # one frame of 20
        True,
    ]


@pytest.mark.parametrize(
    ("one", "n_other", "is_broken"),
    [
        ([(200, 12)], 200, False),  # of 200 calls of the champion the slowest 5 % are not known
        ([(200, 12)], 400, True),
        ([*[(200, 3)] * 14, (200, 12)], 400, False),  # 1 minute of 15 is slow
        ([*[(200, 3)] * 3, *[(200, 12)] * 12], 400, True),
    ],
)
def test_a_latency_breaks_where_few_calls_and_one_slow_minute_do_not_explain_it(
    one: list[tuple[int, int]], n_other: int, is_broken: bool
) -> None:
    minutes = [counted(n, place=place) for n, place in one]
    (_, slow) = guard_served(minutes, [counted(n_other)], GuardrailPolicy())
    assert slow.value > slow.bound
    assert slow.is_broken is is_broken


@pytest.mark.parametrize(("rate", "is_stopped"), [(0.002, False), (0.012, False), (0.1, True)])
def test_looked_at_each_minute_for_a_day_chance_ends_nothing_and_a_fault_is_found(
    rate: float, is_stopped: bool
) -> None:
    """Twenty answers a minute of each; the champion errs in 0.2 %, so that 1.2 % is at the bound exactly."""
    random = np.random.default_rng(11)
    errors, errors_other = (random.binomial(20, share, 1440) for share in (rate, 0.002))
    minutes, minutes_other = ([counted(20, n_errors=int(n)) for n in each] for each in (errors, errors_other))
    before, stopped = False, False
    for end in range(1, len(errors) + 1):
        here = slice(max(0, end - 15), end)
        (one, _) = guard_served(minutes[here], minutes_other[here], GuardrailPolicy())
        before, stopped = before or (one.is_known and one.value > one.bound), one.is_broken
        if stopped:
            break
    assert before  # where chance ended it
    assert stopped is is_stopped


@pytest.mark.parametrize(("n", "n_other", "rate"), [(200, 200, 0.002), (300, 20_000, 0.002), (2_000, 400, 0.05)])
def test_an_error_rate_at_its_bound_breaks_at_a_look_as_seldom_as_is_said(n: int, n_other: int, rate: float) -> None:
    """Summed over all that can be counted: half of the 1 % in a year of looks each minute, the other half is latency's."""
    total = 0.0
    for k_other in range(int(binom.isf(1e-12, n_other, rate)) + 1):
        least = bisect_left(range(n + 1), True, key=lambda k: rates([(n, k)], [(n_other, k_other)])[1])
        total += binom.pmf(k_other, n_other, rate) * binom.sf(least - 1, n, rate + 0.01)
    assert total < 0.01 / 2 / (366 * 24 * 60)


def test_a_quantile_lies_within_its_bucket() -> None:
    buckets = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    buckets[5], buckets[9] = 90, 10
    assert latency_quantile(buckets, 0.9) == pytest.approx(LATENCY_BOUNDS_MS[5])
    found = latency_quantile(buckets, 0.95)
    assert found is not None
    assert LATENCY_BOUNDS_MS[8] < found < LATENCY_BOUNDS_MS[9]
    assert latency_quantile([0] * len(buckets), 0.95) is None
