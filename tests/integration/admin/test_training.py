"""Trainings are started for those that are ticked, with an estimate before; what was started is shown and cancelled."""

from __future__ import annotations

import re
from typing import Any

import pytest

from admin.listing import PAGE_ROWS
from admin.routes import training
from mlops.domain.policies import MAX_TRIALS
from mlops.domain.records import Kind, RunState, Stage, StageOutcome, WorkerBeat
from mlops.strategies.file import Strategies
from tests.support.admin import HTML, Browser
from tests.support.ledgers import decision_for, promoting
from tests.support.services import FakeServices, fake_services, small_strategy

NAMES = ("dividend", "growth", "momentum", "value")


@pytest.fixture
def services(tmp_path: Any, timed: Any) -> FakeServices:
    """Four strategies."""
    return fake_services(tmp_path, timed, *(small_strategy(name) for name in NAMES))


def started(operator: Browser, **fields: Any) -> str:
    """The page of what a form started."""
    answer = operator.post("/admin/training", **fields)
    assert answer.status_code == 303, answer.text
    return operator.get(answer.headers["location"]).text


def kinds(services: FakeServices) -> dict[str, tuple[str, dict[str, Any]]]:
    """Kind and parameters of each strategy's run."""
    return {run.strategy: (run.kind.value, run.params) for run in services.ledger.runs()}


def trained(services: FakeServices, strategy: str, version: str, *, seconds: float = 40.0) -> str:
    """A training that took so long."""
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, strategy)
    services.timed.advance(seconds)
    result = {"version": version, "metrics": {"accuracy": 0.71, "f1_score": 0.62, "roc_auc": 0.83}}
    services.ledger.finish(grant, StageOutcome(result=result, run_state=RunState.SUCCEEDED))
    return grant.run_id


def test_each_strategy_has_its_champion_and_its_last_training(services: FakeServices, operator: Browser) -> None:
    run_id = trained(services, "growth", "4")
    services.ledger.decide(promoting(services.ledger), decision_for("3"))
    page = operator.get("/admin/training").text
    row = next(line for line in page.split("<tr>") if "Train growth" in line)
    assert "v3" in row
    assert f"/admin/runs/{run_id}" in row
    assert "v4" in row
    assert "40 s" in row
    assert "Train value" in page
    values = operator.json("/admin/training?sort=-trained")
    assert next(line["strategy"] for line in values["list"]["rows"]) == "growth"
    assert values["lately"][0]["metrics"]["roc_auc"] == 0.83


def test_the_list_is_searched_and_filtered_on_the_server(services: FakeServices, operator: Browser) -> None:
    services.ledger.decide(promoting(services.ledger), decision_for("3"))
    services.granted(Kind.PIPELINE, Stage.DRIFT, "value")

    def names(query: str) -> list[str]:
        return [line["strategy"] for line in operator.json(f"/admin/training?{query}")["list"]["rows"]]

    assert names("q=mom") == ["momentum"]
    assert names("show=no+champion") == ["dividend", "momentum", "value"]
    assert names("show=running") == ["value"]


@pytest.mark.parametrize(
    ("fields", "kind", "params"),
    [
        ({"what": "train", "promote": "true"}, "retrain", {}),
        ({"what": "train"}, "train", {}),
        ({"what": "incremental", "promote": "true"}, "retrain", {"incremental": True}),
        ({"what": "tune", "trials": "12"}, "train", {"tune": 12}),
        ({"what": "auto"}, "pipeline", {}),
    ],
)
def test_each_button_opens_runs_of_its_kind_for_those_that_are_ticked(
    services: FakeServices, operator: Browser, fields: dict[str, str], kind: str, params: dict[str, Any]
) -> None:
    page = started(operator, strategies=["growth", "value"], **fields)
    assert kinds(services) == {"growth": (kind, params), "value": (kind, params)}
    assert {publication.strategy for publication in services.sent} == {"growth", "value"}
    for run in services.ledger.runs():
        assert f"/admin/runs/{run.run_id}" in page
        assert run.requested_by == "anna"


def test_all_means_all_that_the_search_finds_and_not_one_page(services: FakeServices, operator: Browser) -> None:
    names = {f"s{number:02}" for number in range(PAGE_ROWS + 3)}
    vars(services)["strategies"] = Strategies({name: small_strategy(name) for name in names})
    assert len(operator.json("/admin/training")["list"]["rows"]) == PAGE_ROWS
    started(operator, what="train", everything="true")
    assert {run.strategy for run in services.ledger.runs(limit=100)} == names


def test_all_under_a_search_is_those_that_it_finds(services: FakeServices, operator: Browser) -> None:
    started(operator, what="train", everything="true", q="m")
    assert set(kinds(services)) == {"momentum"}


