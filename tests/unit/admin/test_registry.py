"""Models, versions, comparisons and the history; what an operator does with them; MLflow away."""

from __future__ import annotations

import re
import threading
from datetime import date
from typing import Any

import pytest
from fastapi import FastAPI

from admin import registry_view
from admin.listing import stretch
from admin.registry_view import RegistryView
from admin.routes import model_actions
from mlops.errors import RegistryUnavailable
from mlops.ledger.records import Kind, RunState, Stage, StageOutcome
from mlops.retraining.promote_stage import promote
from mlops.strategies import PromotionPolicy
from tests.support.admin import HTML, Browser
from tests.support.ledgers import decision_for, promoting
from tests.support.services import MODEL, FakeServices
from tests.unit.retraining.test_promote_stage import decided, registered

PAGE = "/admin/registry/models/growth"
DAY = date(2026, 3, 2)


def trained(services: FakeServices, version: str, roc_auc: float = 0.8) -> str:
    """A training that the ledger has; the registry is another matter."""
    grant = services.granted(Kind.TRAIN, Stage.TRAIN, as_of=DAY)
    metrics = {"accuracy": 0.71, "f1_score": 0.62, "roc_auc": roc_auc}
    result = {"version": version, "metrics": metrics, "holdout_start": "2026-01-10", "holdout_end": "2026-02-20"}
    services.ledger.finish(grant, StageOutcome(result=result, run_state=RunState.SUCCEEDED, as_of=DAY))
    services.timed.advance(1)
    return grant.run_id


def champion(services: FakeServices, version: str) -> None:
    seq = services.ledger.champion("growth").seq
    services.ledger.decide(
        promoting(services.ledger), decision_for(version, model_name=MODEL, as_of=DAY, expected_seq=seq)
    )


