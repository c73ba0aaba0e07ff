"""Templates into pages, values into JSON, and errors into words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from admin import wording
from admin.navigation import ACCOUNT, ENTRIES, PREFIX, is_current
from admin.pictures import axes
from mlops.domain.errors import (
    AcisError,
    ChampionMoved,
    ExperimentEnded,
    ExperimentNotFound,
    ExperimentRunning,
    InvalidTransition,
    ModelNotFound,
    ReportNotFound,
    RunNotFound,
    TemporaryError,
    UnknownStrategy,
    VersionNotFound,
)
from mlops.ledger.people.accounts import Session
from mlops.serving.access_log import visit_of

log = structlog.get_logger(__name__)

# ---- Why the page does not do what it is asked for; each becomes an answer below


class Refusal(Exception):
    """A request that is not carried out; the message is shown."""

    status = 400


class NotSignedIn(Refusal):
    """Nobody that the page knows."""

    status = 401

    def __init__(self, words: str, *, is_program: bool = False) -> None:
        super().__init__(words)
        self.is_program = is_program


class Forbidden(Refusal):
    """Known, but may not."""

    status = 403


class TooOften(Refusal):
    """Try later."""

    status = 429

    def __init__(self, words: str, *, again_after_s: float) -> None:
        super().__init__(words)
        self.again_after_s = again_after_s


class NotValid(Refusal):
    """A value of a form or an address that cannot be."""

    status = 422


class NothingChosen(NotValid):
    """Nothing is ticked that something could be done with; a browser is told on the page where it ticks."""


class RefusedForm(NotValid):
    """A form that is not carried out, and is shown again as it was typed, with the reason."""

    def __init__(self, words: str, *, shown: Response) -> None:
        super().__init__(words)
        self.shown = shown


class NotThere(Refusal):
    """There is no such page or thing."""

    status = 404


# ---- Style, scripts and the vendored libraries: served with their digest in the address, so they are kept for ever

FOLDER = Path(__file__).parent / "static"


@cache
def static_url(name: str) -> str:
    """The address of a file below `admin/static`."""
    digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:12]
    return f"{PREFIX}/static/{name}?v={digest}"


class KeptFiles(StaticFiles):
    """Files whose address changes with what is in them."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file; for ever only where the address has a digest."""
        response = await super().get_response(path, scope)
        is_digested = scope["query_string"].startswith(b"v=")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if is_digested else "no-cache"
        return response


SIGN_IN = f"{PREFIX}/sign-in"
_SAID_COOKIE = "acis_said"
"""What the last action did, or a hint why it did nothing, for the page that comes after it."""
_HINT = "hint:"
_TO_STRANGERS = {
    400: "a value that was given cannot be; check what was typed",
    503: "a server that is needed to know who you are does not answer; try again soon. The page's log says which",
}
_NOT_FOUND = (
    RunNotFound,
    ReportNotFound,
    UnknownStrategy,
    ModelNotFound,
    VersionNotFound,
    ExperimentNotFound,
)
_CONFLICTS = (InvalidTransition, ExperimentRunning, ExperimentEnded, ChampionMoved)
_TITLES = {
    400: "That cannot be done",
    401: "Sign in",
    403: "Not allowed",
    404: "Not found",
    405: "Not found",
    409: "Not now",
    413: "Too large",
    422: "That does not fit",
    429: "Too often",
    500: "A defect",
    503: "Not there now",
}


def rendered(request: Request, template: str, values: Mapping[str, Any], *, block: str | None = None) -> str:
    """A template as text; with `block`, that block alone."""
    found = environment().get_template(template)
    person = values.get("person")
    said = unquote(request.cookies.get(_SAID_COOKIE, ""))
    shown = {
        "path": request.url.path,
        "entries": [entry for entry in ENTRIES if entry.path in request.app.state.paths and entry.is_shown_to(person)],
        "said": said.removeprefix(_HINT),
        "is_hint": said.startswith(_HINT),
        **values,
    }
    # Given, and not imported by the template: a block that is rendered alone runs no import.
    shown["ui"] = environment().get_template("parts/macros.html").make_module(shown)
    if block is None:
        return found.render(shown)
    context = found.new_context(shown)
    return "".join(found.blocks[block](context)) if block in found.blocks else found.render(shown)


