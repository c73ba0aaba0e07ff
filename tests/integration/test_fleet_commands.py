"""`acis strategies`, `pause`, `resume`, `run`, `approve --tag`, `runs --failed`: many strategies on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.app import app
from mlops.diagnosis.answer import Answer, summed_up
from mlops.domain.policies import PromotionPolicy
from mlops.domain.records import Kind, RunState
from tasks import services as task_services
from tests.integration.admin.test_fleet import ended, fleet, paused
from tests.integration.retraining.test_promote_stage import decided, registered
from tests.support.services import FakeServices


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def connected(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_services, "connect", lambda: services)


def test_those_with_a_tag_are_paused_and_resumed(services: FakeServices) -> None:
    fleet(services, 30)
    answer = run("pause", "--tag", "pilot", "--reason", "the feed moves")
    assert (answer.exit_code, answer.output) == (0, "Paused: 3 of 3 strategies\n")
    assert set(paused(services)) == {"s000", "s010", "s020"}
    lines = [line for line in services.ledger.audit_lines() if line.action == "schedule.pause"]
    assert {(line.subject, line.detail["reason"]) for line in lines} == {
        (name, "the feed moves") for name in ("s000", "s010", "s020")
    }
    assert run("resume", "s000", "s010", "s020", "--reason", "it moved").exit_code == 0
    assert paused(services) == {}


def test_a_name_and_a_tag_are_those_of_either(services: FakeServices) -> None:
    fleet(services, 12)
    run("pause", "s003", "--tag", "pilot", "--job", "retrain", "--reason", "a test")
    assert paused(services) == dict.fromkeys(("s000", "s003", "s010"), ("retrain",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pause", "--reason", "r"), "no strategy is named; name some, or give --tag TAG, or --all"),
        (("pause", "--tag", "uk", "--reason", "r"), "no strategy has the tag 'uk'; tags: pilot, us"),
        (("run", "s999"), "'s999' is not known"),
    ],
)
def test_nothing_is_done_where_it_is_not_clear_to_which(
    services: FakeServices, arguments: tuple[str, ...], words: str
) -> None:
    fleet(services, 3)
    answer = run(*arguments)
    assert answer.exit_code == 2
    assert words in answer.output.replace("\n", " ")
    assert (paused(services), services.ledger.runs()) == ({}, [])


def test_one_that_fails_is_named_and_ends_in_exit_code_1(services: FakeServices) -> None:
    fleet(services, 3)
    services.ledger.edit_policy("s001", "drift.no_such_thing", 1, actor="anna", reason="a test")
    answer = run("pause", "--all", "--reason", "a test", "--json")
    assert answer.exit_code == 1
    told = {one["strategy"]: (one["is_changed"], bool(one["error"])) for one in json.loads(answer.output)["strategies"]}
    assert told == {"s000": (True, False), "s001": (False, True), "s002": (True, False)}


def test_a_job_is_run_now_on_the_workers(services: FakeServices) -> None:
    fleet(services, 12)
    assert run("run", "--tag", "pilot").output == "Runs opened: 2 of 2 strategies\n"
    assert {(one.strategy, one.kind) for one in services.ledger.runs()} == {
        ("s000", Kind.PIPELINE),
        ("s010", Kind.PIPELINE),
    }
    assert {publication.strategy for publication in services.sent} == {"s000", "s010"}


def test_what_waits_of_a_tag_is_approved_on_the_workers(services: FakeServices) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"), tags=("pilot",))
    registered(services)
    grant, _ = decided(services)
    assert run("approve", "--tag", "pilot", "--reason", "looked at it").output == "Approved: 1 of 1 strategy\n"
    (answer,) = [one for one in services.ledger.runs() if "answers" in one.params]
    assert answer.params["answers"] == grant.run_id


def test_strategies_and_runs_that_failed_are_listed(services: FakeServices) -> None:
    fleet(services, 12)
    ended(services, "s003", RunState.FAILED)
    ended(services, "s010", RunState.FAILED)
    ended(services, "s004", RunState.SUCCEEDED)
    listed = json.loads(run("strategies", "--failed", "--json").output)["strategies"]
    assert [line["strategy"] for line in listed] == ["s003", "s010"]
    assert [one["strategy"] for one in json.loads(run("runs", "--failed", "--tag", "pilot", "--json").output)] == [
        "s010"
    ]
    text = run("strategies", "--tag", "pilot").output
    assert "s010" in text
    assert "s003" not in text


def test_doctor_says_in_one_line_what_many_strategies_have_in_common() -> None:
    def about(name: str, level: str, kind: str) -> Answer:
        return Answer(subject=f"features of {name}", level=level, found=f"3 rows of {name}", strategy=name, kind=kind)  # type: ignore[arg-type]

    names = [f"s{number:03}" for number in range(400)]
    answers = [
        Answer(subject="broker", level="ok", found="answers"),
        *(about(name, "ok", "every window has its rows") for name in names[:380]),
        *(about(name, "error", "a window has no rows") for name in names[380:397]),
        *(about(name, "warning", "some dates do not count") for name in names[397:]),
    ]
    lines = [(one.level, one.subject, one.found) for one in summed_up(answers)]
    assert lines[:3] == [
        ("ok", "broker", "answers"),
        ("ok", "features of 380 strategies", "every window has its rows; as s000: 3 rows of s000"),
        (
            "error",
            "features of 17 strategies",
            "a window has no rows; as s380: 3 rows of s380; s381: 3 rows of s381; s382: 3 rows of s382",
        ),
    ]
    assert [subject for _, subject, _ in lines[3:]] == [f"features of {name}" for name in names[397:]]
