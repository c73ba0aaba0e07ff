"""Who asks: a person with a session's cookie, or a program with a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from admin.responses import NotSignedIn
from mlops.ledger.people.accounts import Role, Session, Token
from mlops.serving.web_server import visit_of

if TYPE_CHECKING:
    from mlops.ledger.ledger import SqlLedger

SESSION_COOKIE = "acis_session"


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who asks, and from where."""

    name: str
    role: Role
    address: str | None
    session: Session | None = None
    """None: a program."""
    token: Token | None = None
    """None: a person."""

    @property
    def is_operator(self) -> bool:
        """May act, and not only read."""
        return self.role == "operator"

    @property
    def csrf(self) -> str:
        """What the forms of this session carry; empty for a program, which has no cookie to be abused."""
        return self.session.csrf if self.session else ""

    @property
    def actor(self) -> str:
        """The name in the audit and in the runs that are asked for."""
        return f"{self.name} ({self.token.name})" if self.token else self.name


def who_asks(request: Request) -> Person:
    """Looked up with every request, so that what was taken away ends at once. Raises NotSignedIn, LedgerUnavailable."""
    person, visit = _found(request), visit_of(request.scope)
    visit.user, visit.token = person.name, person.token.id if person.token else None
    return person


def _found(request: Request) -> Person:
    ledger: SqlLedger = request.app.state.services.ledger
    header = request.headers.get("authorization", "")
    if header:
        return _program(ledger, header, request)
    cookie = request.cookies.get(SESSION_COOKIE)
    session = ledger.session(cookie) if cookie else None
    if session is None:
        raise NotSignedIn("you are not signed in, or your session has ended")
    return Person(name=session.user, role=session.role, address=address_of(request), session=session)


def address_of(request: Request) -> str | None:
    """Where a request comes from; what proxies say is believed as ACIS_ADMIN_PROXIES allows."""
    return request.client.host[:64] if request.client else None


def _program(ledger: SqlLedger, header: str, request: Request) -> Person:
    scheme, _, text = header.partition(" ")
    token = ledger.token_of(text.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        raise NotSignedIn("the token is not known, was revoked, or has run out", is_program=True)
    return Person(name=token.user, role=token.role, address=address_of(request), token=token)
