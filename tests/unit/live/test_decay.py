"""Decay: seldom said of a model that is as it was, said of one that is not, and never by what was not known yet."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.decay import Decay, _Detector, detect_decay

from .simulated import FIRST, simulated_days

HORIZON, ALPHA = 10, 0.01
PROMOTED = FIRST + timedelta(days=120)


def decided(days: dict[date, DayScore], *, as_of: date | None = None, alpha: float = ALPHA) -> Decay:
    """The first 120 days are those on which the version was judged."""
    return detect_decay(
        {day: score for day, score in days.items() if day >= PROMOTED},
        at_promotion={day: score for day, score in days.items() if day < PROMOTED},
        as_of=as_of or max(days),
        horizon_dates=HORIZON,
        alpha=alpha,
    )


def useless(days: dict[date, DayScore], *, since: date) -> dict[date, DayScore]:
    """The same days with every prediction wrong from a day on: p = 0.1 where the label is 1."""
    wrong = score_day(np.full(10, 0.1), np.ones(10, dtype=np.int8), np.ones(10, dtype=bool))
    return {day: wrong if day >= since else score for day, score in days.items()}


def test_models_that_are_as_they_were_are_seldom_said_to_decay() -> None:
    rng = np.random.default_rng(17)
    years = [decided(simulated_days(rng, n_days=120 + 252 + 2 * HORIZON, horizon=HORIZON)) for _ in range(40)]
    # 1 % a year is asked: of 40, 3 and more would be seen in 1 % of the runs alone.
    assert sum(year.fired_on is not None for year in years) <= 2


def test_a_model_that_is_always_wrong_is_said_to_decay_by_its_outcomes_and_not_before_they_are_known() -> None:
    since = PROMOTED + timedelta(days=60)
    found = decided(useless(simulated_days(np.random.default_rng(1), n_days=400, horizon=HORIZON), since=since))
    (signal,) = (one for one in found.signals if one.name == "log_loss")
    assert signal.fired_on is not None
    assert since + timedelta(days=HORIZON) <= signal.fired_on <= since + timedelta(days=100)
    assert found.words.startswith("decay since ")
    assert "at promotion (90 %" in signal.words


def test_a_decision_uses_nothing_that_was_not_known_on_its_day() -> None:
    days = simulated_days(np.random.default_rng(1), n_days=400, horizon=HORIZON)
    as_of = PROMOTED + timedelta(days=150)
    later = useless(days, since=as_of - timedelta(days=HORIZON - 1))
    ours, theirs = decided(days, as_of=as_of), decided(later, as_of=as_of)
    ours_log_loss, theirs_log_loss = (
        next(one for one in found.signals if one.name == "log_loss") for found in (ours, theirs)
    )
    assert ours_log_loss == theirs_log_loss


def test_the_day_on_which_it_fired_stays_as_days_are_added() -> None:
    since = PROMOTED + timedelta(days=60)
    days = useless(simulated_days(np.random.default_rng(1), n_days=400, horizon=HORIZON), since=since)
    fired = decided(days).fired_on
    assert fired is not None
    assert decided(days, as_of=fired).fired_on == fired
    assert decided(days, as_of=fired - timedelta(days=1)).fired_on is None


def test_moves_as_on_no_date_that_it_was_judged_on_are_said_within_days() -> None:
    calm = simulated_days(np.random.default_rng(5), n_days=200, horizon=HORIZON)
    since = PROMOTED + timedelta(days=50)
    wild = simulated_days(np.random.default_rng(5), n_days=200, horizon=HORIZON, move=0.1)
    found = decided({day: wild[day] if day >= since else score for day, score in calm.items()})
    (signal,) = (one for one in found.signals if one.name == "moves")
    assert signal.fired_on is not None
    assert since < signal.fired_on <= since + timedelta(days=11)
    assert "times the" in signal.words
    assert "not known yet" in signal.words


def test_a_signal_that_loses_day_after_day_is_said() -> None:
    days = simulated_days(np.random.default_rng(6), n_days=300, horizon=HORIZON)
    loses = score_day(
        np.full(10, 0.9), np.ones(10, dtype=np.int8), np.ones(10, dtype=bool), np.full(10, -0.012), is_long=True
    )
    found = decided({day: loses if day >= PROMOTED + timedelta(days=50) else score for day, score in days.items()})
    (signal,) = (one for one in found.signals if one.name == "mark")
    assert signal.fired_on is not None
    assert signal.fired_on <= PROMOTED + timedelta(days=80)
    assert signal.words.startswith("the signal earned -0.")


def test_the_level_is_shared_by_the_signals_that_can_be_watched() -> None:
    days = simulated_days(np.random.default_rng(1), n_days=300, horizon=HORIZON)
    bounds = {one.name: one.bound for one in decided(days).signals}
    assert set(bounds) == {"log_loss", "mark", "moves"}
    assert bounds["log_loss"] == pytest.approx(252 / HORIZON / (ALPHA / 3))
    assert bounds["mark"] == pytest.approx(252 / (ALPHA / 3))
    # Without prices the outcomes alone are watched, at the whole level.
    bare = {
        day: score_day(np.full(4, 0.6), np.array([1, 0, 1, 1], dtype=np.int8), np.ones(4, dtype=bool)) for day in days
    }
    (only,) = decided(bare).signals
    assert (only.name, only.bound) == ("log_loss", pytest.approx(252 / HORIZON / ALPHA))


def test_a_version_that_was_judged_on_too_few_dates_is_said_to_be_undecidable() -> None:
    days = simulated_days(np.random.default_rng(1), n_days=300, horizon=HORIZON)
    found = detect_decay(days, at_promotion={}, as_of=max(days), horizon_dates=HORIZON, alpha=ALPHA)
    assert (found.fired_on, found.signals) == (None, ())
    assert found.words.startswith("decay cannot be told")


def test_no_live_day_yet_is_no_decay() -> None:
    days = simulated_days(np.random.default_rng(1), n_days=120, horizon=HORIZON)
    found = decided(days, as_of=PROMOTED)
    assert (found.fired_on, found.n_days) == (None, 0)


def test_the_detectors_mean_grows_by_one_a_look_while_nothing_has_changed() -> None:
    # E[R_n] = n for e-values of mean 1; the cut at 3 takes a little away, never adds.
    rng = np.random.default_rng(2)
    values = []
    for _ in range(4_000):
        detector = _Detector((0.5,))
        for z in rng.normal(size=12):
            detector.add(float(z))
        values.append(detector.path[-1])
    assert float(np.mean(values)) == pytest.approx(12, rel=0.08)
