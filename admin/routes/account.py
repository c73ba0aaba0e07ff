"""Signing in and out, one's own password, sessions and tokens, and the users that an operator manages."""

from __future__ import annotations

import hmac
import secrets
from asyncio import wrap_future
from typing import TYPE_CHECKING, Annotated

from fastapi import Form
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from admin.auth.guard import CSRF_FIELD, NOBODY, note_refusal
from admin.auth.principal import SESSION_COOKIE, address_of
from admin.auth.sign_in import NOT_LOOKED_UP, REMEMBERED_S
from admin.navigation import PREFIX
from admin.pages import Pages
from admin.request_context import Context
from admin.responses import SIGN_IN, Forbidden, NotValid, TooOften, page, static_url
from mlops.ledger.people.accounts import ROLES, SESSION_S, Session, User
from mlops.passwords import made_password
from mlops.serving.web_server import visit_of

if TYPE_CHECKING:
    from admin.auth.sign_in import PasswordCheck
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
    response = context.done("Your password is changed; your other sessions have ended.", to=ACCOUNT)
    _remember(context.request, response, context.person.name, device=None)
    return response


@pages.post("/account/sign-out-everywhere", action="account.sign_out_everywhere", role="viewer")
def sign_out_everywhere(context: Context) -> Response:
    """Every session of one's own ends, and no browser is remembered any more."""
    context.ledger.sign_out_everywhere(context.person.name)
    context.passwords.forget_devices()
    response = context.done("You have signed out everywhere.", to=SIGN_IN)
    response.delete_cookie(SESSION_COOKIE, path=PREFIX)
    response.delete_cookie(_DEVICE_COOKIE, path=PREFIX)
    return response


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


# ---- Sign in and out

_FORM_COOKIE = "acis_sign_in"
"""Before there is a session, the form's token is compared with this cookie."""
_DEVICE_COOKIE = "acis_device"
"""A browser in which somebody has signed in: what strangers try does not count against it."""


@pages.open("/", action="root.read")
async def root() -> Response:
    """To the page."""
    return RedirectResponse(f"{PREFIX}/", status_code=307)


@pages.open("/favicon.ico", action="icon.read")
async def icon() -> Response:
    """What a browser asks for beside a document that names no icon, as a drift report by itself."""
    return RedirectResponse(static_url("icon.svg"), status_code=307)


@pages.open("/healthz", action="health.read")
async def health() -> Response:
    """The process serves; it says nothing of the servers behind it. In the event loop: it waits for no thread."""
    return HTMLResponse("ok\n")


@pages.open(SIGN_IN, action="sign_in.read")
def form(request: Request, next: str = "") -> Response:  # noqa: A002 -- the query's name
    """The form; whoever is signed in may use it to become somebody else."""
    return _form(request, next_path=next)


@pages.open(SIGN_IN, action="sign_in", method="POST")
async def sign_in(
    request: Request,
    name: Annotated[str, Form(max_length=63)] = "",
    password: Annotated[str, Form(max_length=1024)] = "",
    csrf: Annotated[str, Form(alias=CSRF_FIELD, max_length=128)] = "",
    next: Annotated[str, Form(max_length=512)] = "",  # noqa: A002 -- the field's name
) -> Response:
    """Opens a session. In the event loop: only a comparison of passwords takes a thread, of the pool for these."""
    cookie = request.cookies.get(_FORM_COOKIE, "")
    if not cookie or not hmac.compare_digest(cookie.encode(), csrf.encode()):
        words = "the form is too old; open the sign-in again"
        await note_refusal(request, NOBODY, "sign_in.refused", words, subject=NOT_LOOKED_UP)
        raise Forbidden(words)
    passwords: PasswordCheck = request.app.state.passwords
    address = address_of(request)
    device = await _device(request, name)
    try:
        passwords.refuse_closed(name, address, device)
        tried = await wrap_future(passwords.begin(name, password, address=address, device=device))
    except TooOften as exc:
        await note_refusal(request, NOBODY, "sign_in.limited", "too often", subject=passwords.shown(name))
        return _form(request, next_path=next, fault=f"{exc}.".capitalize(), refusal=exc)
    if tried is None:
        await note_refusal(request, NOBODY, "sign_in.refused", "a wrong password", subject=passwords.shown(name))
        return _form(request, next_path=next, fault="Name or password is wrong.")
    visit_of(request.scope).user = tried.name
    return await run_in_threadpool(_signed_in, request, tried, _local(next), device)


def _signed_in(request: Request, user: User, to: str, device: str | None) -> Response:
    ledger: SqlLedger = request.app.state.services.ledger
    address = address_of(request)
    ledger.audit(user.name, "sign_in.done", user.name, address=address)
    session = ledger.open_session(user.name, address=address, agent=request.headers.get("user-agent"))
    response = RedirectResponse(to, status_code=303)
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
    _remember(request, response, user.name, device=device)
    return response


async def _device(request: Request, name: str) -> str | None:
    """The browser's id, where this user has signed in with it before."""
    passwords: PasswordCheck = request.app.state.passwords
    cookie = request.cookies.get(_DEVICE_COOKIE)
    if not cookie:
        return None
    if passwords.has_keys:
        return passwords.device_of(cookie, name)
    return await run_in_threadpool(passwords.device_of, cookie, name)


def _remember(request: Request, response: Response, name: str, *, device: str | None) -> None:
    """Give the browser the cookie by which it is known at the next sign-in."""
    passwords: PasswordCheck = request.app.state.passwords
    response.set_cookie(
        _DEVICE_COOKIE,
        passwords.remembered(name, device),
        max_age=round(REMEMBERED_S),
        path=PREFIX,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


@pages.post("/sign-out", action="sign_out", role="viewer")
def sign_out(context: Context) -> Response:
    """The session ends here and in the ledger; a program's token stays."""
    if context.person.session is not None:
        context.ledger.end_session(context.person.session.digest)
    response = context.done("You have signed out.", to=SIGN_IN)
    response.delete_cookie(SESSION_COOKIE, path=PREFIX)
    return response


def _form(request: Request, *, next_path: str = "", fault: str = "", refusal: TooOften | None = None) -> Response:
    """The form, empty: a name that was typed may be a password."""
    token = secrets.token_urlsafe(24)
    values = {"title": "Sign in", "csrf": token, "next_path": next_path, "fault": fault}
    status = 200 if not fault else 401 if refusal is None else refusal.status
    headers = {} if refusal is None else {"Retry-After": str(round(refusal.again_after_s))}
    response = page(request, "sign_in.html", values, status=status, headers=headers)
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


def _session_with_password(context: Context, password: str, refusal: str) -> Session:
    """The session of a person who has typed their password again. Raises Forbidden, TooOften."""
    person = context.person
    if person.session is None:
        raise Forbidden("a program has no password; sign in")
    if not context.passwords.is_own(person.name, password):
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
    guessed_at = {one.name: one for one in context.ledger.guessed_at()}
    users = context.ledger.users()
    return context.show("users.html", title="Users", users=users, guessed_at=guessed_at, tokens=tokens, roles=ROLES)


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


@pages.post("/users/{name}/unlock", action="user.unlock")
def unlock(context: Context, name: str) -> Response:
    """Wrong passwords for the name are forgotten, wherever they came from."""
    context.ledger.unlock(name)
    return context.done(f"{name} may try to sign in again, from anywhere.", to=_USERS)


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
