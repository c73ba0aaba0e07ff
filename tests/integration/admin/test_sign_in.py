"""Signing in and out, and what is tried too often."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI

from admin.auth.principal import SESSION_COOKIE
from admin.auth.sign_in import MOST_OF_A_NAME, MOST_OF_AN_ADDRESS, WAITING, PasswordCheck
from admin.responses import TooOften
from mlops.ledger.people.auditing import AuditLine
from mlops.ledger.people.sign_in_limits import FIRST_WAIT_S
from tests.support.admin import HTML, Browser, hidden
from tests.support.services import FakeServices


def actions(services: FakeServices) -> list[str]:
    return [line.action for line in services.ledger.audit_lines()]


def test_a_right_password_opens_a_session_that_scripts_and_other_sites_cannot_use(nobody: Browser) -> None:
    answer = nobody.sign_in("anna")
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith(SESSION_COOKIE))
    assert {"HttpOnly", "SameSite=lax", "Path=/admin"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    assert nobody.get("/admin/").status_code == 200


def test_over_https_the_cookie_is_secure(nobody: Browser) -> None:
    nobody.client.base_url = "https://page"  # type: ignore[assignment]  # httpx takes a text
    answer = nobody.sign_in("anna")
    assert all("Secure" in one for one in answer.headers.get_list("set-cookie") if "Max-Age=0" not in one)
    assert "strict-transport-security" in answer.headers


@pytest.mark.parametrize(
    ("name", "password", "kept"),
    [
        ("anna", "not the password", "anna"),
        ("a password in the wrong field", "x", "(no such user)"),
        ("", "", "(no such user)"),
    ],
)
def test_a_wrong_one_is_refused_in_the_same_words_and_audited(
    services: FakeServices, nobody: Browser, name: str, password: str, kept: str
) -> None:
    answer = nobody.sign_in(name, password)
    assert (answer.status_code, "Name or password is wrong." in answer.text) == (401, True)
    assert nobody.get("/admin/").status_code == 303
    (line,) = services.ledger.audit_lines()
    assert isinstance(line, AuditLine)
    assert (line.action, line.subject, line.address) == ("sign_in.refused", kept, "testclient")


def test_a_form_that_did_not_come_from_here_is_refused(nobody: Browser) -> None:
    """Else a stranger could sign somebody in as another user."""
    nobody.get("/admin/sign-in")
    answer = nobody.client.post(
        "/admin/sign-in", data={"csrf": "other", "name": "anna", "password": "a password for tests"}, headers=HTML
    )
    assert answer.status_code == 403


def test_a_name_is_closed_for_a_while_after_ten_wrong_passwords(services: FakeServices, nobody: Browser) -> None:
    for _ in range(MOST_OF_A_NAME):
        assert nobody.sign_in("anna", "wrong").status_code == 401
    answer = nobody.sign_in("anna")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "900")
    assert nobody.sign_in("victor").status_code == 303
    assert "sign_in.limited" in actions(services)
    services.timed.advance(FIRST_WAIT_S + 1)
    assert nobody.sign_in("anna").status_code == 303


def test_of_forty_guesses_at_once_no_more_are_answered_than_of_forty_in_a_row(
    services: FakeServices, app: FastAPI
) -> None:
    browsers = [Browser(app) for _ in range(40)]
    with ThreadPoolExecutor(len(browsers)) as pool:
        answers = list(pool.map(lambda one: one.sign_in("anna", "wrong").status_code, browsers))
    assert set(answers) <= {401, 429}
    assert answers.count(401) <= MOST_OF_A_NAME
    assert "sign_in.tried" not in actions(services)


def test_passwords_of_strangers_are_compared_one_at_a_time_and_a_known_browser_has_its_own_thread(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, goes_on = set(), threading.Event()

    def compared(name: str, _: str) -> None:
        threads.add(threading.current_thread().name)
        assert name == "anna" or goes_on.wait(30)

    monkeypatch.setattr(services.ledger, "user_with_password", compared)
    check = PasswordCheck(services)
    try:
        tries = [
            check.begin(f"guess{n}", "x", address=f"192.0.2.{n}", device=None)  # one is compared, the others wait
            for n in range(1 + WAITING)
        ]
        with pytest.raises(TooOften, match="too many sign-ins wait"):
            check.begin("another", "x", address="192.0.2.100", device=None)
        assert check.begin("anna", "x", address=None, device="a-browser").result(30) is None
        assert not any(one.done() for one in tries)
        goes_on.set()
        assert [one.result(30) for one in tries] == [None] * len(tries)
    finally:
        goes_on.set()
        check.close()
    assert threads == {"sign-in_0", "sign-in-known_0"}


def test_an_address_is_closed_that_tries_many_names(nobody: Browser) -> None:
    for number in range(MOST_OF_AN_ADDRESS):
        assert nobody.sign_in(f"name{number}", "wrong").status_code == 401
    assert nobody.sign_in("victor").status_code == 429


def test_signing_out_ends_the_session_for_whoever_has_its_cookie(services: FakeServices, operator: Browser) -> None:
    cookie = operator.client.cookies[SESSION_COOKIE]
    answer = operator.post("/admin/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/sign-in")
    assert services.ledger.session(cookie) is None
    assert "sign_out" in actions(services)


def test_a_session_ends_after_two_hours_without_a_request(services: FakeServices, operator: Browser) -> None:
    services.timed.advance(2 * 3600 + 1)
    assert operator.get("/admin/").status_code == 303


@pytest.mark.parametrize(
    ("asked", "to"),
    [
        ("/admin/runs", "/admin/runs"),
        ("https://elsewhere.example/admin/", "/admin/"),
        ("//elsewhere.example", "/admin/"),
        ("/admin/\\elsewhere", "/admin/"),
        ("/elsewhere", "/admin/"),
    ],
)
def test_after_the_sign_in_one_is_where_one_wanted_to_be_and_never_elsewhere(
    nobody: Browser, asked: str, to: str
) -> None:
    page = nobody.get(f"/admin/sign-in?next={asked}").text
    fields = {"name": "anna", "password": "a password for tests", "csrf": hidden(page, "csrf"), "next": asked}
    assert nobody.client.post("/admin/sign-in", data=fields, headers=HTML).headers["location"] == to
