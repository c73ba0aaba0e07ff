"""One request, as a route's function sees it: who asks, the services, and ways to answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from admin import responses as answers
from admin.auth.principal import Person, who_asks

if TYPE_CHECKING:
    from admin.auth.refusals import RefusalRecord
    from admin.auth.sign_in import PasswordCheck
    from admin.events import EventStreams
    from admin.registry_view import RegistryView
    from mlops.bootstrap import Services
    from mlops.ledger.ledger import SqlLedger
    from tasks.broker import BrokerView

_EMBEDDED_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "sandbox allow-scripts; frame-ancestors 'self'"
)
"""Of a document that is shown in a frame: it has an origin of its own and reaches nothing of ours."""


class RequestContext:
    """Made anew for every request."""

    def __init__(self, request: Request, person: Person) -> None:
        self.request = request
        self.person = person
        self.services: Services = request.app.state.services
        self.events: EventStreams = request.app.state.events
        self.registry_view: RegistryView = request.app.state.registry_view
        self.refusals: RefusalRecord = request.app.state.refusals
        self.passwords: PasswordCheck = request.app.state.passwords
        self.look_at_broker: Callable[[], BrokerView] = request.app.state.look_at_broker
        self._subject = "/".join(str(value) for value in request.path_params.values())
        self._detail: dict[str, object] = {}

    @property
    def ledger(self) -> SqlLedger:
        """The ledger."""
        return self.services.ledger

    @cached_property
    def now(self) -> datetime:
        """The ledger's clock, which wrote the times that ages are counted from."""
        return self.ledger.now()

    def tags_of(self, strategy: str) -> tuple[str, ...]:
        """Of the strategies file; none for a strategy that it has no more."""
        return self.services.strategies[strategy].tags if strategy in self.services.strategies else ()

    def has_tag(self, strategy: str, tag: str) -> bool:
        """Whether a list that is filtered by the tag has the strategy; by none it has all."""
        return not tag or tag in self.tags_of(strategy)

    def found_by(self, strategy: str) -> str:
        """The text in which a list's search looks for its words: name and tags."""
        return " ".join((strategy, *self.tags_of(strategy)))

    # ---- what was done

    def note(self, *, subject: str = "", **detail: object) -> None:
        """What the audit's line says beside actor, action and path: the subject, and values worth keeping."""
        self._subject = subject or self._subject
        self._detail |= detail

    def audit(self, action: str, **detail: object) -> None:
        """The line itself; `Pages.post` calls it. With `refused`, the same again is counted in one line."""
        told = {**self._detail, **detail}
        write = self.refusals.note if "refused" in detail else self.ledger.audit
        write(self.person.actor, action, self._subject, address=self.person.address, **told)

    # ---- answers

    @property
    def wants_json(self) -> bool:
        """A program asks: it says so, and gets the values of a page in place of the page."""
        return answers.wants_json(self.request)

    @property
    def is_fragment(self) -> bool:
        """HTMX asks for a part of a page that is there already."""
        return self.request.headers.get("hx-request") == "true"

    def show(self, template: str, *, status: int = 200, title: str = "", **values: Any) -> Response:  # noqa: ANN401 -- what the template shows
        """A page, or its values where a program asks. Where HTMX asks, the template's block `main` alone."""
        if self.wants_json:
            return JSONResponse(answers.plain(values), status_code=status)
        block = "main" if self.is_fragment else None
        if block:
            return HTMLResponse(
                answers.rendered(self.request, template, self._shown(title, values), block=block), status_code=status
            )
        return answers.page(self.request, template, self._shown(title, values), status=status)

    def part(self, template: str, **values: Any) -> Response:  # noqa: ANN401 -- what the template shows
        """A template that is no whole page, for HTMX or a dialog; its values where a program asks."""
        if self.wants_json:
            return JSONResponse(answers.plain(values))
        return HTMLResponse(answers.rendered(self.request, template, self._shown("", values)))

    def done(self, words: str, *, to: str, **values: Any) -> Response:  # noqa: ANN401 -- for programs
        """An action is done: the page at `to` says the words. A program gets them with the values."""
        if self.wants_json:
            return JSONResponse({"done": words, "at": to, **answers.plain(values)})
        if self.is_fragment:
            response: Response = Response(status_code=204, headers={"HX-Redirect": to})
        else:
            response = RedirectResponse(to, status_code=303)
        if words:
            answers.say_next(self.request, response, words)
        return response

    def embedded(self, html: str) -> Response:
        """A whole document for a frame, e.g. a drift report: it may run its own script and reach nothing else."""
        return HTMLResponse(
            html, headers={"content-security-policy": _EMBEDDED_POLICY, "x-frame-options": "SAMEORIGIN"}
        )

    def here(self, **changes: object) -> str:
        """The page's own address with other values in its query; None or "" takes one out."""
        query: dict[str, object] = {**self.request.query_params, **changes}
        kept = {key: value for key, value in query.items() if value not in (None, "")}
        return f"{self.request.url.path}?{urlencode(kept)}" if kept else self.request.url.path

    def _shown(self, title: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"context": self, "person": self.person, "title": title, "now": self.now, "here": self.here, **values}


def _visit(request: Request, person: Annotated[Person, Depends(who_asks)]) -> RequestContext:
    return RequestContext(request, person)


Context = Annotated[RequestContext, Depends(_visit)]
"""`def page(context: Context) -> Response`"""
