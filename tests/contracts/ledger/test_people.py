"""Users, sessions, tokens and the audit."""

from __future__ import annotations

from typing import NoReturn

import pytest

from mlops.domain.errors import LedgerUnavailable
from mlops.ledger.ledger import SqlLedger
from mlops.ledger.people.accounts import IDLE_S, SESSION_S, TokenRefused, UserRefused
from mlops.ledger.people.sign_in_limits import FIRST_WAIT_S, Limit
from tests.support.ledgers import TimedLedger

PASSWORD = "correct horse battery"
OTHER = "another long enough one"


@pytest.fixture
def anna(ledger: SqlLedger) -> str:
    ledger.add_user("anna", PASSWORD, role="operator", created_by="test")
    return "anna"


def test_a_user_is_known_by_name_and_password_alone(ledger: SqlLedger, anna: str) -> None:
    found = ledger.user_with_password(anna, PASSWORD)
    assert found is not None
    assert (found.name, found.role) == ("anna", "operator")
    assert ledger.user_with_password(anna, OTHER) is None
    assert ledger.user_with_password("ben", PASSWORD) is None


@pytest.mark.parametrize(
    ("name", "password", "role", "fault"),
    [
        ("anna", PASSWORD, "operator", "already"),
        ("Anna Smith", PASSWORD, "operator", "no user name"),
        ("ben", "short", "operator", "at least 12"),
        ("ben", "x" * 300, "operator", "at most 256"),
        ("ben", PASSWORD, "root", "no role"),
    ],
)
def test_a_user_that_cannot_be_is_refused(
    ledger: SqlLedger, anna: str, name: str, password: str, role: str, fault: str
) -> None:
    with pytest.raises(UserRefused, match=fault):
        ledger.add_user(name, password, role=role, created_by="test")


def test_a_session_is_found_by_its_cookie_until_it_is_ended(ledger: SqlLedger, anna: str) -> None:
    cookie = ledger.open_session(anna, address="127.0.0.1", agent="a browser")
    session = ledger.session(cookie)
    assert session is not None
    assert (session.user, session.role, session.address) == ("anna", "operator", "127.0.0.1")
    assert cookie not in repr(ledger.sessions(anna))
    assert ledger.session(cookie + "x") is None
    ledger.end_session(session.digest)
    assert ledger.session(cookie) is None


def test_a_session_ends_when_idle_and_in_any_case_after_a_day(timed: TimedLedger, anna: str) -> None:
    ledger = timed.ledger
    idle, busy = (ledger.open_session(anna, address=None, agent=None) for _ in range(2))
    for _ in range(int(SESSION_S / (IDLE_S / 2)) - 1):
        timed.advance(IDLE_S / 2)
        assert ledger.session(busy) is not None
    assert ledger.session(idle) is None
    timed.advance(IDLE_S / 2 + 60)
    assert ledger.session(busy) is None


def test_another_password_ends_the_user_s_other_sessions(ledger: SqlLedger, anna: str) -> None:
    mine, other = (ledger.open_session(anna, address=None, agent=None) for _ in range(2))
    kept = ledger.session(mine)
    assert kept is not None
    ledger.set_password(anna, OTHER, keep_session=kept.digest)
    assert ledger.session(mine) is not None
    assert ledger.session(other) is None
    assert ledger.user_with_password(anna, OTHER) is not None
    assert ledger.user_with_password(anna, PASSWORD) is None


def test_a_disabled_user_has_no_session_no_token_and_no_sign_in(ledger: SqlLedger, anna: str) -> None:
    ledger.add_user("ben", PASSWORD, role="operator", created_by=anna)
    cookie = ledger.open_session("ben", address=None, agent=None)
    _, text = ledger.add_token("nightly", user="ben", role="operator")
    ledger.change_user("ben", is_disabled=True)
    assert ledger.session(cookie) is None
    assert ledger.token_of(text) is None
    assert ledger.user_with_password("ben", PASSWORD) is None
    ledger.change_user("ben", is_disabled=False)
    assert ledger.user_with_password("ben", PASSWORD) is not None


def test_the_last_operator_stays_one(ledger: SqlLedger, anna: str) -> None:
    for change in ({"role": "viewer"}, {"is_disabled": True}):
        with pytest.raises(UserRefused, match="last operator"):
            ledger.change_user(anna, **change)  # type: ignore[arg-type]
    user = ledger.user(anna)
    assert user is not None
    assert (user.role, user.disabled_at) == ("operator", None)


