"""Whatever a path or a query holds, every page answers in words: no defect, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from admin.pages import guarded_routes
from admin.routes.account import SIGN_IN
from tests.support.admin import HTML, Browser

STREAM = "/admin/events"
"""A stream, which does not end."""
ENDS = ("/admin/sign-out", "/admin/sign-in")
"""What ends the session of this test, or counts its tries."""
ODD = (
    "\x00",
    "growth\x00",
    "²",
    "٣",
    "9" * 40,
    "-1",
    "0",
    "1e999",
    "nan",
    "-inf",
    "0001-01-01",
    "9999-12-31",
    "2026-02-30",
    "'",
    "a\nb",
    "é" * 300,
    "%",
    "..",
    "\ud7ff\U0001f600",
)


def asked(route: APIRoute) -> Iterator[str]:
    """One odd value at a time, all others as they should be."""
    dependants = [route.dependant, *route.dependant.dependencies]
    in_path = [one.name for dependant in dependants for one in dependant.path_params]
    queries = dict.fromkeys(one.alias for dependant in dependants for one in dependant.query_params)
    right = {name: "growth" if name == "strategy" else "1" for name in in_path}
    yield route.path.format(**right)
    for odd in ODD:
        for name in in_path:
            yield route.path.format(**{key: quote(value, safe="") for key, value in {**right, name: odd}.items()})
        for name in queries:
            yield f"{route.path.format(**right)}?{urlencode({name: odd})}"


def test_no_page_fails_for_what_its_address_holds(app: FastAPI, operator: Browser) -> None:
    client = TestClient(app, base_url="http://page", follow_redirects=False, raise_server_exceptions=False)
    client.cookies = operator.client.cookies
    routes = [route for route, _ in guarded_routes(app) if "GET" in route.methods and route.path != STREAM]
    addresses = [address for route in routes for address in asked(route)]
    assert len(addresses) > 500
    failed: list[str] = []
    for address in addresses:
        answer = client.get(address, headers=HTML)
        if answer.status_code == 500:
            failed.append(address)
    assert not failed, "\n".join(failed)


def filled(route: APIRoute) -> Iterator[tuple[str, dict[str, str]]]:
    """Each form with one odd value at a time."""
    dependants = [route.dependant, *route.dependant.dependencies]
    in_path = [one.name for dependant in dependants for one in dependant.path_params]
    fields = dict.fromkeys(one.alias for dependant in dependants for one in dependant.body_params)
    right = {name: "growth" if name == "strategy" else "1" for name in in_path}
    path = route.path.format(**right)
    for odd in ODD:
        for name in fields:
            yield path, {**dict.fromkeys(fields, "growth"), name: odd}
        for name in in_path:
            odd_path = route.path.format(**{key: quote(value, safe="") for key, value in {**right, name: odd}.items()})
            yield odd_path, dict.fromkeys(fields, "growth")


def test_no_form_fails_for_what_it_holds(app: FastAPI, operator: Browser) -> None:
    client = TestClient(app, base_url="http://page", follow_redirects=False, raise_server_exceptions=False)
    client.cookies = operator.client.cookies
    routes = [route for route, _ in guarded_routes(app) if "POST" in route.methods and route.path not in ENDS]
    forms = [form for route in routes for form in filled(route)]
    assert len(forms) > 500
    failed: list[str] = []
    for path, fields in forms:
        answer = client.post(path, data={**fields, "csrf": operator.csrf}, headers=HTML)
        if answer.status_code == 500:
            failed.append(f"{path} {fields}")
    assert not failed, "\n".join(failed)
    assert client.get("/admin/", headers=HTML).status_code == 200, "the session lasted to the last form"


@pytest.mark.parametrize("path", ["/admin/", "/admin/runs", SIGN_IN, "/healthz"])
def test_head_is_answered_as_get_without_the_body(operator: Browser, path: str) -> None:
    got, head = operator.client.get(path, headers=HTML), operator.client.head(path, headers=HTML)
    assert (head.status_code, head.headers["content-type"]) == (got.status_code, got.headers["content-type"])
