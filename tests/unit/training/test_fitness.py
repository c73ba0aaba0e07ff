"""Whether the data of a training are recent and complete enough to promote what comes of them."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from mlops.features.panel import LeftOut, Panel, Reason
from mlops.strategies import DataPolicy
from mlops.training.fitness import thin_holdout, unfit_dates

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=i) for i in range(90)]


def codes(n_left_out: int = 0, *, age_days: int = 0) -> list[str]:
    reason: Reason = "incomplete"
    gone = tuple(LeftOut(day=day, n_rows=1, expected=20, reason=reason) for day in DAYS[:n_left_out])
    panel = Panel(rows=dict.fromkeys(DAYS[n_left_out:], 20), left_out=gone)
    found = unfit_dates(panel, DataPolicy(max_stale_days=4), as_of=DAYS[-1] + timedelta(days=age_days))
    return [finding.code for finding in found]


@pytest.mark.parametrize(("age_days", "found"), [(4, []), (5, ["stale_features"]), (182, ["stale_features"])])
def test_old_features_hold_a_promotion_back(age_days: int, found: list[str]) -> None:
    assert codes(age_days=age_days) == found


@pytest.mark.parametrize(("n_left_out", "found"), [(9, []), (10, ["incomplete_features"])])
def test_more_than_a_tenth_of_dates_that_do_not_count_hold_it_back_too(n_left_out: int, found: list[str]) -> None:
    assert codes(n_left_out) == found


def test_a_held_out_part_is_as_large_as_what_a_check_needs() -> None:
    policy = DataPolicy(min_current_rows=100)
    assert [finding.code for finding in thin_holdout(99, policy)] == ["incomplete_features"]
    assert not list(thin_holdout(100, policy))
