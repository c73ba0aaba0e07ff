"""What earlier checks would have decided: the same as the check itself says when it is made with that policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.drift.what_if import PolicyReplay, verdict_under
from mlops.domain.drift.what_if import replay_checks as replay
from mlops.domain.policies import DriftPolicy
from mlops.ledger.reports import check_columns
from tests.unit.drift.test_calibrated_verdict import report

DAY = date(2026, 3, 2)


@dataclass(frozen=True, kw_only=True)
class Figures:
    as_of: date | None = DAY
    raw_verdict: str | None = "stable"
    share: float | None = 0.2
    p_value: float | None = 0.01
    alpha: float | None = 0.05
    n_placements: int | None = 634


def days(*shares: float, **more: Any) -> list[Figures]:
    """One check a day, oldest first."""
    return [Figures(as_of=DAY + timedelta(days=n), share=share, **more) for n, share in enumerate(shares)]


def replay_checks(checks: list[Figures], policy: DriftPolicy, *, cooldown_days: int = 0) -> PolicyReplay[Figures]:
    """Each drifted check retrains as soon as the cooldown is over."""
    return replay(checks, replace(policy, plan="check"), cooldown_days=cooldown_days, horizon_dates=20)


CASES: dict[str, dict[str, Any]] = {
    "calm": {},
    "shifted": {"shift": 1.0},
    "usual": {"swing": 2.0},
    "without history": {"shift": 1.0, "history": False},
}
POLICIES = [
    DriftPolicy(),
    DriftPolicy(rule="raw"),
    DriftPolicy(alert_share=1.0),
    DriftPolicy(alert_share=0.0001, alpha=0.9),
    DriftPolicy(rule="raw", alert_share=0.0001),
    DriftPolicy(alpha=0.001),
]


@pytest.mark.parametrize("case", CASES)
def test_a_check_is_decided_as_it_decides_itself_under_that_policy(case: str) -> None:
    kept = check_columns(report(**CASES[case]).to_json())
    names = ("raw_verdict", "share", "p_value", "alpha", "n_placements")
    figures = Figures(**{name: kept[name] for name in names})
    for policy in POLICIES:
        assert verdict_under(figures, policy) == report(**CASES[case], policy=policy).verdict, policy


def test_a_window_with_too_few_rows_stays_insufficient_whatever_the_threshold() -> None:
    figures = Figures(raw_verdict="insufficient", share=1.0)
    assert verdict_under(figures, DriftPolicy(rule="raw", alert_share=0.01)) == "insufficient"


@pytest.mark.parametrize("lacks", ["share", "raw_verdict"])
def test_a_check_that_left_too_little_is_counted_nowhere(lacks: str) -> None:
    found = replay_checks([replace(Figures(), **{lacks: None})], DriftPolicy())
    assert (found.decided[0].verdict, dict(found.counts), found.n_retrainings) == (None, {}, 0)


def test_a_p_that_was_not_computed_for_a_small_alpha_is_unknown_for_a_larger_one() -> None:
    asked = report(shift=1.0, policy=DriftPolicy(alpha=0.001))
    kept = check_columns(asked.to_json())
    assert (asked.verdict, kept["p_value"]) == ("insufficient", None)
    names = ("raw_verdict", "share", "p_value", "alpha", "n_placements")
    assert verdict_under(Figures(**{name: kept[name] for name in names}), DriftPolicy()) is None


def test_a_threshold_that_is_reached_is_drift() -> None:
    found = replay_checks(days(0.29, 0.3, 0.31), DriftPolicy(alert_share=0.3))
    assert [one.verdict for one in found.decided] == ["stable", "drifted", "drifted"]
    assert (found.counts["drifted"], found.n_retrainings) == (2, 2)


def test_persistence_and_cooldown_hold_retrainings_back_and_no_verdict() -> None:
    checks = days(0.5, 0.1, 0.5, 0.5, 0.5, 0.5)
    persistent = replay_checks(checks, DriftPolicy(persistence_checks=2, persistence_window=2))
    assert [one.retrains for one in persistent.decided] == [False, False, False, True, True, True]
    cooled = replay_checks(checks, DriftPolicy(), cooldown_days=3)
    # day 0 retrains; day 2 is within 3 days; day 3 is not, and holds back 4 and 5
    assert [one.retrains for one in cooled.decided] == [True, False, False, True, False, False]
    assert persistent.counts == cooled.counts == {"drifted": 5, "stable": 1}


def test_by_default_the_checks_of_one_episode_share_a_plan() -> None:
    found = replay(days(*[0.5] * 60), DriftPolicy(), cooldown_days=28, horizon_dates=20)
    assert [i for i, one in enumerate(found.decided) if one.retrains] == [0, 56]


def test_two_checks_of_one_day_count_once_towards_persistence() -> None:
    again = [Figures(share=0.5), Figures(share=0.5)]
    found = replay_checks(again, DriftPolicy(persistence_checks=2, persistence_window=2))
    assert found.n_retrainings == 0


@given(
    shares=st.lists(st.floats(0, 1), max_size=12),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
    p=st.none() | st.floats(0, 1),
    rule=st.sampled_from(["raw", "calibrated"]),
)
def test_a_higher_threshold_never_finds_more_drift(
    shares: list[float], low: float, high: float, p: float | None, rule: Literal["raw", "calibrated"]
) -> None:
    low, high = sorted((low, high))
    checks = days(*shares, p_value=p)
    few = replay_checks(checks, DriftPolicy(rule=rule, alert_share=high))
    many = replay_checks(checks, DriftPolicy(rule=rule, alert_share=low))
    assert few.counts["drifted"] <= many.counts["drifted"]
    assert few.counts["insufficient"] == many.counts["insufficient"]
