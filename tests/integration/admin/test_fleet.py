"""400 strategies on the page: found by tag and state, acted upon together, and no query more than for four."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from mlops.domain.errors import LedgerUnavailable
from mlops.domain.policies import SchedulePolicy
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.strategies.file import Strategies
from tests.support.admin import Browser, hidden
from tests.support.services import FakeServices, small_strategy

SCHEDULED = SchedulePolicy(drift_check="0 3 * * *", retrain="0 4 * * 0")
LISTS = ("/admin/", "/admin/drift", "/admin/drift/heatmap", "/admin/training", "/admin/registry", "/admin/schedule",
         "/admin/runs", "/admin/strategies/question?what=pause&everything=true")  # fmt: skip


def fleet(services: FakeServices, n: int) -> list[str]:
    """So many strategies; every tenth is a pilot."""
    names = [f"s{number:03}" for number in range(n)]
    vars(services)["strategies"] = Strategies(
        {
            name: small_strategy(name, schedule=SCHEDULED, tags=("us", "pilot") if number % 10 == 0 else ("us",))
            for number, name in enumerate(names)
        }
    )
    return names


def ended(services: FakeServices, name: str, state: RunState, verdict: str | None = None) -> str:
    """A pipeline run of a strategy."""
    grant = services.granted(Kind.PIPELINE, Stage.DRIFT, name)
    services.ledger.finish(grant, StageOutcome(result={"verdict": verdict}, run_state=state))
    return grant.run_id


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """How many statements the database got since the block began."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield lambda: len(statements)
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def names_on(operator: Browser, path: str) -> list[str]:
    return [line["strategy"] for line in operator.json(path)["list"]["rows"]]


@pytest.mark.parametrize("path", LISTS)
def test_400_strategies_cost_no_query_more_than_four(services: FakeServices, operator: Browser, path: str) -> None:
    numbers = {}
    for n in (4, 400):
        for name in fleet(services, n)[:4]:
            if not services.ledger.runs(strategy=name):
                ended(services, name, RunState.SUCCEEDED)
        with counted() as queries:
            assert operator.get(path).status_code == 200
            numbers[n] = queries()
    assert numbers[400] == numbers[4] > 0


@pytest.mark.parametrize("path", [path for path in LISTS if path not in ("/admin/runs", LISTS[-1])])
def test_each_list_is_filtered_by_tag_and_found_by_its_word(
    services: FakeServices, operator: Browser, path: str
) -> None:
    fleet(services, 30)
    assert set(names_on(operator, f"{path}?tag=pilot")) == {"s000", "s010", "s020"}
    assert set(names_on(operator, f"{path}?q=pilot")) == {"s000", "s010", "s020"}
    page = operator.get(path).text
    assert '<option value="pilot">' in page


def test_runs_are_filtered_by_tag_and_by_failure(services: FakeServices, operator: Browser) -> None:
    fleet(services, 12)
    ended(services, "s000", RunState.FAILED)
    ended(services, "s001", RunState.FAILED)
    ended(services, "s010", RunState.SUCCEEDED)
    assert set(names_on(operator, "/admin/runs?tag=pilot")) == {"s000", "s010"}
    assert set(names_on(operator, "/admin/runs?state=failed+or+dead")) == {"s000", "s001"}
    assert names_on(operator, "/admin/runs?state=failed+or+dead&tag=pilot") == ["s000"]


def test_the_overview_shows_those_whose_last_run_failed(services: FakeServices, operator: Browser) -> None:
    fleet(services, 12)
    ended(services, "s003", RunState.FAILED)
    ended(services, "s004", RunState.FAILED)
    services.timed.advance(1)
    ended(services, "s004", RunState.SUCCEEDED)
    assert names_on(operator, "/admin/?show=failed") == ["s003"]
    assert operator.json("/admin/")["totals"]["failed at the last run"] == 1


def test_a_run_that_failed_before_it_had_checked_has_its_cell_in_the_heat_map(
    services: FakeServices, operator: Browser
) -> None:
    fleet(services, 3)
    run_id = ended(services, "s001", RunState.FAILED)
    page = operator.get("/admin/drift/heatmap?show=failed")
    assert f'class="heat none failed"><a href="/admin/runs/{run_id}"' in page.text
    assert names_on(operator, "/admin/drift/heatmap?show=failed") == ["s001"]


# ---- pause, resume, run


def paused(services: FakeServices) -> dict[str, tuple[str, ...]]:
    return {name: tuple(policy.schedule.paused) for name, policy in services.policies.items() if policy.schedule.paused}


def test_a_tag_is_paused_and_resumed_with_a_line_in_the_audit_for_each_strategy(
    services: FakeServices, operator: Browser
) -> None:
    fleet(services, 30)
    form = {"everything": "true", "tag": "pilot", "reason": "the feed moves"}
    answer = operator.post("/admin/strategies", what="pause", follow=True, **form)
    assert "Paused: 3 of 3 strategies" in answer.text
    assert paused(services) == dict.fromkeys(("s000", "s010", "s020"), ("drift_check", "retrain"))
    lines = [line for line in services.ledger.audit_lines() if line.action == "schedule.pause"]
    assert {(line.subject, line.actor, line.detail["reason"]) for line in lines} == {
        (name, "anna", "the feed moves") for name in ("s000", "s010", "s020")
    }
    assert all(line.address for line in lines)
    assert names_on(operator, "/admin/?show=paused") == ["s000", "s010", "s020"]
    operator.post("/admin/strategies", what="resume", job="retrain", **form)
    assert paused(services) == dict.fromkeys(("s000", "s010", "s020"), ("drift_check",))


