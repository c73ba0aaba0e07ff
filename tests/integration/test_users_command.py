"""`acis users`: for whoever has the database and cannot sign in."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cli.app import app
from tasks import services as task_services
from tests.support.services import FakeServices


def run(*arguments: str) -> str:
    return CliRunner().invoke(app, ["users", *arguments]).output


@pytest.fixture(autouse=True)
def connected(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_services, "connect", lambda: services)


def test_a_user_is_made_with_a_password_that_is_printed_and_works(services: FakeServices) -> None:
    made = json.loads(run("--add", "anna", "--role", "operator", "--json"))
    user = services.ledger.user_with_password("anna", made["password"])
    assert user is not None
    assert user.role == "operator"
    assert made["password"] not in run()
    assert services.ledger.audit_lines()[0].action == "user.add"


def test_a_forgotten_password_is_replaced(services: FakeServices) -> None:
    first = json.loads(run("--add", "anna", "--json"))["password"]
    second = json.loads(run("--new-password", "anna", "--json"))["password"]
    assert services.ledger.user_with_password("anna", first) is None
    assert services.ledger.user_with_password("anna", second) is not None


def test_what_cannot_be_is_said_in_words() -> None:
    assert "is no role; one of: viewer, operator" in run("--add", "anna", "--role", "king")
    assert "there is no user 'nobody'" in run("--disable", "nobody")


def test_the_last_operator_is_not_disabled(services: FakeServices) -> None:
    run("--add", "anna", "--role", "operator")
    assert "last operator" in run("--disable", "anna")
