"""Every route of the page is tried as nobody, as a viewer, and without the form's token; a new one cannot escape."""

from __future__ import annotations

import re

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.responses import Response

from admin.app import create_app, route_modules
from admin.auth.guard import Guard, Open
from admin.navigation import PREFIX
from admin.pages import OPEN_ACTIONS, Pages, UnguardedRoute, guarded_routes
from config.settings import Settings
from mlops.bootstrap import Services
from tests.support.admin import HTML, JSON, Browser
from tests.support.services import FakeServices

ROUTES = [
    (method, route.path, guard)
    for route, guard in guarded_routes(create_app(Services(Settings())))
    for method in sorted(route.methods)
]
GUARDED = [(method, path, guard) for method, path, guard in ROUTES if isinstance(guard, Guard)]
ACTIONS = [(method, path, guard) for method, path, guard in GUARDED if method not in {"GET", "HEAD"}]
OPERATORS = [(method, path, guard) for method, path, guard in GUARDED if guard.role == "operator"]


def at(path: str) -> str:
    """The path with something in the place of each value."""
    return re.sub(r"\{\w+(:\w+)?\}", "x", path)


def unguarded() -> Response:
    return Response()


def name(value: object) -> str:
    return value if isinstance(value, str) else ""


def test_there_are_routes_of_each_kind() -> None:
    assert min(len(GUARDED), len(ACTIONS), len(OPERATORS)) > 0


def test_what_is_open_is_the_sign_in_and_what_says_that_the_process_serves() -> None:
    opened = {(method, path) for method, path, guard in ROUTES if isinstance(guard, Open) and method != "HEAD"}
    assert opened == {
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/favicon.ico"),
        ("GET", f"{PREFIX}/sign-in"),
        ("POST", f"{PREFIX}/sign-in"),
    }
    assert {guard.action for _, _, guard in ROUTES if isinstance(guard, Open)} == OPEN_ACTIONS


def test_whatever_changes_something_is_an_operators_but_for_ones_own_account() -> None:
    viewers = {guard.action for _, _, guard in ACTIONS if guard.role != "operator"}
    assert viewers <= {
        "sign_out",
        "account.password",
        "account.sign_out_everywhere",
        "account.session.end",
        "account.token.add",
        "account.token.revoke",
    }


@pytest.mark.parametrize(("method", "path", "guard"), GUARDED, ids=name)
def test_nobody_is_sent_to_the_sign_in(nobody: Browser, method: str, path: str, guard: Guard) -> None:
    answer = nobody.client.request(method, at(path), headers=HTML)
    assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, f"{PREFIX}/sign-in")


@pytest.mark.parametrize(("method", "path", "guard"), GUARDED, ids=name)
def test_a_program_without_a_token_is_told_so(nobody: Browser, method: str, path: str, guard: Guard) -> None:
    for headers in (JSON, {"authorization": "Bearer acis_0123456789abcdef_wrong"}):
        answer = nobody.client.request(method, at(path), headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(("method", "path", "guard"), OPERATORS, ids=name)
def test_a_viewer_may_not_do_what_is_an_operators(viewer: Browser, method: str, path: str, guard: Guard) -> None:
    answer = viewer.post(at(path)) if method == "POST" else viewer.get(at(path))
    assert answer.status_code == 403
    assert f"{guard.action} needs an operator" in answer.text


@pytest.mark.parametrize(("method", "path", "guard"), OPERATORS, ids=name)
def test_nor_may_a_viewers_token(services: FakeServices, nobody: Browser, method: str, path: str, guard: Guard) -> None:
    _, text = services.ledger.add_token("t", user="anna", role="viewer")
    assert nobody.client.request(method, at(path), headers={"authorization": f"Bearer {text}"}).status_code == 403


@pytest.mark.parametrize(("method", "path", "guard"), ACTIONS, ids=name)
@pytest.mark.parametrize("csrf", ["", "another"])
def test_a_form_without_the_sessions_token_is_refused(
    services: FakeServices, operator: Browser, method: str, path: str, guard: Guard, csrf: str
) -> None:
    noted = len(services.ledger.audit_lines())
    answer = operator.post(at(path), csrf=csrf)
    assert answer.status_code == 403
    assert "not of this session" in answer.text
    line, *before = services.ledger.audit_lines()
    assert len(before) == noted
    assert (line.action, "not of this session" in (line.detail or {})["refused"]) == (guard.action, True)


@pytest.mark.parametrize(("method", "path", "guard"), ACTIONS, ids=name)
def test_a_form_of_another_site_is_refused_even_with_the_token(
    operator: Browser, method: str, path: str, guard: Guard
) -> None:
    for said in ({"origin": "https://elsewhere.example"}, {"sec-fetch-site": "cross-site"}):
        answer = operator.client.request(method, at(path), data={"csrf": operator.csrf}, headers={**HTML, **said})
        assert answer.status_code == 403
        assert "another site" in answer.text


@pytest.mark.parametrize("origin", ["http://[", "null", "https://" + 5_000 * "x"])
def test_an_origin_that_is_no_address_or_a_long_one_is_another_site(operator: Browser, origin: str) -> None:
    answer = operator.client.post("/admin/sign-out", data={"csrf": operator.csrf}, headers={**HTML, "origin": origin})
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert len(answer.text) < 5_000


def test_a_route_that_says_nobody_who_may_call_it_stops_the_page() -> None:
    app = FastAPI(openapi_url=None)
    app.add_api_route("/admin/new", unguarded, methods=["GET"], response_model=None)
    with pytest.raises(UnguardedRoute, match="/admin/new"):
        list(guarded_routes(app))


def test_so_does_a_router_whose_routes_cannot_be_walked() -> None:
    router = APIRouter()
    router.add_api_route("/admin/new", unguarded, methods=["GET"], response_model=None)
    app = FastAPI(openapi_url=None)
    app.include_router(router)
    with pytest.raises(UnguardedRoute):
        list(guarded_routes(app))


def test_an_action_that_could_not_be_audited_cannot_be_declared() -> None:
    pages = Pages()
    with pytest.raises(TypeError, match="context"):
        pages.post("/x", action="x.do")(Response)


def test_nothing_but_the_sign_in_can_be_declared_open() -> None:
    with pytest.raises(UnguardedRoute, match=r"runs\.read"):
        Pages().open("/runs", action="runs.read")


def test_every_module_of_routes_is_part_of_the_page(app: FastAPI) -> None:
    declared = {path for pages in route_modules() for path, *_ in pages._declared}
    assert declared == {route.path for route in app.routes if isinstance(route, APIRoute)}


def test_a_disabled_users_session_ends_with_the_next_request(services: FakeServices, viewer: Browser) -> None:
    assert viewer.get("/admin/").status_code == 200
    services.ledger.change_user("victor", is_disabled=True)
    assert viewer.get("/admin/").status_code == 303
