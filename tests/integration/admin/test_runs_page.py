"""Runs as a list and one by one; cancel, requeue, ask again."""

from __future__ import annotations

import pytest

from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from tests.integration.retraining.test_promote_stage import decided, registered
from tests.support.admin import JSON, Browser
from tests.support.services import FakeServices


def checked(services: FakeServices) -> str:
    """A check that ended well."""
    grant = services.granted(Kind.CHECK, Stage.DRIFT)
    services.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    return grant.run_id


def died(services: FakeServices) -> str:
    """A run whose attempts are used up."""
    grant = services.granted(Kind.CHECK, Stage.DRIFT)
    while services.ledger.run(grant.run_id).state is not RunState.DEAD:
        services.ledger.fail(grant, error="it crashed", retry=True)
        grant = services.ledger.claim(grant.run_id, Stage.DRIFT, worker="w2") or grant
    return grant.run_id


def test_runs_stand_newest_first_and_go_on_where_the_page_before_ended(services: FakeServices, viewer: Browser) -> None:
    ids = [checked(services) for _ in range(60)]
    first = viewer.json("/admin/runs")["list"]
    assert [row["run_id"] for row in first["rows"]] == ids[:-51:-1]
    second = viewer.client.get("/admin/runs", params={"before": first["older"]}, headers=JSON).json()["list"]
    assert [row["run_id"] for row in second["rows"]] == ids[9::-1]
    assert second["older"] is None


@pytest.mark.parametrize("before", ["nonsense", "2026-01-01~x", "2026-01-01T00:00:00+00:00"])
def test_a_place_that_is_none_is_refused_in_words(viewer: Browser, before: str) -> None:
    answer = viewer.client.get("/admin/runs", params={"before": before}, headers=JSON)
    assert (answer.status_code, "is no place in this list" in answer.json()["error"]) == (422, True)


def test_runs_are_found_by_strategy_state_kind_and_id(services: FakeServices, viewer: Browser) -> None:
    ended, dead = checked(services), died(services)
    active = services.granted(Kind.TRAIN, Stage.TRAIN).run_id

    def found(query: str) -> set[str]:
        return {row["run_id"] for row in viewer.json(f"/admin/runs?{query}")["list"]["rows"]}

    assert found("state=dead") == {dead}
    assert found("state=active") == {active}
    assert found("kind=check") == {ended, dead}
    assert found("q=value") == set()
    answer = viewer.get(f"/admin/runs?q={ended}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/admin/runs/{ended}")


def test_a_runs_page_has_its_attempts_with_their_waits_and_workers(services: FakeServices, viewer: Browser) -> None:
    run_id = died(services)
    bars = viewer.json(f"/admin/runs/{run_id}")["bars"]
    assert [bar["attempt"]["attempt"] for bar in bars] == [1, 2, 3]
    assert [bar["attempt"]["state"] for bar in bars] == ["given back", "given back", "dead"]
    page = viewer.get(f"/admin/runs/{run_id}").text
    assert "It ended dead without an answer: it crashed" in page
    assert page.count("it crashed") >= 3


def test_a_decisions_page_says_why_and_shows_the_evidence(services: FakeServices, viewer: Browser) -> None:
    registered(services)
    grant, _ = decided(services)
    promotion = services.ledger.promotion_of(grant.run_id)
    assert promotion is not None
    page = viewer.get(f"/admin/runs/{grant.run_id}").text
    assert "It promoted version 1 to Production" in page
    assert promotion.evidence_digest in page
    assert "meets the required 0.6000" in page


def test_a_run_that_awaits_approval_is_answered_on_its_own_page(
    services: FakeServices, operator: Browser, viewer: Browser, waiting: str
) -> None:
    page = operator.get(f"/admin/runs/{waiting}").text
    promotion = services.ledger.promotion_of(waiting)
    assert promotion is not None
    assert '<form method="post" action="/admin/registry/models/growth/answer"' in page
    assert f'<input type="hidden" name="digest" value="{promotion.evidence_digest}">' in page
    assert 'name="answer" value="approve"' in page
    assert 'name="answer" value="reject"' in page
    seen = viewer.get(f"/admin/runs/{waiting}").text
    assert "An operator answers." in seen
    assert 'name="answer"' not in seen


