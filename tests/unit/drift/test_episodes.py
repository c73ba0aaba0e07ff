"""Episodes of drift, and when each of them retrains."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import pytest

from mlops.domain.drift.episodes import CheckedDay, newest_episode, plan_retraining
from mlops.domain.policies import DriftPolicy

FIRST = date(2020, 2, 24)
WORDS: dict[str, Any] = {"d": "drifted", "s": "stable", "i": "insufficient"}


def day(n: int) -> date:
    return FIRST + timedelta(days=n)


def checks(verdicts: str, *, every: int = 1, start: int = 0) -> list[CheckedDay]:
    """d(rifted), s(table), i(nsufficient), or none on a day: -; the first one as of FIRST."""
    return [
        CheckedDay(as_of=day(start + every * i), verdict=WORDS[letter])
        for i, letter in enumerate(verdicts)
        if letter != "-"
    ]


def retrainings(
    verdicts: str | list[CheckedDay],
    *,
    forced: Iterable[int] = (),
    cooldown_days: int = 28,
    horizon_dates: int = 20,
    **policy: Any,
) -> list[int]:
    """Days on which checks retrain, each as soon as it is decided, beside forced retrainings on other days."""
    made, retrained = checks(verdicts) if isinstance(verdicts, str) else verdicts, []
    for n, check in enumerate(made):
        before = [*retrained, *(day(one) for one in forced)]
        plan = plan_retraining(
            check, made[:n], before, DriftPolicy(**policy), cooldown_days=cooldown_days, horizon_dates=horizon_dates
        )
        retrained += [check.as_of] if plan.retrain else []
    return [(one - FIRST).days for one in retrained]


def test_calm_checks_are_no_episode_and_retrain_nothing() -> None:
    assert newest_episode(checks("sssisss")) is None
    assert retrainings("sssisss") == []


def test_a_single_drifted_check_is_an_episode_with_one_retraining() -> None:
    found = newest_episode(checks("sdsss"))
    assert found is not None
    assert (found.began, found.last, found.n_drifted, found.ended) == (day(1), day(1), 1, None)
    assert retrainings("sdsss" + "s" * 80) == [1]


def test_five_stable_checks_in_a_row_end_an_episode_and_insufficient_ones_count_for_neither() -> None:
    for verdicts, ended in (("dssss", None), ("dsssss", 5), ("dssisss", 6), ("dssssdssss", None), ("dssssi", None)):
        found = newest_episode(checks(verdicts))
        assert found is not None
        assert found.ended == (None if ended is None else day(ended)), verdicts


def test_a_storm_of_forty_days_retrains_once_and_one_of_eighty_days_once_more_when_its_labels_are_known() -> None:
    assert retrainings("d" * 40 + "s" * 60) == [0]
    # 40 dates of five a week: a label looks 20 ahead, and as many are to be learnt from
    assert retrainings("d" * 80 + "s" * 30) == [0, 56]
    assert retrainings("d" * 400) == [0, 56]


def test_what_a_plan_says_is_what_comes() -> None:
    storm = checks("d" * 60)

    def said(n: int, *retrained: int) -> str:
        return plan_retraining(
            storm[n], storm[:n], [day(one) for one in retrained], DriftPolicy(), cooldown_days=28, horizon_dates=20
        ).reason

    where = "of an episode that began 2020-02-24"
    assert said(0) == (
        f"day 1 {where}; this retraining comes first, and one more when labels since then are ripe, about 2020-04-20; "
        "drifted in 1 of the last 1 checks"
    )
    assert said(11, 1) == (
        f"day 12 {where}; retrained 2020-02-25; the next retraining is due when labels since then are ripe, "
        "about 2020-04-20"
    )
    assert said(11, -3) == f"day 12 {where}; retrained 14 days ago, as of 2020-02-21; the cooldown is 28 days"
    assert said(56, 1).startswith(f"day 57 {where}; labels since then are ripe, which this retraining learns from")
    assert said(58, 1, 56) == (
        f"day 59 {where}; retrained 2020-04-20; labels since it began were known then, and its plan holds no further "
        "retraining"
    )


def test_a_calm_day_within_an_episode_says_so_and_retrains_nothing() -> None:
    storm = checks("dds")
    plan = plan_retraining(storm[2], storm[:2], [day(0)], DriftPolicy(), cooldown_days=28, horizon_dates=20)
    assert (plan.retrain, plan.reason) == (
        False,
        "day 3 of an episode that began 2020-02-24; the verdict is stable",
    )


def test_two_storms_are_two_plans() -> None:
    assert retrainings("d" * 10 + "s" * 40 + "d" * 10) == [0, 50]


def test_a_second_storm_within_the_cooldown_waits_until_it_is_over() -> None:
    assert retrainings("d" * 3 + "s" * 7 + "d" * 30) == [0, 28]


@pytest.mark.parametrize(("gap", "began"), [(30, 0), (31, 31)])
def test_a_month_without_a_drifted_check_ends_an_episode(gap: int, began: int) -> None:
    found = newest_episode([*checks("d"), *checks("d", start=gap)])
    assert found is not None
    assert found.began == day(began)
    silent = newest_episode([*checks("d"), *checks("s", start=gap)])
    assert silent is not None
    assert silent.ended == (None if gap == 30 else day(31))


def test_weekly_checks_of_one_storm_are_one_episode() -> None:
    found = newest_episode(checks("sddsdd", every=7))
    assert found is not None
    assert (found.began, found.n_drifted, found.ended) == (day(7), 4, None)


def test_checks_that_are_made_up_later_take_their_place_by_date() -> None:
    made = checks("sdddssdd" + "s" * 12 + "dd")
    expected = newest_episode(made)
    for seed in range(5):
        mixed = made.copy()
        random.Random(seed).shuffle(mixed)
        assert newest_episode(mixed) == expected
    # The check of an earlier date knows nothing of later ones, nor of what they retrained.
    plan = plan_retraining(made[2], made, [day(20)], DriftPolicy(), cooldown_days=28, horizon_dates=20)
    assert plan.retrain
    assert plan.episode == newest_episode(made[:3])


def test_of_several_checks_of_one_date_the_last_one_counts() -> None:
    assert newest_episode([*checks("d"), *checks("s")]) is None


@pytest.mark.parametrize(("forced", "retrained"), [(-29, [0]), (-28, [0]), (-27, [1]), (-1, [27])])
def test_the_cooldown_counts_from_a_retraining_before_the_episode(forced: int, retrained: list[int]) -> None:
    assert retrainings("d" * 40, forced=[forced]) == retrained


def test_forced_weekly_retrainings_leave_nothing_to_do() -> None:
    assert retrainings("d" * 80, forced=range(-70, 90, 7)) == []
    # without a cooldown both of the plan come on their day, each before the forced one of its week
    assert retrainings("d" * 80, forced=range(-68, 90, 7), cooldown_days=0) == [0, 56]


def test_a_forced_retraining_within_the_episode_is_its_first() -> None:
    assert retrainings("d" * 60, forced=[0], cooldown_days=0) == [56]


def test_a_plan_per_check_retrains_as_often_as_the_cooldown_lets_it() -> None:
    assert retrainings("d" * 10, plan="check", cooldown_days=0) == list(range(10))
    assert retrainings("d" * 10, plan="check", cooldown_days=4) == [0, 4, 8]


def test_drift_that_does_not_persist_retrains_nothing_and_its_episode_has_begun() -> None:
    policy = {"persistence_checks": 2, "persistence_window": 3}
    assert retrainings("sdssdd", **policy) == [5]
    made = checks("sd")
    plan = plan_retraining(made[1], made[:1], [], DriftPolicy(**policy), cooldown_days=28, horizon_dates=20)
    assert plan.reason.endswith("drifted in 1 of the last 2 checks; a retraining needs 2 of 3")
    assert plan.episode is not None


def test_a_label_that_is_known_at_once_is_learnt_by_the_first_retraining() -> None:
    assert retrainings("d" * 30, horizon_dates=0, cooldown_days=0) == [0]


def test_the_worst_day_has_the_smallest_p() -> None:
    made = [CheckedDay(as_of=day(n), verdict="drifted", p_value=p) for n, p in enumerate((0.04, 0.01, 0.01, 0.02))]
    found = newest_episode([*made, CheckedDay(as_of=day(4), verdict="stable", p_value=0.001)])
    assert found is not None
    assert found.worst.as_of == day(1)


def test_no_order_of_verdicts_retrains_more_than_twice_an_episode() -> None:
    for letters in itertools.product("ds", repeat=6):
        verdicts = "".join(letter * 12 for letter in letters)
        n_episodes = len({found.began for n in range(72) if (found := newest_episode(checks(verdicts[: n + 1])))})
        assert len(retrainings(verdicts, cooldown_days=0)) <= 2 * n_episodes
