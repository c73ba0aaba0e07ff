"""Users, one's own account, tokens, and the audit of it all."""

from __future__ import annotations

import re

import pytest

from admin.auth.sign_in import MOST_OF_A_NAME
from tests.support.admin import PASSWORD, Browser
from tests.support.model_pages import words
from tests.support.services import FakeServices


def shown_secret(html: str) -> str:
    found = re.search(r'<pre id="secret"[^>]*>([^<]+)</pre>', html)
    assert found
    return found.group(1)


def test_a_user_is_added_with_a_made_password_that_is_shown_once(
    services: FakeServices, operator: Browser, nobody: Browser
) -> None:
    answer = operator.post("/admin/users", name="bert", role="viewer", own_password=PASSWORD)
    assert nobody.sign_in("bert", shown_secret(answer.text)).status_code == 303
    line = services.ledger.audit_lines(action="user.add")[0]
    assert (line.subject, line.detail) == ("bert", {"role": "viewer"})


@pytest.mark.parametrize(("name", "words"), [("anna", "already"), ("Bert!", "is no user name")])
def test_a_user_that_cannot_be_is_refused_in_words(operator: Browser, name: str, words: str) -> None:
    answer = operator.post("/admin/users", name=name, role="viewer", own_password=PASSWORD)
    assert (answer.status_code, words in answer.text) == (400, True)


def test_another_role_ends_the_sessions(services: FakeServices, operator: Browser, viewer: Browser) -> None:
    assert operator.post("/admin/users/victor/role", role="operator").status_code == 303
    assert viewer.get("/admin/").status_code == 303
    user = services.ledger.user("victor")
    assert user is not None
    assert user.role == "operator"


def test_the_last_operator_stays_one_and_nobody_locks_themselves_out(operator: Browser) -> None:
    assert "last operator" in operator.post("/admin/users/anna/role", role="viewer").text
    assert operator.post("/admin/users/anna/disable").status_code == 422
    assert operator.get("/admin/users").status_code == 200


def test_a_disabled_user_is_out_at_once_and_may_come_back(operator: Browser, viewer: Browser) -> None:
    operator.post("/admin/users/victor/disable")
    assert viewer.get("/admin/").status_code == 303
    assert viewer.sign_in("victor").status_code == 401
    operator.post("/admin/users/victor/enable")
    assert viewer.sign_in("victor").status_code == 303


def test_a_forgotten_password_is_replaced_by_a_made_one(operator: Browser, viewer: Browser) -> None:
    answer = operator.post("/admin/users/victor/password", own_password=PASSWORD)
    assert viewer.sign_in("victor", PASSWORD).status_code == 401
    assert viewer.sign_in("victor", shown_secret(answer.text)).status_code == 303


def test_ones_own_password_is_changed_and_other_sessions_end(app: object, viewer: Browser, nobody: Browser) -> None:
    nobody.sign_in("victor")
    answer = viewer.post("/admin/account/password", old=PASSWORD, new="another password", again="another password")
    assert answer.status_code == 303
    assert viewer.get("/admin/").status_code == 200
    assert nobody.get("/admin/").status_code == 303
    assert nobody.sign_in("victor", "another password").status_code == 303


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"old": "wrong", "new": "another password", "again": "another password"}, 403),
        ({"old": PASSWORD, "new": "another password", "again": "another passw0rd"}, 422),
        ({"old": PASSWORD, "new": "short", "again": "short"}, 400),
    ],
)
def test_a_password_is_not_changed_so(viewer: Browser, fields: dict[str, str], status: int) -> None:
    assert viewer.post("/admin/account/password", **fields).status_code == status
    assert viewer.sign_in("victor", PASSWORD).status_code == 303


def test_a_token_is_shown_once_kept_as_a_digest_and_ends_when_it_is_revoked(
    services: FakeServices, viewer: Browser, nobody: Browser
) -> None:
    text = shown_secret(viewer.post("/admin/account/tokens", name="ci", role="viewer", days=1).text)
    (token,) = services.ledger.tokens("victor")
    assert text[-16:] not in viewer.get("/admin/account").text
    program = {"authorization": f"Bearer {text}"}
    assert nobody.client.get("/admin/", headers=program).json()["list"]["n_all"] == 1
    viewer.post(f"/admin/account/tokens/{token.id}/revoke")
    assert nobody.client.get("/admin/", headers=program).status_code == 401


