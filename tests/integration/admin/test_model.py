"""One model: its versions, promotion, rollback, approval and rejection; MLflow away."""

from __future__ import annotations

import threading
from datetime import date
from typing import Any

import pytest
from fastapi import FastAPI

from admin import registry_view
from admin.listing import stretch
from admin.registry_view import RegistryView
from admin.routes import model
from mlops.domain.errors import RegistryUnavailable
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.records import Kind, RunState
from tests.integration.retraining.test_promote_stage import registered
from tests.support.admin import Browser
from tests.support.ledgers import decision_for
from tests.support.model_pages import PAGE, carried_out, champion, row, trained, words
from tests.support.services import MODEL, FakeServices

# ---- one model


def test_every_version_has_its_stage_alias_and_metrics(app: FastAPI, services: FakeServices, operator: Browser) -> None:
    registered(services)
    registered(services)
    run_id = trained(services, "1", 0.77)
    champion(services, "1")
    tags = services.registry.version(MODEL, "1").tags
    services.fake_registry.set_tags(MODEL, "1", {**tags, "acis.run_id": run_id})
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


def test_the_majority_beside_a_champion_is_of_the_dates_that_it_was_judged_on(
    services: FakeServices, operator: Browser
) -> None:
    # .63 of the held-out rows are of one class; what was more frequent in training has .37 there.
    trained(services, "1", majority_accuracy=0.37, holdout_majority_accuracy=0.63)
    trained(services, "2", majority_accuracy=0.41, holdout_majority_accuracy=0.59)
    champion(services, "1")
    page = operator.get(PAGE).text
    assert "Majority class of these dates</dt><dd>0.630" in page
    assert "0.370" not in page
    beside = operator.get(f"{PAGE}/compare?first=1&second=2").text
    assert "0.6300 0.5900" in row(beside, "majority class of the held-out dates")


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
    champion(services, "1")
    champion(services, "2")
    for reason in ("", "  ", "no"):
        answer = operator.post(f"{PAGE}/rollback", version="1", reason=reason)
        assert (answer.status_code, "needs a reason" in answer.text) == (422, True)
    answer = operator.post(f"{PAGE}/rollback", follow=True, version="1", reason="the new one trades too much")
    assert "Version 1 becomes the champion again" in answer.text
    assert carried_out(services, "rollback").run_state is RunState.SUCCEEDED
    assert services.ledger.champion("growth").version == "1"
    page = operator.get(PAGE).text
    assert "rolled back from version 2: the new one trades too much" in words(page)
    assert '<option value="2">v2</option>' in page.partition("choose a version")[2].partition("</select>")[0]
    line = next(line for line in services.ledger.audit_lines() if line.action == "model.rollback")
    assert line.detail == {"version": "1", "reason": "the new one trades too much"}


def test_the_champion_is_not_rolled_back_to_itself(services: FakeServices, operator: Browser) -> None:
    champion(services, "1")
    runs = services.ledger.runs()
    answer = operator.post(f"{PAGE}/rollback", version="1", reason="a mistake")
    assert (answer.status_code, "already; nothing was changed" in answer.text) == (409, True)
    assert services.ledger.runs() == runs


def test_a_version_that_was_never_champion_is_neither_offered_nor_accepted_for_a_rollback(
    services: FakeServices, operator: Browser
) -> None:
    registered(services)
    registered(services)
    champion(services, "1")
    assert "Roll back" not in words(operator.get(PAGE).text)
    answer = operator.post(f"{PAGE}/rollback", version="2", reason="I like it better")
    assert (answer.status_code, "was never the champion" in answer.text) == (409, True)
    assert services.ledger.champion("growth").version == "1"


def test_after_a_rollback_the_page_says_as_of_when_that_version_was_trained(
    services: FakeServices, operator: Browser
) -> None:
    days = ("2026-01-05", "2026-02-05")
    for seq, day in enumerate(days):
        version = registered(services, as_of=date.fromisoformat(day)).version
        made = decision_for(version, expected_seq=seq, as_of=date.fromisoformat(day))
        services.ledger.record_transition("growth", made)
    operator.post(f"{PAGE}/rollback", version="1", reason="the new one trades too much")
    carried_out(services, "rollback")
    assert f"Trained as of {days[0]}" in words(operator.get(PAGE).text)
    assert services.ledger.champion("growth").as_of == date.fromisoformat(days[1])  # the place's own date
    overview = words(operator.get("/admin/").text)
    assert "1 in production" in overview


def test_a_model_of_the_lost_registry_is_not_shown_as_champion_beside_the_one_that_has_its_number(
    services: FakeServices, operator: Browser
) -> None:
    old, new = (trained(services, "1", roc_auc) for roc_auc in (0.77, 0.66))
    services.ledger.record_transition("growth", decision_for("1", identity=ModelIdentity(made_by=old)))
    rows = operator.json(PAGE)["rows"]
    assert {one["trained"]["run_id"]: one["is_champion"] for one in rows} == {new: False, old: True}


def test_what_is_wrong_with_the_registry_is_an_alert(services: FakeServices, operator: Browser) -> None:
    services.ledger.note_registry_finding("growth", "champion_missing", "seq 1", "champion 1 is not in the registry")
    assert "champion 1 is not in the registry" in operator.get("/admin/").text


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
    monkeypatch.setattr(model, "MLFLOW_S", 0.05)
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
