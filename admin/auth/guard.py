"""What every route asks before it is called: who, in which role, and whether the form is really ours."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from admin.auth.principal import Person, address_of, who_asks
from admin.responses import Forbidden
from mlops.domain.errors import LedgerUnavailable
from mlops.ledger.accounts import Role

CSRF_FIELD = "csrf"
_CSRF_HEADER = "x-csrf-token"
_SAFE = frozenset({"GET", "HEAD"})
_OF_PEOPLE = ("account.", "user.")
"""How the actions begin that a token may not do, whoever it is of: one that leaked must not make itself permanent."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The dependency of a route that needs somebody."""

    role: Role
    action: str

    async def __call__(self, request: Request, person: Annotated[Person, Depends(who_asks)]) -> None:
        """Raises NotSignedIn (by `who_asks`), Forbidden. What is refused is on record."""
        try:
            self._refuse_role(request, person)
            if request.method not in _SAFE and person.session is not None:
                _refuse_other_origin(request)
                await _refuse_other_form(request, person)
        except Forbidden as exc:
            await run_in_threadpool(_audit, request, person.actor, self.action, str(exc))
            raise

    def _refuse_role(self, request: Request, person: Person) -> None:
        if self.role == "operator" and not person.is_operator:
            raise Forbidden(f"{person.actor} is a viewer and may read; {self.action} needs an operator")
        if person.token is None or request.method in _SAFE:
            return
        if self.action.startswith(_OF_PEOPLE):
            raise Forbidden("a token manages no users, passwords, sessions or tokens; sign in")
        if person.token.role == "viewer":
            raise Forbidden(f"{person.actor} is a viewer's token, which only reads")


@dataclass(frozen=True, kw_only=True)
class Open:
    """The dependency of a route that anybody may call: the few before the sign-in."""

    action: str

    async def __call__(self, request: Request) -> None:
        """Raises Forbidden for a form of another site."""
        if request.method not in _SAFE:
            try:
                _refuse_other_origin(request)
            except Forbidden as exc:
                await run_in_threadpool(_audit, request, "nobody", self.action, str(exc))
                raise


def _audit(request: Request, actor: str, action: str, refusal: str) -> None:
    """Put a refusal on record; one that cannot be is refused all the same."""
    try:
        request.app.state.services.ledger.audit(
            actor, action, request.url.path, address=address_of(request), refused=refusal
        )
    except LedgerUnavailable as exc:
        log.warning("refusal.not_audited", actor=actor, action=action, refused=refusal, error=str(exc))


def _refuse_other_origin(request: Request) -> None:
    """A browser says where a form comes from; what it says must be this page."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Forbidden("the request comes from another site")
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden(f"the request comes from {origin}, which is another site")


async def _refuse_other_form(request: Request, person: Person) -> None:
    given = request.headers.get(_CSRF_HEADER)
    if given is None:
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else ""
    if not hmac.compare_digest(given.encode(), person.csrf.encode()):
        raise Forbidden("the form is not of this session, or too old; open the page again and repeat it")
