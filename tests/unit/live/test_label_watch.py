"""Label watch: turned-around labels are found and located, a market that changes level is not taken for it."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.label_watch import LabelWatch, _bound, watch_labels

FIRST = date(2020, 1, 1)
N_HELD_OUT = 60
Labels = npt.NDArray[np.int8]


def scored(p: npt.NDArray[np.float64], y: npt.NDArray[np.bool_]) -> dict[date, DayScore]:
    """p, y : (dates, names)"""
    known = np.ones(p.shape[1], dtype=bool)
    return {FIRST + timedelta(days=i): score_day(p[i], y[i].astype(np.int8), known, None) for i in range(len(p))}


def simulated(
    seed: int, *, n_dates: int = 260, n_names: int = 30, skill: float = 0.8, bar: float = 0.0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Probabilities and labels of names that are drawn anew each date; latent correlation `skill`, 1 above `bar`."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n_dates, n_names))
    latent = skill * z + math.sqrt(1 - skill**2) * rng.normal(size=z.shape)
    return 1 / (1 + np.exp(-2 * z)), latent > bar


def watched(
    p: npt.NDArray[np.float64], y: npt.NDArray[np.bool_], *, horizon: int = 20, alpha: float = 0.05
) -> LabelWatch:
    """The first 60 dates are those held out."""
    days = scored(p, y)
    live = FIRST + timedelta(days=N_HELD_OUT)
    return watch_labels(
        {day: one for day, one in days.items() if day >= live},
        held_out={day: one for day, one in days.items() if day < live},
        as_of=max(days),
        horizon_dates=horizon,
        alpha=alpha,
    )


def test_the_statistic_is_pages_sum_by_hand() -> None:
    # Names 0.2 and 0.8, one of each label: the pair is right (loss 0) or wrong (loss 1), weight 1 * 1 / (2 + 1).
    right, wrong = np.array([False, True]), np.array([True, False])
    order = [right, wrong] * 5 + [right, wrong, wrong, wrong, right]
    days = scored(np.tile([0.2, 0.8], (len(order), 1)), np.array(order))
    held_out = {day: days[day] for day in sorted(days)[:10]}
    live = {day: days[day] for day in sorted(days)[10:]}
    found = watch_labels(live, held_out=held_out, as_of=max(live), horizon_dates=1, alpha=0.05)
    # Level 5 of 10. Usual variance of 5 dates of weight 1 / 3: (1 / (12 / 3) + 0.1^2) / 5 = 0.052. Their own: excesses
    # of -1/2 and 1/2 in turn have sums of 5 of -1/2 and 1/2, means of 1/10; 0.01 / (1 - 5 / 10) = 0.02, of
    # 1.5 (10 / 5 - 1) = 1.5 degrees of freedom beside 8.
    s = math.sqrt((8 * 0.052 + 1.5 * 0.02) / 9.5)
    # The last date's label is not known; no skill is at the level, so k is the least, 1.
    sums, total = [], 0.0
    for loss in (0, 1, 1, 1):
        total = max(0.0, total + (loss - 0.5 - s) / (5 * s))
        sums.append(total)
    assert [value for _, value in found.path] == pytest.approx(sums)
    assert [day for day, _ in found.path] == sorted(live)[1:]
    assert (found.level, found.n_dates, found.recent) == (pytest.approx(0.5), 4, pytest.approx(0.75))


@pytest.mark.parametrize("horizon", [1, 20])
def test_labels_that_are_turned_around_are_found_within_a_week_of_being_known_and_located(horizon: int) -> None:
    flip = 100
    for seed in range(3):
        p, y = simulated(seed)
        found = watched(p, np.where(np.arange(len(y))[:, None] >= N_HELD_OUT + flip, ~y, y), horizon=horizon)
        at = FIRST + timedelta(days=N_HELD_OUT + flip)
        assert found.fired_on is not None
        assert found.change_at is not None
        assert at + timedelta(days=horizon) <= found.fired_on <= at + timedelta(days=horizon + 7)
        assert abs((found.change_at - at).days) <= 2
        assert found.words.startswith(f"newly known labels contradict the model since {found.change_at}")


def test_a_market_in_which_all_labels_change_at_once_is_no_contradiction() -> None:
    for seed in range(3):
        p, y = simulated(seed)
        # From the 100th live date on nine labels of ten are 1, by the same order of names: Phi(1.28) = 0.9.
        _, crowded = simulated(seed, bar=-1.28)
        y = np.where(np.arange(len(y))[:, None] >= N_HELD_OUT + 100, crowded, y)
        assert watched(p, y).fired_on is None
        # Or all are: then no pair is left, and nothing is said of them.
        y[N_HELD_OUT + 100 :] = True
        assert watched(p, y).fired_on is None


def test_years_of_overlapping_labels_without_a_change_have_few_alarms() -> None:
    n_fired = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n_dates, n_names, horizon = N_HELD_OUT + 252 + 20, 8, 20
        # Trend scores and labels that both last: what a name is worth is a moving sum of 20 dates, names alike in part.
        noise = rng.normal(size=(n_dates + horizon, n_names)) + 0.5 * rng.normal(size=(n_dates + horizon, 1))
        latent = np.stack([noise[i : i + horizon].sum(axis=0) for i in range(n_dates)]) / math.sqrt(horizon)
        score = np.repeat(rng.normal(size=(n_dates // 20 + 1, n_names)), 20, axis=0)[:n_dates]
        n_fired += watched(1 / (1 + np.exp(-score)), latent + 0.5 * score > 0).fired_on is not None
    # 5 % are asked: 1 of 20; 4 and more have a probability of 1.6 % (binomial).
    assert n_fired <= 3


def test_a_decision_uses_nothing_that_was_not_known_on_its_day_and_stays() -> None:
    p, y = simulated(1)
    y = np.where(np.arange(len(y))[:, None] >= N_HELD_OUT + 100, ~y, y)
    days, found = scored(p, y), watched(p, y)
    assert found.fired_on is not None
    live = {day: one for day, one in days.items() if day >= FIRST + timedelta(days=N_HELD_OUT)}
    held_out = {day: one for day, one in days.items() if day not in live}

    def on(day: date) -> LabelWatch:
        return watch_labels(live, held_out=held_out, as_of=day, horizon_dates=20, alpha=0.05)

    again = on(found.fired_on)
    assert (again.fired_on, again.statistic) == (found.fired_on, found.statistic)
    # Later labels locate the change better: it is where they were turned around, at the end as at the alarm.
    assert again.change_at == found.change_at == FIRST + timedelta(days=N_HELD_OUT + 100)
    before = on(found.fired_on - timedelta(days=1))
    assert before.fired_on is None
    assert before.path == again.path[:-1]


def test_the_bound_is_higher_the_less_it_rests_on_and_the_rarer_an_alarm_is_to_be() -> None:
    few, more = (_bound(n, 20, 1.0, 0.05) for n in (30, 250))
    assert few > more
    assert _bound(250, 20, 1.0, 0.01) > more


def test_the_bound_is_that_of_a_long_known_brownian_motion_where_much_is_known() -> None:
    # Brownian motion of drift -k and variance 1 a block needs (exp(2 k b) - 2 k b - 1) / (2 k^2) blocks on average to
    # its first alarm (Siegmund 1985, Sequential Analysis). At 5 % in 252 / 5 = 50.4 blocks these are 50.4 / 0.0513 =
    # 982, with k = 1: b = log(2 * 982 + 1 + 2 b) / 2 = 3.79. Sums of dates are smoother, and their spread differs from
    # strategy to strategy: less than a half.
    assert _bound(504, 5, 1.0, 0.05) == pytest.approx(3.79, abs=0.5)


def test_panels_without_pairs_are_said_to_be_untold() -> None:
    p, y = simulated(1, n_names=1)
    found = watched(p, y)
    assert (found.fired_on, found.bound, found.level, found.path) == (None, None, None, ())
    assert found.words.startswith("newly known labels cannot be watched: 0 of the 60 held-out dates")


def test_no_label_has_become_known_yet() -> None:
    p, y = simulated(1, n_dates=N_HELD_OUT + 20)
    found = watched(p, y)
    assert (found.fired_on, found.n_dates, found.statistic, found.recent) == (None, 0, 0.0, None)
    assert found.words == "no label has become known since the training; the first does with the next date"
