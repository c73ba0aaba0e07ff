"""Signing in and out, one's own password, sessions and tokens, and the users that an operator manages."""

from __future__ import annotations

import hmac
import secrets
import threading
from typing import TYPE_CHECKING, Annotated

from fastapi import Form
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from admin.auth.guard import CSRF_FIELD
from admin.auth.principal import SESSION_COOKIE, address_of
from admin.navigation import PREFIX
from admin.pages import Pages
from admin.request_context import Context
from admin.responses import SIGN_IN, Forbidden, NotValid, TooOften, page, static_url
from mlops.ledger.accounts import ROLES, SESSION_S, Session, User
from mlops.passwords import made_password

if TYPE_CHECKING:
    from mlops.ledger.ledger import SqlLedger

pages = Pages()

ACCOUNT = "/admin/account"
DAY_S = 86400.0


@pages.get("/account", action="account.read")
def account(context: Context) -> Response:
    """Sessions and tokens that live."""
    name = context.person.name
    tokens = [token for token in context.ledger.tokens(name) if token.revoked_at is None]
    return context.show("account.html", title="Account", sessions=context.ledger.sessions(name), tokens=tokens)


@pages.post("/account/password", action="account.password", role="viewer")
def password(
    context: Context,
    old: Annotated[str, Form(max_length=1024)],
    new: Annotated[str, Form(max_length=1024)],
    again: Annotated[str, Form(max_length=1024)],
) -> Response:
    """Another password; every other session of this user ends."""
    session = _session_with_password(context, old, "the old password is another one")
    if new != again:
        raise NotValid("the new password was typed in two ways")
    context.ledger.set_password(context.person.name, new, keep_session=session.digest)
    return context.done("Your password is changed; your other sessions have ended.", to=ACCOUNT)


@pages.post("/account/sessions/{digest}/end", action="account.session.end", role="viewer")
def end_session(context: Context, digest: str) -> Response:
    """One of one's own."""
    if digest not in {session.digest for session in context.ledger.sessions(context.person.name)}:
        raise NotValid("that is no session of yours, or it has ended")
    context.note(subject=digest[:12])
    context.ledger.end_session(digest)
    return context.done("The session has ended.", to=ACCOUNT)


@pages.post("/account/tokens", action="account.token.add", role="viewer")
def add_token(
    context: Context,
    name: Annotated[str, Form(max_length=63)],
    role: Annotated[str, Form(max_length=16)] = "viewer",
    days: Annotated[int, Form(ge=1, le=3650)] = 90,
) -> Response:
    """For a program; its text is shown once, and is never seen again."""
    if role == "operator" and not context.person.is_operator:
        raise Forbidden("a viewer's token cannot be an operator's")
    token, text = context.ledger.add_token(name, user=context.person.name, role=role, expires_after_s=days * DAY_S)
    context.note(subject=token.id, name=token.name, role=role, days=days)
    return context.show("secret.html", title="Token made", what=f"Token {token.name}", secret=text, back=ACCOUNT)


@pages.post("/account/tokens/{token_id}/revoke", action="account.token.revoke", role="viewer")
def revoke(context: Context, token_id: str) -> Response:
    """One of one's own, at once."""
    token = context.ledger.revoke_token(token_id, user=context.person.name)
    return context.done(f"The token {token.name} is revoked.", to=ACCOUNT)


# ---- Sign in and out. Tries are counted in the audit, so that every process of the page counts the same

_FORM_COOKIE = "acis_sign_in"
"""Before there is a session, the form's token is compared with this cookie."""
WITHIN_S = 900.0
MOST_OF_A_NAME, MOST_OF_AN_ADDRESS = 10, 30
"""Wrong passwords within a quarter of an hour: at 40 an hour a guess of twelve characters is hopeless."""
_TRIED, _UNKNOWN = "sign_in.tried", "(no such user)"
_hashing = threading.Semaphore(2)
"""A password costs 32 MiB and 80 ms to compare: two at a time, however many try."""