def test_a_token_ends_by_itself(services: FakeServices, viewer: Browser, nobody: Browser) -> None:
    text = shown_secret(viewer.post("/admin/account/tokens", name="ci", role="viewer", days=1).text)
    services.timed.advance(86400 + 1)
    assert nobody.client.get("/admin/", headers={"authorization": f"Bearer {text}"}).status_code == 401


def test_a_viewers_token_is_no_operators_and_a_token_makes_no_tokens(
    services: FakeServices, viewer: Browser, nobody: Browser
) -> None:
    assert viewer.post("/admin/account/tokens", name="ci", role="operator").status_code == 403
    _, text = services.ledger.add_token("ci", user="anna", role="operator")
    answer = nobody.client.post(
        "/admin/account/tokens", data={"name": "x"}, headers={"authorization": f"Bearer {text}"}
    )
    assert answer.status_code == 403


def test_an_operator_revokes_anybodys_token_and_a_viewer_only_their_own(
    services: FakeServices, operator: Browser, viewer: Browser
) -> None:
    token, text = services.ledger.add_token("ci", user="anna", role="viewer")
    assert viewer.post(f"/admin/account/tokens/{token.id}/revoke").status_code == 400
    assert services.ledger.token_of(text) is not None
    operator.post(f"/admin/users/tokens/{token.id}/revoke")
    assert services.ledger.token_of(text) is None


def test_another_session_of_ones_own_is_ended_and_nobody_elses(
    services: FakeServices, viewer: Browser, nobody: Browser, operator: Browser
) -> None:
    (own,) = services.ledger.sessions("victor")
    nobody.sign_in("victor")
    (other,) = [session for session in services.ledger.sessions("victor") if session.digest != own.digest]
    (annas,) = services.ledger.sessions("anna")
    assert viewer.post(f"/admin/account/sessions/{annas.digest}/end").status_code == 422
    viewer.post(f"/admin/account/sessions/{other.digest}/end")
    assert viewer.get("/admin/").status_code == 200
    assert nobody.get("/admin/").status_code == 303
    assert operator.get("/admin/").status_code == 200


def test_the_audit_is_filtered_by_who_what_and_subject(services: FakeServices, operator: Browser) -> None:
    operator.post("/admin/users", name="bert", role="viewer", own_password=PASSWORD)
    operator.post("/admin/users/bert/disable")

    def found(query: str) -> list[str]:
        return [row["action"] for row in operator.json(f"/admin/audit?{query}")["list"]["rows"]]

    assert found("action=user") == ["user.disable", "user.add"]
    assert found("q=bert&action=user.add") == ["user.add"]
    assert found("actor=nobody") == []
    assert operator.get("/admin/audit?before=x").status_code == 422


def test_the_audit_shows_what_a_value_was_and_is_and_what_was_asked_on_the_command_line(
    services: FakeServices, operator: Browser
) -> None:
    operator.post("/admin/drift/strategies/growth/policy", alert_share="0.4", reason="too many alarms")
    services.ledger.audit("jo (acis check)", "run.check", "run-1", joined=False, names=["a", "b"])
    read = words(operator.get("/admin/audit").text)
    assert "jo (acis check) run.check run-1 the command line names [&#34;a&#34;,&#34;b&#34;] joined false" in read
    assert "drift.alert share 0.3 → 0.4" in read


def test_the_audit_goes_on_where_the_page_before_ended(services: FakeServices, viewer: Browser) -> None:
    for number in range(60):
        services.ledger.audit("beat", "test.noted", str(number))
    first = viewer.json("/admin/audit?actor=beat")["list"]
    second = viewer.json(f"/admin/audit?actor=beat&before={first['older']}")["list"]
    assert [row["subject"] for row in first["rows"] + second["rows"]] == [str(number) for number in range(59, -1, -1)]
    assert second["older"] is None


def test_a_viewer_does_not_see_what_they_may_not_read(operator: Browser, viewer: Browser) -> None:
    assert 'href="/admin/users"' in operator.get("/admin/").text
    assert 'href="/admin/users"' not in viewer.get("/admin/").text
    assert viewer.get("/admin/users").status_code == 403


