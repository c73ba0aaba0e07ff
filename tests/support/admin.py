"""The page in a test: a browser that keeps its cookies and finds the token of its forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient

from mlops.ledger.ledger import SqlLedger

PASSWORD = "a password for tests"
HTML = {"accept": "text/html,application/xhtml+xml"}
JSON = {"accept": "application/json"}


class Browser:
    """Somebody at the page; nobody until `sign_in`."""

    def __init__(self, app: FastAPI) -> None:
        self.client = TestClient(app, base_url="http://page", follow_redirects=False, raise_server_exceptions=True)
        self.csrf = ""

    def sign_in(self, name: str, password: str = PASSWORD) -> Response:
        """By the form, as a person does."""
        token = hidden(self.get("/admin/sign-in").text, "csrf")
        answer = self.client.post(
            "/admin/sign-in", data={"csrf": token, "name": name, "password": password}, headers=HTML
        )
        if answer.status_code == 303:
            self.csrf = hidden(self.get("/admin/").text, "csrf")
        return answer

    def get(self, path: str, **headers: str) -> Response:
        """A page."""
        return self.client.get(path, headers={**HTML, **headers})

    def json(self, path: str) -> Any:
        """The values of a page, as a program gets them."""
        answer = self.client.get(path, headers=JSON)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, /, *, csrf: str | None = None, follow: bool = False, **fields: Any) -> Response:
        """A form with the session's token, or with another one; `follow`: to the page that says what was done."""
        data = {"csrf": self.csrf if csrf is None else csrf, **fields}
        return self.client.post(path, data=data, headers=HTML, follow_redirects=follow)


def hidden(html: str, name: str) -> str:
    """The value of the first hidden field of a name."""
    found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)">', html)
    assert found, f"no hidden field {name!r} in the page"
    return found.group(1)


def add_people(ledger: SqlLedger, people: Mapping[str, str]) -> None:
    """Users with the password of the tests; people : name → role"""
    for name, role in people.items():
        ledger.add_user(name, PASSWORD, role=role, created_by="test")
