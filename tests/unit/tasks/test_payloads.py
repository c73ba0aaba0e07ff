"""Messages survive their way through JSON, and anything that is no message is refused in words."""

from __future__ import annotations

import json
from datetime import date
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import String

from mlops.domain.errors import ConfigurationError
from mlops.ledger import tables
from mlops.strategies.file import Strategies
from tasks.payloads import (
    InvalidMessage,
    LostMessage,
    StageMessage,
    StartCheck,
    StartMessage,
    StartPromotion,
    StartTraining,
)
from tests.support.services import small_strategy

kept = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
names = st.text(kept, min_size=1, max_size=63)
run_ids = st.from_regex(r"[A-Za-z0-9_.:-]{1,155}", fullmatch=True)
numbers = st.from_regex(r"[0-9]{1,16}", fullmatch=True)
shares = st.one_of(st.none(), st.floats(min_value=0.01, max_value=1.0))
common = {
    "strategy": names,
    "as_of": st.one_of(st.none(), st.dates(date(1900, 1, 1), date(2200, 12, 31))),
    "reason": st.text(kept, max_size=500),
    "requested_by": st.text(kept, max_size=200),
}
messages = st.one_of(
    st.builds(StageMessage, run_id=run_ids, publish_no=st.integers(0, 2**31 - 1)),
    st.builds(StartCheck, **common, check_only=st.booleans(), drift_threshold=shares, min_accuracy=shares),
    st.builds(
        StartTraining,
        **common,
        promote=st.booleans(),
        min_accuracy=shares,
        incremental=st.booleans(),
        tune=st.one_of(st.none(), st.integers(1, 500)),
    ),
    st.builds(StartPromotion, **common, version=st.one_of(st.none(), numbers), min_accuracy=shares),
)


@given(messages)
def test_a_message_is_the_same_after_its_way_through_json(message: StageMessage | StartMessage) -> None:
    sent = json.loads(json.dumps(message.model_dump(mode="json")))
    assert type(message).read("a.task", sent) == message


@given(st.dictionaries(st.text(max_size=12), st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()))))
def test_anything_else_is_refused_and_never_crashes(arguments: dict[str, Any]) -> None:
    for kind in (StageMessage, StartCheck, StartTraining, StartPromotion):
        if {"strategy", "run_id"} & set(arguments):
            continue
        with pytest.raises(InvalidMessage):
            kind.read("a.task", arguments)


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (StartCheck, {"strategy": "growth", "treshold": 0.3}, "treshold: Extra inputs"),
        (StartCheck, {"strategy": "growth", "reason": "a\x00b"}, "reason: Value error, a text with a NUL"),
        (StartCheck, {"strategy": "growth", "as_of": "1899-12-31"}, "greater than or equal to 1900-01-01"),
        (StartCheck, {"strategy": "growth", "as_of": "2201-01-01"}, "less than or equal to 2200-12-31"),
        (StageMessage, {"run_id": "n" * 156, "publish_no": 1}, "at most 155"),
        (StageMessage, {"run_id": "a\n", "publish_no": 1}, "run_id: String should match"),
        (
            LostMessage,
            {"run_id": "r", "task": "a.task", "task_id": "t", "cause": "c"},
            "task: Input should be 'drift.check'",
        ),
        (StartCheck, {}, "strategy: Field required"),
        (StartCheck, {"strategy": "growth", "as_of": "yesterday"}, "as_of: Input should be a valid date"),
        (StartCheck, {"strategy": "growth", "as_of": "0001-01-01"}, "as_of: Input should be greater than or equal"),
        (StartCheck, {"strategy": "g" * 64}, "strategy: String should have at most 63"),
        (StartPromotion, {"strategy": "growth", "version": "7; --"}, "version: String should match"),
        (StageMessage, {"run_id": "a/../b", "publish_no": 1}, "run_id: String should match"),
        (StageMessage, {"run_id": "a", "publish_no": 2**31}, "publish_no: Input should be less than"),
        (StartCheck, {"strategy": "growth", "drift_threshold": 0}, "greater than 0"),
        (StartCheck, {"strategy": "growth", "drift_threshold": 1.5}, "less than or equal to 1"),
        (StartCheck, {"strategy": "growth", "drift_threshold": float("nan")}, "drift_threshold: Input should be"),
        (StartTraining, {"strategy": "growth", "min_accuracy": float("nan")}, "min_accuracy: Input should be"),
        (StartTraining, {"strategy": "growth", "min_accuracy": 70}, "less than or equal to 1"),
        (StartTraining, {"strategy": "growth", "tune": 0}, "greater than or equal to 1"),
        (StartTraining, {"strategy": 5}, "strategy: Input should be a valid string"),
        (StartPromotion, {"strategy": "growth", "version": 3}, "version: Input should be a valid string"),
        (StageMessage, {"run_id": "", "publish_no": 1}, "at least 1 character"),
        (StageMessage, {"run_id": "r"}, "publish_no: Field required"),
        (StageMessage, {"run_id": "r", "publish_no": -1}, "greater than or equal to 0"),
        (StageMessage, {"run_id": "r", "publish_no": 1, "strategy": "growth"}, "strategy: Extra inputs"),
    ],
)
def test_a_refusal_names_the_task_the_argument_and_what_is_allowed(
    kind: type[StageMessage | StartMessage], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        kind.read("drift.check", arguments)
    said = str(caught.value)
    assert said.startswith("drift.check: ")
    assert words in said
    assert all(field in said for field in kind.model_fields)


def test_a_bell_can_name_every_run_that_the_ledger_can_keep() -> None:
    column = tables.run.c.run_id.type
    assert isinstance(column, String)
    longest = "r" * cast("int", column.length)
    assert StageMessage.read("drift.check", {"run_id": longest, "publish_no": 1}).run_id == longest
    with pytest.raises(InvalidMessage, match="run_id"):
        StageMessage.read("drift.check", {"run_id": longest + "r", "publish_no": 1})


def test_a_start_opens_a_run_of_an_id_of_up_to_128_and_a_bell_names_one_on_record_of_up_to_155() -> None:
    policies = Strategies({"growth": small_strategy("growth")})
    asked = StartCheck.read("drift.check", {"strategy": "growth"})
    assert asked.request(policies, run_id="r" * 128).run_id == "r" * 128
    for other in ("r" * 129, "", "a b", "a/../b", "a\n"):
        with pytest.raises(ConfigurationError, match="run id"):
            asked.request(policies, run_id=other)
    assert StageMessage.read("drift.check", {"run_id": "r" * 155, "publish_no": 1}).run_id == "r" * 155


def test_a_bare_strategy_is_a_whole_request() -> None:
    assert StartCheck.read("drift.check", {"strategy": "growth"}) == StartCheck(
        strategy="growth", as_of=None, check_only=False, drift_threshold=None, min_accuracy=None
    )


def test_a_start_training_promotes_unless_it_says_otherwise() -> None:
    assert StartTraining.read("model.train", {"strategy": "growth"}).promote