def words(html: str) -> str:
    """What is read."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def row(html: str, head: str) -> str:
    """A row by the beginning of its head."""
    found = next(part for part in html.split("<tr>")[1:] if words(part).strip().startswith(head))
    return words(found.partition("</tr>")[0])


@pytest.fixture
def waiting(services: FakeServices) -> str:
    """A run whose version 1 would be promoted and awaits approval."""
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    registered(services)
    grant, outcome = decided(services)
    assert outcome.run_state is RunState.AWAITING_APPROVAL
    return grant.run_id


def carried_out(services: FakeServices, kind: str) -> StageOutcome:
    """What a worker does with the newest run."""
    run = services.ledger.runs()[0]
    assert run.kind.value == kind
    grant = services.claimed(run.run_id, Stage.PROMOTE)
    outcome = promote(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return outcome


# ---- the list


def test_a_model_s_row_has_its_champion_with_its_metrics_and_what_is_newer(
    services: FakeServices, operator: Browser
) -> None:
    trained(services, "1", 0.77)
    champion(services, "1")
    trained(services, "2")
    found = row(operator.get("/admin/registry").text, "growth")
    assert "v1" in found
    assert "0.710 0.620 0.770" in found
    assert "v2" in found
    assert "promote" in found
    (line,) = operator.json("/admin/registry?show=newer+version")["list"]["rows"]
    assert (line["strategy"], line["model"]["newest"]["version"]) == ("growth", "2")
    for sort in ("accuracy", "-auc", "f1", "age", "newest", "-decided"):
        assert operator.json(f"/admin/registry?sort={sort}")["list"]["sort"] == sort
    assert operator.json("/admin/registry?show=no+champion")["list"]["rows"] == []
    assert operator.json("/admin/registry?q=nothing")["list"]["rows"] == []


def test_the_list_asks_mlflow_nothing(
    services: FakeServices, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any, **__: Any) -> None:
        pytest.fail("a page waits for MLflow")

    trained(services, "1")
    champion(services, "1")
    for name in ("version", "versions", "census", "training_facts"):
        monkeypatch.setattr(services.fake_registry, name, asked)
    for path in ("/admin/registry", PAGE, "/admin/registry/history", f"{PAGE}/compare?first=1&second=2"):
        answer = operator.get(path)
        assert answer.status_code == 200
    assert "MLflow has not answered yet" in operator.get(PAGE).text


def test_what_mlflow_shows_otherwise_than_decided_is_said(
    app: FastAPI, services: FakeServices, operator: Browser
) -> None:
    registered(services)
    registered(services)
    champion(services, "1")
    services.fake_registry.set_by_hand(MODEL, "2", stage="Production", aliases=("champion",))
    app.state.registry_view.look()
    assert "MLflow: v2" in row(operator.get("/admin/registry").text, "growth")
    page = operator.get(PAGE).text
    assert "decided: Production" in row(page, "v1")
    assert "Production champion" in row(page, "v2")


def test_a_model_that_awaits_approval_stands_at_the_top(
    services: FakeServices, operator: Browser, waiting: str
) -> None:
    page = operator.get("/admin/registry").text
    assert "growth v1 awaits approval" in words(page)
    assert "awaits approval" in row(page, "growth")
    assert len(operator.json("/admin/registry?show=awaits+approval")["list"]["rows"]) == 1


def test_each_page_gives_its_main_part_alone_where_it_is_fetched_anew(
    services: FakeServices, operator: Browser, waiting: str
) -> None:
    trained(services, "1")
    champion(services, "2")
    for path in ("/admin/registry", PAGE, "/admin/registry/history", f"{PAGE}/compare?first=1&second=2"):
        part = operator.get(path, **{"hx-request": "true"})
        assert part.status_code == 200
        assert "<html" not in part.text
        assert "growth" in part.text


# ---- one model


def test_every_version_has_its_stage_alias_and_metrics(app: FastAPI, services: FakeServices, operator: Browser) -> None:
    registered(services)
    registered(services)
    run_id = trained(services, "1", 0.77)
    champion(services, "1")
    services.fake_registry.set_by_hand(MODEL, "1", stage="Production", aliases=("champion",))
    app.state.registry_view.look()
    page = operator.get(PAGE).text
    first, second = row(page, "v1"), row(page, "v2")
    assert "Production champion" in first
    assert "0.710 0.620 0.770" in first
    assert run_id[:8] in first
    assert "Promote to Production" not in first
    assert "registered in another way" in second
    assert "Promote to Production" in second


def test_a_strategy_that_is_not_there_is_said(operator: Browser) -> None:
    for path in ("/admin/registry/models/none", "/admin/registry/models/none/compare?first=1&second=2"):
        answer = operator.get(path)
        assert (answer.status_code, "is not known" in answer.text) == (404, True)


def test_versions_are_paged(services: FakeServices, operator: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("admin.routes.model.PAGE_ROWS", 2)
    monkeypatch.setattr(stretch, "__kwdefaults__", {"n_rows": 2})
    for version in ("1", "2", "3"):
        trained(services, version)
    values = operator.json(PAGE)
    assert [one["version"] for one in values["rows"]] == ["3", "2"]
    older = operator.client.get(
        PAGE, params={"before": values["list"]["older"]}, headers={"accept": "application/json"}
    )
    assert [one["version"] for one in older.json()["rows"]] == ["1"]


def test_while_mlflow_is_behind_the_page_looks_again_by_itself_and_then_no_more(
    app: FastAPI, services: FakeServices, operator: Browser
) -> None:
    registered(services)
    app.state.registry_view.look()
    champion(services, "1")
    for path in ("/admin/registry", PAGE):
        assert "every 3s" in operator.get(path).text
    services.timed.advance(600)  # it was changed there by hand, and will stay so
    for path in ("/admin/registry", PAGE):
        assert "every 3s" not in operator.get(path).text
    services.timed.advance(-600)
    services.fake_registry.set_by_hand(MODEL, "1", stage="Production", aliases=("champion",))
    app.state.registry_view.look()
    for path in ("/admin/registry", PAGE):
        assert "every 3s" not in operator.get(path).text


def test_what_is_hurried_is_looked_at_long_before_its_time(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Semaphore(0)
    real = services.fake_registry.census
    monkeypatch.setattr(registry_view, "LEAST_S", 0.01)
    monkeypatch.setattr(services.fake_registry, "census", lambda: looked.release() or real())
    view = RegistryView(services)
    view.start()
    assert looked.acquire(timeout=10)
    view.hurry()
    assert looked.acquire(timeout=10)  # else in 20 s
    view.stop()


# ---- promote and roll back


def test_promotion_opens_a_run_that_judges_and_the_page_shows_it(services: FakeServices, operator: Browser) -> None:
    registered(services)
    answer = operator.post(f"{PAGE}/promote", follow=True, version="1")
    assert "Version 1 is judged now" in answer.text
    (run,) = services.ledger.runs()
    assert (run.kind, run.params, run.requested_by) == (Kind.PROMOTE, {"version": "1"}, "anna")
    assert f"/admin/runs/{run.run_id}" in answer.text
    assert services.ledger.champion("growth").version is None  # the page decides nothing
    assert carried_out(services, "promote").run_state is RunState.SUCCEEDED
    assert "champion" in operator.get(PAGE).text


def test_a_second_promotion_is_told_which_run_it_waits_for(services: FakeServices, operator: Browser) -> None:
    operator.post(f"{PAGE}/promote", version="1")
    assert "Version 1 is judged now" in operator.post(f"{PAGE}/promote", follow=True, version="1").text
    answer = operator.post(f"{PAGE}/promote", version="2")
    assert (answer.status_code, "ask again when it has ended" in answer.text) == (409, True)
    assert len(services.ledger.runs()) == 1


def test_a_rollback_needs_a_reason_and_keeps_it(services: FakeServices, operator: Browser) -> None:
    registered(services)
    registered(services)
    champion(services, "2")
    for reason in ("", "  ", "no"):
        answer = operator.post(f"{PAGE}/rollback", version="1", reason=reason)
        assert (answer.status_code, "needs a reason" in answer.text) == (422, True)
    answer = operator.post(f"{PAGE}/rollback", follow=True, version="1", reason="the new one trades too much")
    assert "Version 1 becomes the champion again" in answer.text
    assert carried_out(services, "rollback").run_state is RunState.SUCCEEDED
    assert services.ledger.champion("growth").version == "1"
    page = words(operator.get(PAGE).text)
    assert "rolled back from version 2: the new one trades too much" in page
    assert "v2 (was in production)" in page
    line = next(line for line in services.ledger.audit_lines() if line.action == "model.rollback")
    assert line.detail == {"version": "1", "reason": "the new one trades too much"}


def test_the_champion_is_not_rolled_back_to_itself(services: FakeServices, operator: Browser) -> None:
    champion(services, "1")
    answer = operator.post(f"{PAGE}/rollback", version="1", reason="a mistake")
    assert (answer.status_code, "is the champion already" in answer.text) == (422, True)


# ---- approve and reject


def answered(operator: Browser, run_id: str, services: FakeServices, **fields: str) -> Any:
    promotion = services.ledger.promotion_of(run_id)
    assert promotion is not None
    given = {"run_id": run_id, "digest": promotion.evidence_digest, "answer": "approve", "reason": "looked at trades"}
    return operator.post(f"{PAGE}/answer", **{**given, **fields})


def test_what_awaits_is_shown_with_its_evidence_and_the_answer_is_bound_to_it(
    services: FakeServices, operator: Browser, waiting: str
) -> None:
    page = operator.get(PAGE).text
    promotion = services.ledger.promotion_of(waiting)
    assert promotion is not None
    assert f'name="digest" value="{promotion.evidence_digest}"' in page
    assert "Version 1 awaits approval" in words(page)
    assert "accuracy 0.8500 meets the required 0.6000" in words(page)
    assert answered(operator, waiting, services).status_code == 303
    run = services.ledger.runs()[0]
    assert run.params == {
        "answers": waiting, "answer": "approve", "digest": promotion.evidence_digest, "version": "1",
    }  # fmt: skip
    assert carried_out(services, "promote").run_state is RunState.SUCCEEDED
    assert services.ledger.champion("growth").version == "1"
    assert "approved by anna: looked at trades" in operator.get(PAGE).text
    assert "Version 1 awaits approval" not in words(operator.get(PAGE).text)


def test_a_rejected_version_goes_to_archived(services: FakeServices, operator: Browser, waiting: str) -> None:
    assert answered(operator, waiting, services, answer="reject").status_code == 303
    assert carried_out(services, "promote").result["answered"] == "reject"
    assert "Archived" in row(operator.get(PAGE).text, "20")
    assert services.ledger.champion("growth").version is None


def test_an_answer_to_evidence_that_is_another_is_refused_in_words(
    services: FakeServices, operator: Browser, waiting: str
) -> None:
    answer = answered(operator, waiting, services, digest="sha256:" + "0" * 64)
    assert answer.status_code == 400
    assert "was to be answered for evidence" in answer.text
    assert len(services.ledger.runs()) == 1


def test_an_answer_after_the_champion_moved_is_refused_in_words(
    services: FakeServices, operator: Browser, waiting: str
) -> None:
    registered(services)
    champion(services, "2")
    answer = answered(operator, waiting, services)
    assert (answer.status_code, "compare it again" in answer.text) == (400, True)


@pytest.mark.parametrize(("fields", "status"), [({"reason": " "}, 422), ({"answer": "perhaps"}, 422)])
def test_an_answer_is_a_word_with_a_reason(
    services: FakeServices, operator: Browser, waiting: str, fields: dict[str, str], status: int
) -> None:
    assert answered(operator, waiting, services, **fields).status_code == status


def test_an_answer_for_another_model_is_refused(services: FakeServices, operator: Browser, waiting: str) -> None:
    answer = operator.post(
        "/admin/registry/models/value/answer", run_id=waiting, digest="x", answer="approve", reason="a mistake"
    )
    assert (answer.status_code, "proposed nothing for value" in answer.text) == (400, True)


def test_an_mlflow_that_hangs_is_not_waited_for_and_nothing_is_opened(
    services: FakeServices, operator: Browser, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(model_actions, "MLFLOW_S", 0.05)
    monkeypatch.setattr(services.fake_registry, "version", lambda *_: goes_on.wait(10))
    answer = answered(operator, waiting, services)
    goes_on.set()
    assert (answer.status_code, "does not answer within" in answer.text) == (503, True)
    assert len(services.ledger.runs()) == 1


def test_with_mlflow_down_the_pages_show_what_the_ledger_knows(
    app: FastAPI, services: FakeServices, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise RegistryUnavailable("MLflow at http://mlflow does not answer (what there is): connection refused")

    trained(services, "1", 0.77)
    champion(services, "1")
    monkeypatch.setattr(services.fake_registry, "census", away)
    app.state.registry_view.look()
    for path in ("/admin/registry", PAGE):
        page = words(operator.get(path).text)
        assert "does not answer" in page
        assert "What the ledger knows is shown" in page
        assert "0.770" in page
    assert "Production champion" in row(operator.get(PAGE).text, "v1")


# ---- compare


def test_two_versions_are_beside_each_other_before_any_worker_has_tested_them(
    services: FakeServices, operator: Browser
) -> None:
    trained(services, "1", 0.77)
    trained(services, "2", 0.81)
    page = operator.get(f"{PAGE}/compare?first=1&second=2").text
    assert "0.7700 0.8100 0.0400 v2" in row(page, "roc auc")
    assert "Test them on a worker" in page
    assert "have not been tested against each other" in page


def test_the_test_runs_on_a_worker_and_the_page_shows_what_came_of_it(
    services: FakeServices, operator: Browser
) -> None:
    registered(services, skill=False)
    registered(services)
    services.fake_registry.params = {(MODEL, "1"): {"max_depth": "2"}, (MODEL, "2"): {"max_depth": "3"}}
    answer = operator.post(f"{PAGE}/compare", follow=True, first="1", second="2")
    assert "A worker compares the two now." in answer.text
    (run,) = services.ledger.runs()
    assert (run.kind, run.params) == (Kind.COMPARE, {"first": "1", "second": "2"})
    assert f'data-live-run="{run.run_id}"' in answer.text
    assert carried_out(services, "compare").run_state is RunState.SUCCEEDED
    page = operator.get(f"{PAGE}/compare?first=1&second=2").text
    assert "champion 1 on 20 common dates" in page
    assert "promote" in row(page, "paired test")
    assert "2 3" in row(page, "max_depth")
    assert "Test again" in page
    assert services.ledger.promotions("growth") == []
    other = operator.get(f"{PAGE}/compare?first=2&second=1").text
    assert "have not been tested against each other" in other


def test_a_comparison_that_failed_says_why_and_can_be_asked_again(services: FakeServices, operator: Browser) -> None:
    operator.post(f"{PAGE}/compare", first="1", second="2")
    grant = services.claimed(services.ledger.runs()[0].run_id, Stage.PROMOTE)
    services.ledger.fail(grant, error="model 'acis_growth_classifier' has no version '1'", retry=False)
    page = operator.get(f"{PAGE}/compare?first=1&second=2").text
    assert "has no version &#39;1&#39;" in page
    assert "Test again" in page


def test_a_pair_that_is_being_compared_is_not_asked_for_twice_and_holds_up_no_other(
    services: FakeServices, operator: Browser
) -> None:
    operator.post(f"{PAGE}/compare", first="1", second="2")
    again = operator.post(f"{PAGE}/compare", follow=True, first="1", second="2")
    assert "A worker compares the two already." in again.text
    assert operator.post(f"{PAGE}/compare", first="1", second="3").status_code == 303
    assert [run.params["second"] for run in services.ledger.runs()] == ["3", "2"]


def test_without_versions_the_newest_stands_beside_the_champion(services: FakeServices, operator: Browser) -> None:
    trained(services, "1")
    answer = operator.get(f"{PAGE}/compare")
    assert (answer.status_code, "train another" in answer.text) == (422, True)
    trained(services, "2")
    trained(services, "3")
    values = operator.json(f"{PAGE}/compare")
    assert (values["first"], values["second"]) == ("2", "3")
    champion(services, "1")
    values = operator.json(f"{PAGE}/compare")
    assert (values["first"], values["second"]) == ("1", "3")


def test_a_version_beside_itself_is_refused(operator: Browser) -> None:
    assert operator.get(f"{PAGE}/compare?first=1&second=1").status_code == 422
    assert operator.post(f"{PAGE}/compare", first="1", second="1").status_code == 400


# ---- history and viewers


def test_the_history_has_every_decision_with_who_and_why_page_by_page(
    services: FakeServices, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(services, "1")
    champion(services, "2")
    page = words(operator.get("/admin/registry/history").text)
    assert "Production" in page
    assert "by policy" not in page
    assert "better" in page
    rows = operator.json("/admin/registry/history?q=growth")["list"]["rows"]
    assert [(one["version"], one["previous_version"], one["actor"]) for one in rows] == [
        ("2", "1", "policy"),
        ("1", None, "policy"),
    ]
    before = rows[0]["id"]
    rest = operator.json(f"/admin/registry/history?before={before}")["list"]["rows"]
    assert [one["version"] for one in rest] == ["1"]
    assert "Nothing was decided about" in operator.get("/admin/registry/history?q=value").text


def test_a_viewer_reads_it_all_and_can_do_nothing(services: FakeServices, viewer: Browser, waiting: str) -> None:
    registered(services)
    trained(services, "1")
    trained(services, "2")
    page = viewer.get(PAGE).text
    main = page[page.index("<main") : page.index("</main>")]
    assert "Version 1 awaits approval" in words(main)
    assert 'method="post"' not in main
    compare = viewer.get(f"{PAGE}/compare?first=1&second=2").text
    assert 'method="post"' not in compare[compare.index("<main") : compare.index("</main>")]
    for action in ("promote", "rollback", "answer", "compare"):
        answer = viewer.client.post(f"{PAGE}/{action}", data={"csrf": viewer.csrf}, headers=HTML)
        assert (answer.status_code, "needs an operator" in answer.text) == (403, True)
