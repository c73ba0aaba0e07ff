"""What every route asks before it is called: who, in which role, and whether the form is really ours."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.requests import Request

from admin.auth.principal import Person, address_of, who_asks
from admin.responses import Forbidden
from mlops.ledger.people.accounts import Role

if TYPE_CHECKING:
    from admin.auth.refusals import RefusalRecord

CSRF_FIELD = "csrf"
_CSRF_HEADER = "x-csrf-token"
_SAFE = frozenset({"GET", "HEAD"})
_LONGEST_SHOWN = 100
NOBODY = "nobody"
"""Who is not signed in, as the audit has them."""
_OF_PEOPLE = ("account.", "user.")
"""How the actions begin that a token may not do, whoever it is of: one that leaked must not make itself permanent."""


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
            await note_refusal(request, person.actor, self.action, str(exc))
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
                await note_refusal(request, NOBODY, self.action, str(exc))
                raise


async def note_refusal(request: Request, actor: str, action: str, refused: str, *, subject: str | None = None) -> None:
    """Put a refusal on record."""
    shown = request.url.path if subject is None else subject
    record: RefusalRecord = request.app.state.refusals
    await record.note_soon(actor, action, shown, address=address_of(request), refused=refused)


def _refuse_other_origin(request: Request) -> None:
    """A browser says where a form comes from; what it says must be this page."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Forbidden("the request comes from another site")
    origin = request.headers.get("origin")
    if origin and _host_of(origin) != request.headers.get("host"):
        shown = origin if len(origin) <= _LONGEST_SHOWN else f"{origin[:_LONGEST_SHOWN]}…"
        raise Forbidden(f"the request comes from {shown}, which is another site")


def _host_of(origin: str) -> str | None:
    """Host and port of an origin; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


async def _refuse_other_form(request: Request, person: Person) -> None:
    given = request.headers.get(_CSRF_HEADER)
    if given is None:
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else ""
    if not hmac.compare_digest(given.encode(), person.csrf.encode()):
        raise Forbidden("the form is not of this session, or too old; open the page again and repeat it")