def test_what_needs_nothing_is_told_apart_from_what_was_done(services: FakeServices, operator: Browser) -> None:
    fleet(services, 3)
    operator.post("/admin/strategies", what="pause", strategies=["s000"], reason="a test")
    text = operator.post("/admin/strategies", what="pause", strategies=["s000", "s001"], follow=True).text
    assert "Paused: 1 of 2 strategies" in text
    assert "nothing to do for 1, paused already: s000" in text


def test_one_that_fails_is_named_with_the_reason_and_stops_no_other(services: FakeServices, operator: Browser) -> None:
    names = fleet(services, 400)
    services.ledger.edit_policy("s007", "drift.no_such_thing", 1, actor="anna", reason="a test")
    answer = operator.post("/admin/strategies", what="pause", everything="true", reason="a test")
    assert answer.status_code == 200
    assert "Paused: 399 of 400 strategies" in answer.text
    assert re.search(r"failed for 1: s007: .*drift\.no_such_thing", answer.text)
    assert len(services.policies.all_settled()) == len(names)
    (line,) = [line for line in services.ledger.audit_lines(subject="s007") if line.action == "schedule.pause"]
    assert "drift.no_such_thing" in line.detail["refused"]


def test_a_ledger_that_goes_away_half_way_is_told_for_each_that_was_not_reached(
    services: FakeServices, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(services, 4)
    accept, n_asked = services.ledger.accept, 0

    def accepted(request: Any) -> Any:
        nonlocal n_asked
        n_asked += 1
        if n_asked > 2:
            raise LedgerUnavailable("PostgreSQL does not answer")
        return accept(request)

    monkeypatch.setattr(services.ledger, "accept", accepted)
    text = operator.post("/admin/strategies", what="check", everything="true").text
    assert "Runs opened: 2 of 4 strategies" in text
    assert "failed for 1: s002: PostgreSQL does not answer" in text
    assert "failed for 1: s003: not tried, since s002 failed" in text
    assert n_asked == 3  # the fourth was not kept waiting for a server that is away


def test_runs_of_several_are_opened_once(services: FakeServices, operator: Browser) -> None:
    fleet(services, 3)
    for _ in range(2):
        answer = operator.post("/admin/strategies", what="retrain", strategies=["s000", "s002"], reason="new data")
    assert answer.status_code == 303
    assert {(run.strategy, run.kind, run.reason) for run in services.ledger.runs()} == {
        ("s000", Kind.RETRAIN, "new data"),
        ("s002", Kind.RETRAIN, "new data"),
    }
    assert len([line for line in services.ledger.audit_lines() if line.action == "run.retrain"]) == 4


def test_with_nothing_ticked_nothing_is_done(services: FakeServices, operator: Browser) -> None:
    fleet(services, 3)
    operator.client.headers["referer"] = "http://page/admin/"
    text = operator.post("/admin/strategies", what="pause", follow=True).text
    assert "no strategy is ticked" in text
    assert paused(services) == {}


def test_the_question_says_what_and_how_many(services: FakeServices, operator: Browser) -> None:
    fleet(services, 400)
    html = operator.get("/admin/strategies/question?what=pause&everything=true&tag=pilot&job=retrain").text
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    assert "Pause retraining: 40 strategies (s000, s010," in words
    assert "and 32 more)" in words


def test_the_question_without_an_action_is_a_page_and_an_action_without_a_name_is_refused(operator: Browser) -> None:
    assert operator.get("/admin/strategies/question").status_code == 200
    assert operator.post("/admin/strategies", strategies=["growth"]).status_code == 422


def test_a_viewer_has_no_boxes(viewer: Browser) -> None:
    assert 'name="strategies"' not in viewer.get("/admin/").text


# ---- approve


def seen(operator: Browser) -> str:
    return hidden(operator.get("/admin/?show=awaits+approval").text, "seen")


def test_what_waits_is_approved_as_it_was_shown(services: FakeServices, operator: Browser, waiting: str) -> None:
    shown = seen(operator)
    assert shown.startswith(f"{waiting} ")
    answer = operator.post("/admin/strategies", what="approve", strategies="growth", seen=shown, reason="looked at it")
    assert answer.status_code == 303, answer.text
    (run,) = [run for run in services.ledger.runs() if run.kind is Kind.PROMOTE and "answers" in run.params]
    assert (run.params["answers"], run.params["answer"], run.requested_by) == (waiting, "approve", "anna")
    (line,) = services.ledger.audit_lines(action="model.approve")
    assert (line.subject, line.detail["reason"]) == ("growth", "looked at it")


def test_what_was_not_on_the_list_is_not_approved(services: FakeServices, operator: Browser, waiting: str) -> None:
    answer = operator.post("/admin/strategies", what="approve", strategies="growth", reason="looked at it")
    assert answer.status_code == 409
    assert "version 1 was not on the list that was answered" in answer.text
    assert all(run.run_id == waiting for run in services.ledger.runs() if run.kind is Kind.PROMOTE)


def test_an_answer_to_many_needs_a_reason(operator: Browser, waiting: str) -> None:
    answer = operator.post("/admin/strategies", what="reject", strategies="growth", seen=seen(operator))
    assert waiting
    assert (answer.status_code, "needs a reason" in answer.text) == (422, True)
