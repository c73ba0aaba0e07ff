"""`acis experiment`: what it prints and gives back before a start, while one runs, and of its end."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.app import app
from mlops.domain.experiments.decision import Action, Mode
from mlops.domain.experiments.records import Experiment
from mlops.runs import experiments
from tasks import services as task_services
from tests.integration.admin.test_experiment_pages import said
from tests.support.experiments import begun, looked_at
from tests.support.model_pages import champion
from tests.support.services import FakeServices


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["experiment", *arguments], input=answer)


@pytest.fixture(autouse=True)
def connected(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 3 is the champion; what a start says and writes is made up."""

    def start(services: FakeServices, strategy: str, version: str, options: Any, **_: Any) -> Experiment:
        return begun(services, version, strategy, mode=options.mode)

    monkeypatch.setattr(task_services, "connect", lambda: services)
    monkeypatch.setattr(experiments, "preview", said)
    monkeypatch.setattr(experiments, "start", start)
    champion(services, "3", as_of=date(2026, 2, 2))


def test_before_it_starts_it_says_how_long_and_without_a_yes_nothing_is_started(services: FakeServices) -> None:
    asked = run("start", "growth", "7", "--reason", "earnings")
    assert asked.exit_code == 2
    assert "use the held-out test instead" in asked.output
    assert "give --yes" in asked.output
    assert services.ledger.running_experiment("growth") is None


def test_a_person_at_a_terminal_is_asked(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.experiments._is_terminal", lambda: True)
    assert run("start", "growth", "7", "--reason", "earnings", answer="n\n").exit_code == 1
    assert services.ledger.running_experiment("growth") is None
    begins = run("start", "growth", "7", "--reason", "earnings", answer="y\n")
    assert begins.exit_code == 0
    assert services.ledger.running_experiment("growth") is not None


def test_json_is_one_object_with_the_experiment_and_what_was_said(services: FakeServices) -> None:
    found = run("start", "growth", "7", "--mode", "canary", "--steps", "1%, 50%", "--reason", "e", "--yes", "--json")
    assert found.exit_code == 0
    told = json.loads(found.stdout)
    assert (told["experiment"]["challenger_version"], told["experiment"]["plan"]["mode"]) == ("7", "canary")
    assert told["preview"]["duration"]["median"] is None


@pytest.mark.parametrize("options", [("--mode", "half"), ("--share", "50"), ("--alpha", "much")])
def test_an_option_that_cannot_be_is_named_in_one_line(options: tuple[str, str]) -> None:
    found = run("start", "growth", "7", "--reason", "e", "--yes", *options)
    assert found.exit_code == 2
    assert options[0][2:] in found.output
    assert "Traceback" not in found.output


def test_show_has_the_looks_the_guardrails_the_end_and_what_follows(services: FakeServices) -> None:
    made = begun(services)
    looked_at(services, made, 24)
    shown = run("show", "growth").output
    for part in (
        "canary at 25 %, step 3 of 4",
        "expected end: about 2026-06-10",
        "the next step is 100 %",
        "latency ratio",
        "too few answers",
        "bp to",
        "|",
    ):
        assert part in shown, part
    told = json.loads(run("show", str(made.id), "--json").stdout)
    assert (told["experiment"]["id"], len(told["looks"])) == (made.id, 24)


def test_a_list_and_the_end_of_one_say_what_came_of_it(services: FakeServices) -> None:
    assert "No experiments." in run("list").output
    made = begun(services, mode=Mode.SHADOW, steps=(0.0,))
    looked_at(services, made, 9, end=Action.KEEP)
    assert "was shown better" in run("list", "growth").output
    assert "It has ended: keep after 9 days." in run("show", "growth").output
    assert "growth" not in run("list", "nonesuch").stdout
    assert run("show", "999").exit_code == 2


def test_steering_needs_a_reason_and_is_audited_with_who_asked(services: FakeServices) -> None:
    made = begun(services)
    assert run("hold", "growth").exit_code == 2
    assert ", held" in run("hold", "growth", "--reason", "a feed is late").output
    assert ", held" not in run("release", "growth", "--reason", "it came").output
    assert "step 2 of 4" in run("advance", "growth", "--reason", "all is well").output
    assert "ended early" in run("abort", str(made.id), "--reason", "a mistake").output
    again = run("abort", str(made.id), "--reason", "again")
    assert (again.exit_code, "start another" in again.output) == (2, True)
    lines = services.ledger.audit_lines(action="experiment")[::-1]
    assert [line.action for line in lines] == [
        f"experiment.{act}" for act in ("start", "hold", "release", "advance", "abort")
    ]
    assert {line.detail["reason"] for line in lines[1:]} == {"a feed is late", "it came", "all is well", "a mistake"}


def test_a_key_is_told_its_version_and_why(services: FakeServices) -> None:
    assert "AAPL: v3 (champion): no experiment of growth runs" in run("route", "growth", "AAPL").output
    made = begun(services, keys=("AAPL",))
    found = json.loads(run("route", "growth", "AAPL", "MSFT", "--json").stdout)["keys"]
    assert [one["version"] for one in found] == ["7", "7" if made.assignment.is_challengers("MSFT") else "3"]
    assert "was named" in found[0]["reason"] or "were named" in found[0]["reason"]
