"""One's own password, sessions and tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form
from starlette.responses import Response

from admin.pages import Pages
from admin.refusals import Forbidden, NotValid
from admin.request_context import Visiting

pages = Pages()

ACCOUNT = "/admin/account"
DAY_S = 86400.0


@pages.get("/account", action="account.read")
def account(visit: Visiting) -> Response:
    """Sessions and tokens that live."""
    name = visit.person.name
    tokens = [token for token in visit.ledger.tokens(name) if token.revoked_at is None]
    return visit.show("account.html", title="Account", sessions=visit.ledger.sessions(name), tokens=tokens)


@pages.post("/account/password", action="account.password", role="viewer")
def password(
    visit: Visiting,
    old: Annotated[str, Form(max_length=1024)],
    new: Annotated[str, Form(max_length=1024)],
    again: Annotated[str, Form(max_length=1024)],
) -> Response:
    """Another password; every other session of this user ends."""
    session = visit.person.session
    if session is None:
        raise Forbidden("a program has no password; sign in")
    if visit.ledger.user_with_password(visit.person.name, old) is None:
        raise Forbidden("the old password is another one")
    if new != again:
        raise NotValid("the new password was typed in two ways")
    visit.ledger.set_password(visit.person.name, new, keep_session=session.digest)
    return visit.done("Your password is changed; your other sessions have ended.", to=ACCOUNT)


@pages.post("/account/sessions/{digest}/end", action="account.session.end", role="viewer")
def end_session(visit: Visiting, digest: str) -> Response:
    """One of one's own."""
    if digest not in {session.digest for session in visit.ledger.sessions(visit.person.name)}:
        raise NotValid("that is no session of yours, or it has ended")
    visit.note(subject=digest[:12])
    visit.ledger.end_session(digest)
    return visit.done("The session has ended.", to=ACCOUNT)


@pages.post("/account/tokens", action="account.token.add", role="viewer")
def add_token(
    visit: Visiting,
    name: Annotated[str, Form(max_length=63)],
    role: Annotated[str, Form(max_length=16)] = "viewer",
    days: Annotated[int, Form(ge=1, le=3650)] = 90,
) -> Response:
    """For a program; its text is shown once, and is never seen again."""
    if visit.person.token is not None:
        raise Forbidden("a token makes no tokens; sign in")
    if role == "operator" and not visit.person.is_operator:
        raise Forbidden("a viewer's token cannot be an operator's")
    token, text = visit.ledger.add_token(name, user=visit.person.name, role=role, expires_after_s=days * DAY_S)
    visit.note(subject=token.id, name=token.name, role=role, days=days)
    return visit.show("secret.html", title="Token made", what=f"Token {token.name}", secret=text, back=ACCOUNT)


@pages.post("/account/tokens/{token_id}/revoke", action="account.token.revoke", role="viewer")
def revoke(visit: Visiting, token_id: str) -> Response:
    """One of one's own, at once."""
    token = visit.ledger.revoke_token(token_id, user=visit.person.name)
    return visit.done(f"The token {token.name} is revoked.", to=ACCOUNT)