def test_a_second_start_joins_what_runs_and_says_so(services: FakeServices, operator: Browser) -> None:
    started(operator, what="train", strategies=["growth"])
    answer = operator.post("/admin/training", follow=True, what="train", strategies=["growth"])
    assert "Nothing new was started." in answer.text
    assert "growth: a run of this kind is active already, and goes on" in answer.text
    assert len(services.ledger.runs()) == 1


def test_one_that_cannot_be_opened_says_why_and_stops_no_other(services: FakeServices, operator: Browser) -> None:
    services.ledger.edit_policy("value", "drift.no_such_thing", 1, actor="anna", reason="a test")
    page = started(operator, what="train", strategies=["growth", "value"])
    assert "Train: 1 run started." in page
    assert "value: " in page
    assert "drift.no_such_thing" in page
    assert set(kinds(services)) == {"growth"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"what": "train", "strategies": "unheard"}, "is not known"),
        ({"what": "tune", "strategies": "growth", "trials": str(MAX_TRIALS + 1)}, f"give 1 to {MAX_TRIALS}"),
        ({"what": "dance", "strategies": "growth"}, "what: input should be"),
    ],
)
def test_what_cannot_be_started_is_refused_in_words(
    services: FakeServices, operator: Browser, fields: dict[str, str], words: str
) -> None:
    answer = operator.post("/admin/training", **fields)
    assert answer.status_code in {404, 400, 422}
    assert words in answer.text
    assert services.ledger.runs() == []


@pytest.mark.parametrize("fields", [{}, {"everything": "true", "q": "nothing-like-it"}])
def test_with_nothing_ticked_a_hint_stands_on_the_page_and_nothing_starts(
    services: FakeServices, operator: Browser, fields: dict[str, str]
) -> None:
    operator.client.headers["referer"] = "http://page/admin/training"
    page = operator.post("/admin/training", what="train", follow=True, **fields)
    assert (page.status_code, page.url.path) == (200, "/admin/training")
    assert '<p class="alert hint">no strategy is ticked; tick those to train' in page.text
    assert services.ledger.runs() == []


def test_the_reason_is_kept_with_the_runs(services: FakeServices, operator: Browser) -> None:
    started(operator, what="train", strategies=["growth"], reason="new features are in")
    assert services.ledger.runs()[0].reason == "new features are in"


def test_what_was_started_is_audited_with_its_numbers(services: FakeServices, operator: Browser) -> None:
    started(operator, what="train", strategies=["growth", "value"])
    line = next(line for line in services.ledger.audit_lines() if line.action == "training.start")
    assert (line.actor, line.subject) == ("anna", "train")
    assert line.detail == {"strategies": 2, "kind": "train", "opened": 2, "failed": 0}


# ---- the question before


def asked(operator: Browser, query: str) -> str:
    answer = operator.get(f"/admin/training/estimate?{query}", **{"hx-request": "true"})
    assert answer.status_code == 200, answer.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", answer.text))


def test_the_question_says_how_many_which_and_how_long(services: FakeServices, operator: Browser) -> None:
    trained(services, "growth", "1", seconds=40)
    trained(services, "growth", "2", seconds=60)
    services.ledger.worker_seen(
        WorkerBeat(
            name="train-cpu@host", role="train", queues=("train.cpu",), device="cpu", pid=1, host="h", concurrency=1
        )
    )
    words = asked(operator, "what=train&strategies=growth&strategies=value&promote=true")
    assert "Train: 2 strategies (growth, value)." in words
    assert "promoted where the policy allows" in words
    assert "Estimate: about 1 min 40 s, up to 2 min for the trainings: 50 s each, 1 at a time" in words
    assert "by 2 earlier ones of this kind" in words
    assert "Staging" in asked(operator, "what=train&strategies=growth")


def test_the_question_says_that_nothing_like_it_has_run(services: FakeServices, operator: Browser) -> None:
    assert "Nothing has been trained yet" in asked(operator, "what=train&strategies=growth")
    trained(services, "growth", "1", seconds=40)
    words = asked(operator, "what=incremental&strategies=growth")
    assert "No training of this kind has run yet" in words
    assert "a full training takes 40 s" in words


def test_the_question_warns_of_what_runs_already_and_of_workers_that_are_not_there(
    services: FakeServices, operator: Browser
) -> None:
    started(operator, what="train", strategies=["growth"])
    words = asked(operator, "what=train&strategies=growth&strategies=value")
    assert "Active already, and not started again: growth." in words
    assert "1 training waits in the queue" in words
    assert "No worker that trains is alive" in words


def test_auto_retrain_is_estimated_by_what_drifted_or_has_no_champion(
    services: FakeServices, operator: Browser
) -> None:
    trained(services, "growth", "1", seconds=40)
    services.ledger.decide(promoting(services.ledger), decision_for("1"))
    words = asked(operator, "what=auto&strategies=growth&strategies=value")
    assert "1 of them drifted at the last check, or have no champion" in words
    assert "about 40 s" in words
    assert "the drift checks alone" in asked(operator, "what=auto&strategies=growth")