def page(
    request: Request,
    template: str,
    values: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """A whole page. What the last action did stands on it once: no later page says it again."""
    response = HTMLResponse(rendered(request, template, values), status_code=status, headers=dict(headers or {}))
    if _SAID_COOKIE in request.cookies:
        response.delete_cookie(_SAID_COOKIE, path=PREFIX)
    return response


def say_next(request: Request, response: Response, words: str, *, is_hint: bool = False) -> None:
    """The next whole page says the words."""
    response.set_cookie(
        _SAID_COOKIE,
        quote(f"{_HINT if is_hint else ''}{words[:1500]}"),
        max_age=60,
        path=PREFIX,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


@cache
def environment() -> Environment:
    """Every value is escaped, and a misspelt name is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    made.filters.update({**wording.FILTERS, **axes.FILTERS})
    made.globals.update(
        static=static_url, is_current=is_current, ACCOUNT=ACCOUNT, PREFIX=PREFIX, SIGN_IN=SIGN_IN, **wording.GLOBALS
    )
    return made


def wants_json(request: Request) -> bool:
    """It accepts JSON and no page, or has a token and does not ask for a page."""
    accept = request.headers.get("accept", "")
    if "text/html" in accept:
        return False
    return "application/json" in accept or "authorization" in request.headers


_UNTOLD = ("csrf", "digest")
"""Of a session: with these a program that only reads could act as a person."""


def plain(value: Any) -> Any:  # noqa: ANN401 -- any value that a page shows
    """As JSON has it: dataclasses as objects, times as ISO text."""
    if is_dataclass(value) and not isinstance(value, type):
        untold = _UNTOLD if isinstance(value, Session) else ()
        return {one.name: plain(getattr(value, one.name)) for one in fields(value) if one.name not in untold}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    return _scalar(value.value if isinstance(value, Enum) else value)


def _scalar(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # JSON has no nan
    return value if value is None or isinstance(value, str | int) else str(value)


# ---- errors


def add_error_answers(app: FastAPI) -> None:
    """Every error that leaves a route becomes an answer in words; what nobody expected reaches the log too."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(AcisError, _failed)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)


def status_of(exc: AcisError | Refusal) -> int:
    """Give the status by which HTTP knows an error."""
    if isinstance(exc, Refusal):
        return exc.status
    if isinstance(exc, TemporaryError):
        return 503
    if isinstance(exc, _NOT_FOUND):
        return 404
    return 409 if isinstance(exc, _CONFLICTS) else 400


def error_answer(request: Request, status: int, words: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """JSON for a program, a line for HTMX, else a page."""
    if wants_json(request):
        return JSONResponse({"error": words}, status_code=status, headers=dict(headers or {}))
    title = _TITLES.get(status, _TITLES[400])
    values = {
        "title": title,
        "status": status,
        "words": words,
        "back": _back(request),
        "request_id": visit_of(request.scope).request_id,
    }
    if request.headers.get("hx-request") == "true":
        placed = {"HX-Retarget": "#messages", "HX-Reswap": "innerHTML", **(headers or {})}
        return HTMLResponse(rendered(request, "parts/error.html", values), status_code=status, headers=placed)
    return page(request, "error.html", values, status=status, headers=headers)


def _back(request: Request) -> str:
    """Where the form was, if it was ours."""
    before = request.headers.get("referer", "")
    host = f"{request.url.scheme}://{request.url.netloc}"
    return before.removeprefix(host) if before.startswith(f"{host}{PREFIX}/") else f"{PREFIX}/"


def _refused(request: Request, exc: Exception) -> Response:
    if isinstance(exc, NotSignedIn):
        return _not_signed_in(request, exc)
    if isinstance(exc, RefusedForm):
        return exc.shown
    if isinstance(exc, NothingChosen) and not wants_json(request) and request.headers.get("hx-request") != "true":
        response = RedirectResponse(_back(request), status_code=303)
        say_next(request, response, str(exc), is_hint=True)
        return response
    headers = {"Retry-After": str(round(exc.again_after_s))} if isinstance(exc, TooOften) else {}
    status = exc.status if isinstance(exc, Refusal) else 400
    return error_answer(request, status, str(exc), headers=headers)


def _not_signed_in(request: Request, exc: NotSignedIn) -> Response:
    """A browser is sent to the sign-in and back; a program is told."""
    to = f"{SIGN_IN}?next={quote(request.url.path)}" if request.method == "GET" else SIGN_IN
    if request.headers.get("hx-request") == "true":
        return Response(status_code=401, headers={"HX-Redirect": SIGN_IN})
    if exc.is_program or wants_json(request) or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": str(exc)}, status_code=401, headers={"WWW-Authenticate": "Bearer"})
    return RedirectResponse(to, status_code=303)


def _failed(request: Request, exc: Exception) -> Response:
    """The error's own words, which may name a host, a user or a database, are for who is signed in."""
    status = status_of(exc) if isinstance(exc, AcisError) else 500
    if visit_of(request.scope).user is not None:
        return error_answer(request, status, str(exc))
    log.warning("request.failed", error=str(exc), next="who asked was told no more than that it failed")
    return error_answer(request, status, _TO_STRANGERS.get(status, "this cannot be answered"))


def _not_valid(request: Request, exc: Exception) -> Response:
    first = exc.errors()[0] if isinstance(exc, RequestValidationError) else {"loc": ("request",), "msg": str(exc)}
    return error_answer(request, 422, f"{first['loc'][-1]}: {str(first['msg']).lower()}")


def _http(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    words = "there is no such page" if status in {404, 405} else str(getattr(exc, "detail", exc))
    return error_answer(request, status, words)


def _defect(request: Request, _: Exception) -> Response:
    """Made outside of all that adds headers."""
    headers = {"x-request-id": visit_of(request.scope).request_id}
    return error_answer(request, 500, "this is a defect of ours; the page's log has it", headers=headers)
