"""Whether the data of a training are recent and complete enough to promote what comes of them."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from mlops.domain.panel import LeftOut, Panel, Reason
from mlops.domain.policies import DataPolicy
from mlops.domain.promotion.findings import Finding
from mlops.domain.training.fitness import ended_features, ended_names, old_labels, thin_holdout, unfit_dates
from mlops.domain.training.splits import Split, known_labels, split_by_date

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


ROW_DATES = np.repeat(np.array(DAYS, dtype="datetime64[D]"), 2)
"""Two rows on each of 90 days."""


def split(last_label: date = DAYS[-6]) -> Split:
    """20 held-out dates; labels look 5 dates ahead and end on `last_label`."""
    known = known_labels(ROW_DATES, ROW_DATES, as_of=DAYS[-1], horizon_dates=5) & (
        np.datetime64(last_label) >= ROW_DATES
    )
    return split_by_date(ROW_DATES, known, horizon_dates=5, holdout_dates=20)


@pytest.mark.parametrize(("days_short", "found"), [(0, []), (4, []), (5, ["stale_labels"])])
def test_labels_that_end_before_they_must_hold_it_back(days_short: int, found: list[str]) -> None:
    panel = Panel(rows=dict.fromkeys(DAYS, 2))
    policy = DataPolicy(max_stale_days=4)
    of = split(DAYS[-6 - days_short])
    told = list(old_labels(ROW_DATES, of, panel, policy, as_of=DAYS[-1], horizon_dates=5))
    assert [one.code for one in told] == found
    if told:
        assert f"the newest labels are of {DAYS[-11]}, where those of {DAYS[-6]} could be known" in told[0].words


@pytest.mark.parametrize(("n_now", "found"), [(20, []), (10, []), (9, ["incomplete_features"]), (40, [])])
@pytest.mark.parametrize("n_thin", [20, 30], ids=["since a while", "before the held-out dates"])
def test_names_that_end_hold_it_back_and_a_growing_panel_does_not(n_now: int, found: list[str], n_thin: int) -> None:
    rows = dict.fromkeys(DAYS[:-n_thin], 20) | dict.fromkeys(DAYS[-n_thin:], n_now)
    told = list(ended_names(split(), Panel(rows=rows), DataPolicy()))
    assert [one.code for one in told] == found
    if told:
        assert "the newest dates have 9 rows each where the training dates have 20" in told[0].words


def ended(there: np.ndarray) -> list[Finding]:
    x = np.stack([np.ones(len(ROW_DATES)), np.where(there, 1.0, np.nan)], axis=1).astype(np.float32)
    return list(ended_features(x, ROW_DATES, split(), DataPolicy(), features=("whole", "pe")))


def test_a_feature_that_ends_holds_it_back_by_name() -> None:
    (found,) = ended(np.datetime64(DAYS[-20]) > ROW_DATES)
    assert found.code == "incomplete_features"
    assert "pe (in 100% of the training rows, 0% of the newest)" in found.words


def test_a_feature_that_is_sparse_all_the_time_or_begins_late_does_not() -> None:
    assert ended(np.arange(len(ROW_DATES)) % 40 == 0) == []
    assert ended(np.datetime64(DAYS[40]) < ROW_DATES) == []