def test_a_question_about_nothing_says_what_to_tick(operator: Browser) -> None:
    assert "No strategy is ticked; tick those to train" in asked(operator, "what=tune")


def test_of_many_strategies_some_are_named(operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "NAMED", 2)
    assert "4 strategies (dividend, growth and 2 more)" in asked(operator, "what=train&everything=true")


# ---- after it


def test_progress_shows_on_the_page_of_what_was_started_and_on_the_first(
    services: FakeServices, operator: Browser
) -> None:
    address = operator.post("/admin/training", what="train", strategies=["growth"]).headers["location"]
    grant = services.claimed(services.ledger.runs()[0].run_id, Stage.TRAIN)
    services.ledger.renew(grant, progress={"done": 3, "total": 10, "unit": "rounds", "left_s": 70})
    for path in (address, "/admin/training"):
        part = operator.get(path, **{"hx-request": "true"}).text
        assert "3 of 10 rounds, 1 min 10 s left" in part
        page = operator.get(path).text
        assert f'data-live-run="{grant.run_id}"' in page
        assert "3 of 10 rounds, 1 min 10 s left" in page


def test_progress_without_a_time_left_is_shown_without_one(services: FakeServices, operator: Browser) -> None:
    address = operator.post("/admin/training", what="tune", strategies=["growth"]).headers["location"]
    grant = services.claimed(services.ledger.runs()[0].run_id, Stage.TRAIN)
    services.ledger.renew(grant, progress={"done": 0, "total": 30, "unit": "trials"})
    for path in (address, "/admin/training"):
        assert ">0 of 30 trials</span>" in operator.get(path).text


def test_all_that_was_started_is_cancelled_at_once_and_nothing_else(services: FakeServices, operator: Browser) -> None:
    other = services.granted(Kind.TRAIN, Stage.TRAIN, "dividend")
    address = operator.post("/admin/training", what="train", strategies=["growth", "value"]).headers["location"]
    batch = operator.json(address)["start"]["batch_id"]
    answer = operator.post("/admin/training/started/cancel", follow=True, batch=batch)
    assert "2 runs cancelled, or asked to stop." in answer.text
    states = {run.strategy: run.state.value for run in services.ledger.runs()}
    assert states == {"growth": "cancelled", "value": "cancelled", "dividend": "running"}
    assert services.ledger.run(other.run_id).cancel_requested is False
    again = operator.post("/admin/training/started/cancel", follow=True, batch=batch)
    assert "Nothing of it runs any more." in again.text


def test_without_a_batch_it_is_what_one_started_oneself_in_the_last_day(
    services: FakeServices, operator: Browser
) -> None:
    services.granted(Kind.TRAIN, Stage.TRAIN, "dividend")
    operator.post("/admin/training", what="train", strategies=["growth"])
    services.timed.advance(3600)
    assert [line["strategy"] for line in operator.json("/admin/training/started")["list"]["rows"]] == ["growth"]
    services.timed.advance(86400)
    operator.sign_in("anna")
    assert "Nothing was started then." in operator.get("/admin/training/started").text


def test_nothing_is_cancelled_where_no_batch_is_named(services: FakeServices, operator: Browser) -> None:
    operator.post("/admin/training", what="train", strategies=["growth"])
    assert "Cancel all that wait or work" not in operator.get("/admin/training/started").text
    for asked in ({}, {"batch": ""}):
        assert operator.post("/admin/training/started/cancel", **asked).status_code == 422
    assert [run.state.value for run in services.ledger.runs()] == ["queued"]


def test_a_batch_that_is_none_is_not_found(operator: Browser) -> None:
    assert operator.get("/admin/training/started?batch=of-yesterday").status_code == 404


def test_a_program_starts_and_gets_the_run_ids(services: FakeServices, nobody: Browser) -> None:
    _, text = services.ledger.add_token("nightly", user="anna", role="operator")
    answer = nobody.client.post(
        "/admin/training",
        data={"what": "train", "strategies": ["growth"]},
        headers={"authorization": f"Bearer {text}", "accept": "application/json"},
    )
    (one,) = answer.json()["started"]
    assert (one["strategy"], one["created"]) == ("growth", True)
    assert services.ledger.run(one["run_id"]).requested_by == "anna (nightly)"


def test_a_viewer_sees_it_all_and_has_no_button(services: FakeServices, viewer: Browser) -> None:
    services.granted(Kind.TRAIN, Stage.TRAIN, "growth")
    page = viewer.get("/admin/training").text
    main = page[page.index("<main") :]
    assert "growth" in main
    for absent in ("/admin/training/estimate", 'name="what"', 'name="strategies"', "/cancel"):
        assert absent not in main
    answer = viewer.client.post("/admin/training", data={"csrf": viewer.csrf, "what": "train"}, headers=HTML)
    assert answer.status_code == 403
