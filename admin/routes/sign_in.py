"""Sign in and out. Tries are counted in the audit, so that every process of the page counts the same."""

from __future__ import annotations

import hmac
import secrets
import threading
from typing import TYPE_CHECKING, Annotated

from fastapi import Form
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from admin.guard import CSRF_FIELD
from admin.navigation import PREFIX
from admin.pages import Pages
from admin.principal import SESSION_COOKIE, address_of
from admin.refusals import Forbidden, TooOften
from admin.request_context import Visiting
from admin.responses import SIGN_IN, page
from admin.static_files import static_url
from mlops.ledger.access import SESSION_S

if TYPE_CHECKING:
    from mlops.ledger.ledger import SqlLedger

pages = Pages()

FORM_COOKIE = "acis_sign_in"
"""Before there is a session, the form's token is compared with this cookie."""
WITHIN_S = 900.0
MOST_OF_A_NAME, MOST_OF_AN_ADDRESS = 10, 30
"""Wrong passwords within a quarter of an hour: at 40 an hour a guess of twelve characters is hopeless."""
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
    cookie = request.cookies.get(FORM_COOKIE, "")
    if not cookie or not hmac.compare_digest(cookie.encode(), csrf.encode()):
        raise Forbidden("the form is too old; open the sign-in again")
    ledger: SqlLedger = request.app.state.services.ledger
    address = address_of(request)
    _refuse_many(ledger, name, address)
    with _hashing:
        user = ledger.user_with_password(name, password)
    if user is None:
        ledger.audit("nobody", "sign_in.refused", name, address=address)
        return _form(request, name=name, next_path=next, fault="Name or password is wrong.")
    session = ledger.open_session(user.name, address=address, agent=request.headers.get("user-agent"))
    ledger.audit(user.name, "sign_in.done", user.name, address=address)
    response = RedirectResponse(_local(next), status_code=303)
    response.delete_cookie(FORM_COOKIE, path=PREFIX)
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
def sign_out(visit: Visiting) -> Response:
    """The session ends here and in the ledger; a program's token stays."""
    if visit.person.session is not None:
        visit.ledger.end_session(visit.person.session.digest)
    response = visit.done("You have signed out.", to=SIGN_IN)
    response.delete_cookie(SESSION_COOKIE, path=PREFIX)
    return response


def _form(request: Request, *, name: str = "", next_path: str = "", fault: str = "") -> Response:
    token = secrets.token_urlsafe(24)
    values = {"title": "Sign in", "csrf": token, "name": name, "next_path": next_path, "fault": fault}
    response = page(request, "sign_in.html", values, status=401 if fault else 200)
    response.set_cookie(
        FORM_COOKIE,
        token,
        max_age=3600,
        path=PREFIX,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


def _refuse_many(ledger: SqlLedger, name: str, address: str | None) -> None:
    tried = ledger.audited_within("sign_in.refused", within_s=WITHIN_S, subject=name) if name else 0
    from_there = ledger.audited_within("sign_in.refused", within_s=WITHIN_S, address=address) if address else 0
    if tried >= MOST_OF_A_NAME or from_there >= MOST_OF_AN_ADDRESS:
        ledger.audit("nobody", "sign_in.limited", name, address=address)
        raise TooOften("too many wrong passwords; try again in a quarter of an hour", again_after_s=WITHIN_S)


def _local(path: str) -> str:
    """A path of this page, or the overview: nobody is sent elsewhere after the sign-in."""
    is_ours = path.startswith(f"{PREFIX}/") and "\\" not in path and "//" not in path
    return path if is_ours else f"{PREFIX}/"
