"""Headers of every answer, errors in words, files that are kept."""

from __future__ import annotations

import pytest

from admin.app import MOST_BYTES
from admin.responses import static_url
from mlops.domain.errors import LedgerUnavailable
from mlops.domain.records import Kind
from mlops.runs.request import run_request
from tests.support.admin import HTML, JSON, Browser
from tests.support.services import FakeServices


@pytest.mark.parametrize("path", ["/admin/", "/admin/sign-in", "/admin/nowhere", "/healthz"])
def test_every_answer_forbids_foreign_scripts_frames_and_guessing(nobody: Browser, path: str) -> None:
    headers = nobody.get(path).headers
    policy = headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert headers["cache-control"] == "no-store"


def test_names_and_words_of_others_are_escaped_wherever_they_are_shown(
    services: FakeServices, operator: Browser
) -> None:
    written = "<script>alert(1)</script>"
    services.ledger.add_token(written, user="anna", role="viewer")
    request = run_request(services.strategies, "growth", Kind.CHECK, reason=written, requested_by=written)
    run_id = services.ledger.accept(request).run_id
    services.ledger.audit(written, "made.up", written, why=written)
    paths = ("/admin/account", "/admin/users", "/admin/audit", "/admin/runs", f"/admin/runs/{run_id}", "/admin/")
    pages = {path: operator.get(path).text for path in paths}
    assert [path for path, page in pages.items() if "<script>alert" in page] == []
    shown = {path for path, page in pages.items() if "&lt;script&gt;alert" in page}
    assert shown >= {"/admin/account", "/admin/audit", f"/admin/runs/{run_id}"}


def test_a_page_that_is_not_there_is_said_so_as_a_page_and_as_json(operator: Browser) -> None:
    answer = operator.get("/admin/nowhere")
    assert (answer.status_code, "there is no such page" in answer.text) == (404, True)
    answer = operator.client.get("/admin/nowhere", headers=JSON)
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no such page"})


def test_a_database_that_is_away_is_said_so_and_the_log_alone_says_where_it_is(
    services: FakeServices, operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: str) -> None:
        raise LedgerUnavailable("the ledger at postgresql://acis@db.internal/acis does not answer")

    monkeypatch.setattr(services.ledger, "session", away)
    answer = operator.get("/admin/")
    assert (answer.status_code, "a server that is needed to know who you are does not answer" in answer.text) == (
        503,
        True,
    )
    assert "db.internal" not in answer.text
    assert f"request {answer.headers['x-request-id']}" in answer.text


@pytest.mark.parametrize("path", ["/admin/sign-in", "/admin/sign-out"])
def test_a_body_that_no_form_has_is_refused_before_it_is_read(nobody: Browser, path: str) -> None:
    assert nobody.client.post(path, content=b"x" * (MOST_BYTES + 1), headers=HTML).status_code == 413
    assert nobody.client.post(path, content=iter([b"x"]), headers=HTML).status_code == 413


def test_a_file_is_kept_for_ever_under_the_address_of_its_content(nobody: Browser) -> None:
    answer = nobody.get(static_url("app.css"))
    assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)
    assert nobody.get("/admin/static/app.css").headers["cache-control"] == "no-cache"


def test_a_browser_that_asks_for_an_icon_by_itself_gets_ours(nobody: Browser) -> None:
    answer = nobody.client.get("/favicon.ico", follow_redirects=True)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")


@pytest.mark.parametrize("path", ["/admin/static/../app.py", "/admin/static/%2e%2e/app.py"])
def test_nothing_beside_the_files_can_be_read(nobody: Browser, path: str) -> None:
    assert nobody.get(path).status_code == 404


def test_what_was_done_is_said_once(operator: Browser) -> None:
    operator.post("/admin/sign-out")
    assert "You have signed out." in operator.get("/admin/sign-in").text
    assert "You have signed out." not in operator.get("/admin/sign-in").text


def test_what_was_done_is_not_said_again_after_a_page_that_could_not_be_shown(operator: Browser) -> None:
    operator.post("/admin/drift/check", strategy="growth")
    operator.get("/admin/runs/none")
    assert "The check has begun." not in operator.get("/admin/").text


def test_a_search_that_leads_to_a_run_leaves_what_was_done_to_the_page_of_the_run(operator: Browser) -> None:
    location = operator.post("/admin/drift/check", strategy="growth").headers["location"]
    operator.get(f"/admin/runs?q={location.rpartition('/')[2]}")
    assert "The check has begun." in operator.get(location).text
