"""The levels of any 365 days sum to no more than the budget, and every decision has one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.promotion.error_budget import YEAR_DAYS, allowance


@given(st.lists(st.integers(0, 60), min_size=1, max_size=120), st.floats(0.01, 0.5))
def test_whenever_decisions_are_made_those_of_a_year_spend_no_more_than_the_budget(
    days_between: list[int], yearly: float
) -> None:
    made: list[tuple[int, float]] = []
    day = 0
    for gap in days_between:
        day += gap
        spent = sum(level for earlier, level in made if earlier >= day - YEAR_DAYS)
        made.append((day, allowance(yearly, spent, has_gates=False).spends))
        in_year = sum(level for earlier, level in made if earlier >= day - YEAR_DAYS)
        assert in_year <= yearly + 1e-6


def test_weekly_decisions_spend_half_of_the_year_on_the_first_eleven() -> None:
    # 1 - (15 / 16)^11 = 0.508
    spent = 0.0
    for _ in range(11):
        spent += allowance(0.10, spent, has_gates=False).spends
    assert spent == pytest.approx(0.10 * (1 - (15 / 16) ** 11), rel=1e-6)


def test_the_champions_gates_share_the_level_with_the_test() -> None:
    both = allowance(0.16, 0.0, has_gates=True)
    assert (both.level, both.test, both.gates) == pytest.approx((0.01, 0.008, 0.002))
    assert allowance(0.16, 0.0, has_gates=False).test == pytest.approx(0.01)


def test_a_look_that_was_paid_for_has_its_level_again_and_spends_nothing() -> None:
    again = allowance(0.10, 0.08, has_gates=False, paid=(0.005, "7"))
    assert (again.level, again.spends, again.paid_by) == (0.005, 0.0, "7")