def test_a_decision_with_a_test_names_the_level_that_its_interval_has(services: FakeServices, viewer: Browser) -> None:
    registered(services, skill=False)
    decided(services)
    registered(services)
    grant, _ = decided(services)
    page = viewer.get(f"/admin/runs/{grant.run_id}").text
    # The quantiles .05 and .95 have nine tenths of the resamples between them, whatever confidence is asked for.
    assert "90 % interval" in page
    assert "95 %" not in page.partition("The policy that it was judged by")[0]


def test_links_lead_to_flower_and_mlflow_where_their_addresses_are_known(
    services: FakeServices, viewer: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = services.settings.model_copy(
        update={"flower_url": "http://flower.example/", "mlflow_url": "http://mlflow.example"}
    )
    monkeypatch.setattr(services, "settings", settings)
    accepted = services.granted(Kind.TRAIN, Stage.TRAIN)
    services.ledger.finish(accepted, StageOutcome(result={"mlflow_run_id": "abc"}, run_state=RunState.FAILED))
    links = viewer.json(f"/admin/runs/{accepted.run_id}")["links"]
    assert links == {"MLflow: the training": "http://mlflow.example/#/runs/abc?workflowType=machine_learning"}


def test_a_run_that_is_not_there_is_said_so(viewer: Browser) -> None:
    answer = viewer.get("/admin/runs/nowhere")
    assert (answer.status_code, "run nowhere is not in the ledger" in answer.text) == (404, True)


def test_an_operator_cancels_a_run_that_works_and_the_audit_says_who(services: FakeServices, operator: Browser) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    answer = operator.post(f"/admin/runs/{grant.run_id}/cancel", follow=True)
    assert "The run is asked to stop" in answer.text
    assert "asked to stop</span>" in answer.text
    assert services.ledger.run(grant.run_id).cancel_requested
    line = services.ledger.audit_lines(action="run.cancel", actor="anna")[0]
    assert (line.subject, line.address) == (grant.run_id, "testclient")


def test_what_cannot_be_done_now_is_refused_in_words_and_audited(services: FakeServices, operator: Browser) -> None:
    run_id = checked(services)
    answer = operator.post(f"/admin/runs/{run_id}/cancel")
    assert (answer.status_code, "succeeded" in answer.text) == (409, True)
    line = services.ledger.audit_lines(action="run.cancel")[0]
    assert "succeeded" in line.detail["refused"]


def test_an_operator_brings_a_dead_run_back(services: FakeServices, operator: Browser) -> None:
    run_id = died(services)
    assert "in its queue again" in operator.post(f"/admin/runs/{run_id}/requeue", follow=True).text
    assert services.ledger.run(run_id).state is RunState.QUEUED
    assert services.sent[-1].run_id == run_id


def test_the_same_question_is_asked_again_by_whoever_asks(services: FakeServices, operator: Browser) -> None:
    run_id = checked(services)
    answer = operator.post(f"/admin/runs/{run_id}/again")
    again = services.ledger.run(answer.headers["location"].rpartition("/")[2])
    assert (again.kind, again.requested_by, again.state) == (Kind.CHECK, "anna", RunState.QUEUED)


def test_a_program_gets_json_for_an_action(services: FakeServices, nobody: Browser) -> None:
    _, text = services.ledger.add_token("ci", user="anna", role="operator")
    run_id = checked(services)
    answer = nobody.client.post(f"/admin/runs/{run_id}/again", headers={"authorization": f"Bearer {text}"})
    assert (answer.status_code, answer.json()["created"]) == (200, True)
    assert services.ledger.run(answer.json()["run_id"]).requested_by == "anna (ci)"


def test_buttons_are_shown_to_those_who_may_use_them(
    services: FakeServices, operator: Browser, viewer: Browser
) -> None:
    run_id = died(services)
    assert f"/admin/runs/{run_id}/requeue" in operator.get(f"/admin/runs/{run_id}").text
    assert "<button" not in viewer.get(f"/admin/runs/{run_id}").text.partition("<main")[2].replace(
        "<button value", ""
    ).replace('<button class="primary" value', "")
