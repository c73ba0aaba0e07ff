"""How long trainings take, by what earlier ones of the kind took."""

from __future__ import annotations

import pytest

from admin.training_form import OFFERS, Estimate, estimate
from mlops.ledger.queries.run_lists import Training


def took(seconds: float, strategy: str = "growth", *, incremental: bool = False, trials: int = 0) -> Training:
    return Training(strategy=strategy, run_s=seconds, is_incremental=incremental, n_trials=trials)


def estimated(
    what: str, earlier: list[Training], strategies: tuple[str, ...] = ("growth",), *, trials: int = 30, slots: int = 1
) -> Estimate:
    return estimate(OFFERS[what], strategies, earlier, n_trials=trials, n_slots=slots)


def test_a_training_takes_the_median_of_the_strategy_s_own_and_at_most_the_longest() -> None:
    found = estimated("train", [took(10), took(30), took(20), took(500, "value")])
    assert (found.likely_s, found.longest_s, found.one_s, found.n_earlier) == (20, 30, 20, 4)


def test_a_strategy_that_was_never_trained_takes_what_others_took() -> None:
    found = estimated("train", [took(10, "value"), took(30, "value")], ("growth", "value"))
    assert (found.likely_s, found.longest_s) == (40, 60)


def test_several_slots_share_the_work_but_nothing_is_shorter_than_its_longest_training() -> None:
    earlier = [took(10, "growth"), took(10, "value"), took(10, "dividend"), took(60, "momentum")]
    everything = ("growth", "value", "dividend", "momentum")
    assert estimated("train", earlier, everything).likely_s == 90
    assert estimated("train", earlier, everything, slots=2).likely_s == 60
    assert estimated("train", earlier, everything[:3], slots=2).likely_s == 15


@pytest.mark.parametrize(("what", "likely_s"), [("train", 100), ("auto", 100), ("incremental", 9), ("tune", 600)])
def test_each_kind_is_estimated_by_its_like(what: str, likely_s: float) -> None:
    """A tuning by the trial: 20 took 400 s, so 30 take 600 s."""
    found = estimated(what, [took(100), took(9, incremental=True), took(400, trials=20)])
    assert (found.likely_s, found.n_earlier) == (likely_s, 1)


@pytest.mark.parametrize("what", OFFERS)
def test_where_nothing_like_it_has_run_there_is_no_estimate(what: str) -> None:
    others = [took(1, trials=3)] if what != "tune" else [took(1)]
    found = estimated(what, others)
    assert (found.likely_s, found.longest_s, found.n_earlier) == (None, None, 0)


def test_of_no_strategy_there_is_no_estimate() -> None:
    assert estimated("train", [took(1)], ()).likely_s is None
