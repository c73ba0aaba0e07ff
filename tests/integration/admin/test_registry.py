"""The list of models, and the history of decisions; what a viewer may do with them."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from tests.integration.retraining.test_promote_stage import registered
from tests.support.admin import HTML, Browser
from tests.support.model_pages import PAGE, champion, row, trained, words
from tests.support.services import MODEL, FakeServices

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