def test_a_token_never_may_more_than_its_user_may_now(services: FakeServices, nobody: Browser) -> None:
    _, text = services.ledger.add_token("ci", user="anna", role="operator")
    services.ledger.add_user("other", PASSWORD, role="operator", created_by="test")
    services.ledger.change_user("anna", role="viewer")
    assert nobody.client.get("/admin/users", headers={"authorization": f"Bearer {text}"}).status_code == 403


@pytest.mark.parametrize("path", ["/admin/users", "/admin/users/victor/password"])
def test_who_makes_users_and_passwords_types_their_own_again(
    services: FakeServices, operator: Browser, viewer: Browser, path: str
) -> None:
    assert operator.post(path, name="bert", role="viewer").status_code == 422
    answer = operator.post(path, name="bert", role="viewer", own_password="not hers")
    assert (answer.status_code, "your own password" in answer.text) == (403, True)
    assert services.ledger.user("bert") is None
    assert viewer.sign_in("victor").status_code == 303


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/admin/users", {"name": "bert", "role": "operator", "own_password": PASSWORD}),
        ("/admin/users/victor/role", {"role": "operator"}),
        ("/admin/users/victor/disable", {}),
        ("/admin/users/victor/enable", {}),
        ("/admin/users/victor/password", {"own_password": PASSWORD}),
        ("/admin/users/tokens/any/revoke", {}),
        ("/admin/account/password", {"old": PASSWORD, "new": "another password", "again": "another password"}),
        ("/admin/account/tokens", {"name": "x"}),
        ("/admin/account/tokens/any/revoke", {}),
        ("/admin/account/sessions/any/end", {}),
    ],
)
def test_an_operators_token_manages_no_people(
    services: FakeServices, nobody: Browser, path: str, fields: dict[str, str]
) -> None:
    token, text = services.ledger.add_token("ci", user="anna", role="operator")
    answer = nobody.client.post(path, data=fields, headers={"authorization": f"Bearer {text}"})
    assert (answer.status_code, "a token manages no users" in answer.json()["error"]) == (403, True)
    assert services.ledger.token_of(text) is not None
    assert services.ledger.user("bert") is None
    (line,) = services.ledger.audit_lines(actor=f"anna ({token.name})")
    assert (line.subject, "a token manages no users" in (line.detail or {})["refused"]) == (path, True)


def test_a_viewers_token_writes_nothing_even_where_its_owner_may(services: FakeServices, nobody: Browser) -> None:
    _, text = services.ledger.add_token("ci", user="anna", role="viewer")
    program = {"authorization": f"Bearer {text}"}
    assert nobody.client.get("/admin/account", headers=program).status_code == 200
    assert nobody.client.post("/admin/sign-out", headers=program).status_code == 403


def test_what_a_program_reads_of_sessions_lets_it_act_as_nobody(
    services: FakeServices, operator: Browser, nobody: Browser
) -> None:
    _, text = services.ledger.add_token("ci", user="anna", role="operator")
    answer = nobody.client.get("/admin/account", headers={"authorization": f"Bearer {text}"})
    (session,) = services.ledger.sessions("anna")
    assert answer.json()["sessions"][0]["user"] == "anna"
    assert "csrf" not in answer.text
    assert session.digest not in answer.text


def test_the_old_password_is_tried_as_seldom_as_at_the_sign_in(viewer: Browser) -> None:
    fields = {"new": "another password", "again": "another password"}
    for _ in range(MOST_OF_A_NAME - 1):  # one try was the sign-in itself, which was right
        assert viewer.post("/admin/account/password", old="wrong", **fields).status_code == 403
    assert viewer.post("/admin/account/password", old="wrong", **fields).status_code == 403
    assert viewer.post("/admin/account/password", old=PASSWORD, **fields).status_code == 429


def test_a_role_that_is_not_enough_and_a_form_of_another_site_are_on_record(
    services: FakeServices, viewer: Browser
) -> None:
    assert viewer.get("/admin/users").status_code == 403
    assert viewer.post("/admin/account/tokens", csrf="other", name="x").status_code == 403
    found = [(line.action, line.subject) for line in services.ledger.audit_lines(actor="victor") if line.detail]
    assert found == [("account.token.add", "/admin/account/tokens"), ("users.read", "/admin/users")]
