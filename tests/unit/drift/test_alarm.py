"""Persistence and cooldown."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.drift.verdict import Alarm, settle_alarm
from mlops.domain.policies import DriftPolicy

TODAY = date(2020, 3, 16)


def alarm(verdicts: str, *, days_since_retraining: int | None = None, cooldown_days: int = 0, **policy: Any) -> Alarm:
    """`verdicts`: d(rifted), s(table), i(nsufficient); this check first, then backwards."""
    words: dict[str, Any] = {"d": "drifted", "s": "stable", "i": "insufficient"}
    now, *earlier = [words[letter] for letter in verdicts]
    last = None if days_since_retraining is None else TODAY - timedelta(days=days_since_retraining)
    return settle_alarm(
        now, earlier, DriftPolicy(**policy), as_of=TODAY, last_retrained=last, cooldown_days=cooldown_days
    )


def test_without_a_cooldown_every_drifted_check_is_an_alarm() -> None:
    assert alarm("d").retrain
    assert alarm("dsss", days_since_retraining=0).retrain


@pytest.mark.parametrize("verdict", ["s", "i"])
def test_nothing_but_drifted_is_one(verdict: str) -> None:
    assert not alarm(verdict + "ddd", persistence_checks=2, persistence_window=3).retrain


@pytest.mark.parametrize(
    ("verdicts", "retrains"),
    [("dd", True), ("dsd", True), ("dssd", False), ("d", False), ("did", True), ("dii", False)],
)
def test_two_of_the_last_three(verdicts: str, retrains: bool) -> None:
    assert alarm(verdicts, persistence_checks=2, persistence_window=3).retrain is retrains


def test_what_is_lacking_is_said() -> None:
    said = alarm("dss", persistence_checks=2, persistence_window=3).reason
    assert said == "drifted in 1 of the last 3 checks; a retraining needs 2 of 3"


@pytest.mark.parametrize(("days", "retrains"), [(0, False), (6, False), (7, True), (-3, True), (None, True)])
def test_a_cooldown_counts_from_the_last_retraining_before_this_check(days: int | None, retrains: bool) -> None:
    found = alarm("d", days_since_retraining=days, cooldown_days=7)
    assert found.retrain is retrains
    if days == 6:
        assert found.reason == "retrained 6 days ago, as of 2020-03-10; the cooldown is 7 days"


@given(
    earlier=st.text("dsi", max_size=6), k=st.integers(1, 3), more=st.integers(0, 3), days=st.none() | st.integers(0, 20)
)
def test_one_more_drifted_check_never_takes_an_alarm_away(earlier: str, k: int, more: int, days: int | None) -> None:
    policy = {"persistence_checks": k, "persistence_window": k + more}
    before = alarm("d" + earlier, days_since_retraining=days, cooldown_days=5, **policy).retrain
    after = alarm("d" + earlier.replace("s", "d", 1), days_since_retraining=days, cooldown_days=5, **policy).retrain
    assert after >= before
