"""What is drawn and said of an experiment's looks: the interval, the days of each share, its end, and a typed share."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from admin.pictures.experiment import sequence_picture
from mlops.domain.errors import ConfigurationError
from mlops.domain.experiments.decision import Action, Guardrail
from mlops.domain.experiments.records import Experiment, Look
from mlops.domain.promotion.records import ModelIdentity
from mlops.reporting.experiments import bar, expected_end, guardrail_state, next_words, standing
from mlops.runs.experiment_options import options_of
from tests.support.experiments import STARTED, plan
from tests.support.live_scores import trading_days


def experiment(**changes: Any) -> Experiment:
    made = Experiment(
        namespace="live", strategy="growth", plan=plan(), champion_version="3", champion_seq=1,
        champion=ModelIdentity(sha256=None, made_by=None), challenger_version="7",
        challenger=ModelIdentity(sha256=None, made_by=None), started_as_of=STARTED, started_by="anna", reason="r", id=1,
        step=0, step_since=STARTED, held=False, started_at=datetime(2026, 3, 2, tzinfo=UTC),
    )  # fmt: skip
    return replace(made, **changes)


def looks(n: int, **changes: Any) -> list[Look]:
    """The interval halves with each look, and the share changes after the third."""
    return [
        Look(
            as_of=day, n_days=place + 1, mean=0.0002, low=-(0.5**place) if place else None,
            high=0.5**place if place else None, share=0.01 if place < 3 else 0.05, guardrails=(), action=Action.WAIT,
            words="not decided", differences=(), **changes,
        )
        for place, day in enumerate(trading_days(STARTED, n + 1)[1:])
    ]  # fmt: skip


def test_without_a_look_nothing_is_drawn() -> None:
    assert sequence_picture(experiment(), []) is None
    assert "No day has been looked at" in next_words(experiment(), [])


def test_what_is_shown_is_what_the_newest_interval_needs_and_each_share_has_its_days() -> None:
    found = sequence_picture(experiment(), looks(8))
    assert found is not None
    newest = 0.5**7 * 1e4
    assert newest < found.values.high < 3 * newest
    assert found.values.low < 0 < found.values.high
    assert [(band.share, band.first, band.last) for band in found.bands] == [
        (0.01, date(2026, 3, 3), date(2026, 3, 5)),
        (0.05, date(2026, 3, 6), date(2026, 3, 12)),
    ]
    assert (found.points[0].low, found.points[0].mean, found.unit) == (None, 2.0, "bp")


def test_the_expected_end_is_drawn_once_it_leaves_the_looks_a_third_of_the_width() -> None:
    early, late = sequence_picture(experiment(), looks(8)), sequence_picture(experiment(), looks(30))
    assert early is not None
    assert late is not None
    assert early.expected is None
    assert late.expected == expected_end(experiment()).median == date(2026, 6, 10)
    assert late.axis.has(date(2026, 6, 10))
    ended = sequence_picture(experiment(end=Action.ABORT), looks(30))
    assert ended is not None
    assert (ended.expected, ended.ended) == (None, looks(30)[-1].as_of)


def test_an_end_that_is_not_in_sight_is_said_to_be_the_deadline() -> None:
    never = experiment(plan=plan(expected={"low": None, "median": None, "high": None}, deadline_days=20))
    assert expected_end(never).words == "probably undecided at its deadline, about 2026-03-30"
    assert expected_end(experiment(plan=plan(expected=None))).median is None


def test_a_held_or_paused_one_says_what_it_waits_for() -> None:
    assert standing(experiment(held=True)) == "canary at 1 %, step 1 of 4, held"
    assert "until it is released" in next_words(experiment(held=True), looks(2))
    assert "answers nobody until it is released" in next_words(experiment(paused=True), looks(2))


def test_a_line_of_text_has_the_interval_zero_and_the_mean() -> None:
    one = replace(looks(1)[0], low=-0.5, high=1.0, mean=0.5)
    assert bar(one, reach=1.0, width=9) == "··[=|=+=]"
    assert bar(replace(one, low=None, high=None, mean=None), reach=1.0, width=5) == "··|··"


@pytest.mark.parametrize(
    ("value", "n", "said"), [(0.2, 200, "broken"), (0.1, 200, "holds"), (9.0, 199, "too few answers")]
)
def test_a_guardrail_is_broken_beyond_its_bound_of_enough_answers(value: float, n: int, said: str) -> None:
    one = Guardrail(name="calibration", value=value, bound=0.1, n=n, min_n=200)
    assert guardrail_state(one) == said
    assert guardrail_state(replace(one, is_clear=False)) == {"broken": "not clear yet"}.get(said, said)


def test_shares_and_keys_are_read_as_people_write_them() -> None:
    found = options_of(
        {"mode": "canary", "steps": "1 %, 5%; 0.25 100%", "keys": "AAPL,MSFT AAPL", "alpha": " ", "share": None}
    )
    assert found.steps == (0.01, 0.05, 0.25, 1.0)
    assert found.keys == ("AAPL", "MSFT")
    assert found.alpha is None
    assert options_of({"mode": "ab", "share": "50 %"}).share == 0.5
    for typed, words in (({"share": "50"}, "50%"), ({"steps": "a"}, "'a' is no share"), ({"mode": "x"}, "mode")):
        with pytest.raises(ConfigurationError, match=words):
            options_of(typed)