@pages.open("/", action="root.read")
def root() -> Response:
    """To the page."""
    return RedirectResponse(f"{PREFIX}/", status_code=307)


@pages.open("/favicon.ico", action="icon.read")
def icon() -> Response:
    """What a browser asks for beside a document that names no icon, as a drift report by itself."""
    return RedirectResponse(static_url("icon.svg"), status_code=307)


@pages.open("/healthz", action="health.read")
def health() -> Response:
    """The process serves; it says nothing of the servers behind it."""
    return HTMLResponse("ok\n")


@pages.open(SIGN_IN, action="sign_in.read")
def form(request: Request, next: str = "") -> Response:  # noqa: A002 -- the query's name
    """The form; whoever is signed in may use it to become somebody else."""
    return _form(request, next_path=next)


@pages.open(SIGN_IN, action="sign_in", method="POST")
def sign_in(
    request: Request,
    name: Annotated[str, Form(max_length=63)] = "",
    password: Annotated[str, Form(max_length=1024)] = "",
    csrf: Annotated[str, Form(alias=CSRF_FIELD, max_length=128)] = "",
    next: Annotated[str, Form(max_length=512)] = "",  # noqa: A002 -- the field's name
) -> Response:
    """Opens a session. Raises Forbidden, TooOften."""
    cookie = request.cookies.get(_FORM_COOKIE, "")
    if not cookie or not hmac.compare_digest(cookie.encode(), csrf.encode()):
        raise Forbidden("the form is too old; open the sign-in again")
    ledger: SqlLedger = request.app.state.services.ledger
    address = address_of(request)
    user = _user_with_password(ledger, name, password, address)
    if user is None:
        return _form(request, name=name, next_path=next, fault="Name or password is wrong.")
    session = ledger.open_session(user.name, address=address, agent=request.headers.get("user-agent"))
    response = RedirectResponse(_local(next), status_code=303)
    response.delete_cookie(_FORM_COOKIE, path=PREFIX)
    response.set_cookie(
        SESSION_COOKIE,
        session,
        max_age=round(SESSION_S),
        path=PREFIX,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


@pages.post("/sign-out", action="sign_out", role="viewer")
def sign_out(context: Context) -> Response:
    """The session ends here and in the ledger; a program's token stays."""
    if context.person.session is not None:
        context.ledger.end_session(context.person.session.digest)
    response = context.done("You have signed out.", to=SIGN_IN)
    response.delete_cookie(SESSION_COOKIE, path=PREFIX)
    return response


def _form(request: Request, *, name: str = "", next_path: str = "", fault: str = "") -> Response:
    token = secrets.token_urlsafe(24)
    values = {"title": "Sign in", "csrf": token, "name": name, "next_path": next_path, "fault": fault}
    response = page(request, "sign_in.html", values, status=401 if fault else 200)
    response.set_cookie(
        _FORM_COOKIE,
        token,
        max_age=3600,
        path=PREFIX,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


def _user_with_password(ledger: SqlLedger, name: str, password: str, address: str | None) -> User | None:
    """The user whose name and password these are. The try is on record before the password is compared.

    Raises TooOften. A name that no user has is not kept: it may be a password that was typed into the wrong field.
    """
    known = name if name and ledger.user(name) is not None else ""
    attempt = ledger.begin_try(_TRIED, known or _UNKNOWN, address=address)
    counted = (_TRIED, "sign_in.refused")
    tried = ledger.audited_within(*counted, within_s=WITHIN_S, subject=known) if known else 0
    from_there = ledger.audited_within(*counted, within_s=WITHIN_S, address=address) if address else 0
    if tried > MOST_OF_A_NAME or from_there > MOST_OF_AN_ADDRESS:
        ledger.end_try(attempt, "sign_in.limited")
        raise TooOften("too many wrong passwords; try again in a quarter of an hour", again_after_s=WITHIN_S)
    with _hashing:
        user = ledger.user_with_password(name, password)
    if user is None:
        ledger.end_try(attempt, "sign_in.refused")
    else:
        ledger.end_try(attempt, "sign_in.done", actor=user.name)
    return user


def _session_with_password(context: Context, password: str, refusal: str) -> Session:
    """The session of a person who has typed their password again. Raises Forbidden, TooOften."""
    person = context.person
    if person.session is None:
        raise Forbidden("a program has no password; sign in")
    if _user_with_password(context.ledger, person.name, password, person.address) is None:
        raise Forbidden(refusal)
    return person.session


def _local(path: str) -> str:
    """A path of this page, or the overview: nobody is sent elsewhere after the sign-in."""
    is_ours = path.startswith(f"{PREFIX}/") and "\\" not in path and "//" not in path
    return path if is_ours else f"{PREFIX}/"


# ---- Who may use the page, in which role; an operator's business

_USERS = "/admin/users"
_NOT_YOURS = "your own password is another one; who makes users and passwords types it again"


@pages.get("/users", action="users.read", role="operator")
def users(context: Context) -> Response:
    """All users, and all tokens that live."""
    tokens = [token for token in context.ledger.tokens() if token.revoked_at is None]
    return context.show("users.html", title="Users", users=context.ledger.users(), tokens=tokens, roles=ROLES)


@pages.post("/users", action="user.add")
def add(
    context: Context,
    name: Annotated[str, Form(max_length=63)],
    role: Annotated[str, Form(max_length=16)],
    own_password: Annotated[str, Form(max_length=1024)],
) -> Response:
    """A user with a made password, which is shown once; they change it on their account's page."""
    context.note(subject=name, role=role)
    _session_with_password(context, own_password, _NOT_YOURS)
    password = made_password()
    user = context.ledger.add_user(name, password, role=role, created_by=context.person.actor)
    return context.show(
        "secret.html", title="User added", what=f"Password of {user.name}", secret=password, back=_USERS
    )


@pages.post("/users/{name}/role", action="user.role")
def change_role(context: Context, name: str, role: Annotated[str, Form(max_length=16)]) -> Response:
    """Another role; their sessions end. The last operator stays one."""
    context.note(role=role)
    user = context.ledger.change_user(name, role=role)
    return context.done(f"{user.name} is {user.role} now; open sessions have ended.", to=_USERS)


@pages.post("/users/{name}/disable", action="user.disable")
def disable(context: Context, name: str) -> Response:
    """May not sign in any more; sessions and tokens end at once."""
    if name == context.person.name:
        raise NotValid("you would lock yourself out; another operator can do that")
    context.ledger.change_user(name, is_disabled=True)
    return context.done(f"{name} is disabled; sessions and tokens have ended.", to=_USERS)


@pages.post("/users/{name}/enable", action="user.enable")
def enable(context: Context, name: str) -> Response:
    """May sign in again; tokens stay revoked."""
    context.ledger.change_user(name, is_disabled=False)
    return context.done(f"{name} may sign in again.", to=_USERS)


@pages.post("/users/{name}/password", action="user.password")
def new_password(context: Context, name: str, own_password: Annotated[str, Form(max_length=1024)]) -> Response:
    """A made password in place of a forgotten one, shown once; their sessions end."""
    _session_with_password(context, own_password, _NOT_YOURS)
    password = made_password()
    context.ledger.set_password(name, password)
    return context.show("secret.html", title="New password", what=f"Password of {name}", secret=password, back=_USERS)


@pages.post("/users/tokens/{token_id}/revoke", action="user.token.revoke")
def revoke_any(context: Context, token_id: str) -> Response:
    """Anybody's token ends at once."""
    token = context.ledger.revoke_token(token_id)
    return context.done(f"The token {token.name} of {token.user} is revoked.", to=_USERS)