def test_the_first_user_is_made_where_there_is_none(ledger: SqlLedger) -> None:
    assert ledger.first_user("operator", PASSWORD, created_by="make run")
    assert not ledger.first_user("operator", OTHER, created_by="make run")
    assert [user.role for user in ledger.users()] == ["operator"]
    assert ledger.user_with_password("operator", PASSWORD) is not None


def test_a_token_is_shown_once_and_ends_when_it_is_revoked(ledger: SqlLedger, anna: str) -> None:
    token, text = ledger.add_token("nightly", user=anna, role="viewer")
    assert text.startswith(f"acis_{token.id}_")
    found = ledger.token_of(text)
    assert found is not None
    assert (found.user, found.role, found.name) == ("anna", "viewer", "nightly")
    assert ledger.token_of(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    assert ledger.token_of("nonsense") is None
    assert text.rpartition("_")[2] not in repr(ledger.tokens())
    assert ledger.tokens(anna)[0].used_at is not None
    with pytest.raises(TokenRefused):
        ledger.revoke_token(token.id, user="ben")
    ledger.revoke_token(token.id, user=anna)
    assert ledger.token_of(text) is None


def test_a_token_runs_out_and_never_may_more_than_its_user(timed: TimedLedger, anna: str) -> None:
    ledger = timed.ledger
    ledger.add_user("ben", PASSWORD, role="operator", created_by=anna)
    _, text = ledger.add_token("nightly", user="ben", role="operator", expires_after_s=60)
    ledger.change_user("ben", role="viewer")
    found = ledger.token_of(text)
    assert found is not None
    assert found.role == "viewer"
    timed.advance(61)
    assert ledger.token_of(text) is None


def test_the_audit_is_read_page_by_page_and_filtered(timed: TimedLedger) -> None:
    ledger = timed.ledger
    for number in range(5):
        ledger.audit("anna", "run.cancel", f"run-{number}", address="127.0.0.1", why=number)
    ledger.audit("ben", "sign_in.refused", "ben", address="10.0.0.1")
    newest = ledger.audit_lines(limit=2)
    assert [line.subject for line in newest] == ["ben", "run-4"]
    assert newest[1].detail == {"why": 4}
    assert [line.subject for line in ledger.audit_lines(before=newest[-1].id, limit=2)] == ["run-3", "run-2"]
    assert [line.actor for line in ledger.audit_lines(action="sign_in")] == ["ben"]
    assert len(ledger.audit_lines(actor="anna", subject="run-1")) == 1
    ledger.add_user("ben", PASSWORD, role="viewer", created_by="test")
    assert [one.name for one in ledger.guessed_at(within_s=60, least=1)] == ["ben"]
    assert ledger.guessed_at(within_s=60, least=2) == []
    timed.advance(61)
    assert ledger.guessed_at(within_s=60, least=1) == []


def test_a_clock_that_was_ahead_locks_nobody_out_and_lets_nobody_stay_for_longer(timed: TimedLedger, anna: str) -> None:
    timed.advance(7200)
    cookie = timed.ledger.open_session(anna, address=None, agent=None)
    timed.ledger.audit("nobody", "sign_in.refused", anna, address="10.0.0.1")
    limits = [Limit(key="name anna", most=1, user=anna)]
    assert timed.ledger.begin_try(limits) == {}
    assert timed.ledger.begin_try(limits) == {"name anna": pytest.approx(FIRST_WAIT_S, abs=30)}
    timed.advance(-7200)
    assert timed.ledger.session(cookie) is None
    assert timed.ledger.guessed_at(within_s=60, least=1) == []
    assert timed.ledger.begin_try(limits) == {}


def test_a_ledger_that_takes_no_writes_still_lets_those_read_who_may(
    timed: TimedLedger, anna: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = timed.ledger
    cookie = ledger.open_session(anna, address=None, agent=None)
    _, text = ledger.add_token("nightly", user=anna, role="viewer")
    timed.advance(120)  # so that a request would be noted

    def refused(_: str) -> NoReturn:
        raise LedgerUnavailable("the ledger takes no writes now")

    monkeypatch.setattr(ledger.database, "transaction", refused)
    session, token = ledger.session(cookie), ledger.token_of(text)
    assert session is not None
    assert token is not None
    assert session.user == token.user == anna
