"""The one way in which a route is declared: with the role that it needs and the name of what it does.

    pages = Pages()

    @pages.get("/runs", action="runs.read")                      # a viewer may
    def runs(context: Context, strategy: str = "") -> Response: ...

    @pages.post("/runs/{run_id}/cancel", action="run.cancel")    # an operator, with the form's token; audited
    def cancel(context: Context, run_id: str) -> Response: ...

`create_app` refuses to start with a route that was declared in another way.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount

from admin.auth.guard import Guard, Open
from admin.navigation import PREFIX
from admin.request_context import RequestContext
from admin.responses import Refusal
from mlops.domain.errors import AcisError
from mlops.ledger.people.accounts import Role

Handler = Callable[..., Response]
OpenHandler = Callable[..., Response | Awaitable[Response]]
AnyHandler = TypeVar("AnyHandler", bound=OpenHandler)

OPEN_ACTIONS = frozenset({"root.read", "health.read", "icon.read", "sign_in.read", "sign_in"})
"""What needs no sign-in; nothing else may be declared open."""
STATIC = f"{PREFIX}/static"


class UnguardedRoute(RuntimeError):
    """A route that does not say who may call it."""


class Pages:
    """Routes of one module."""

    def __init__(self) -> None:
        self._declared: list[tuple[str, OpenHandler, str, Guard | Open]] = []

    def add_to(self, app: FastAPI) -> None:
        """One by one, and not as a router: what the application holds can then be walked."""
        for path, handler, method, guard in self._declared:
            app.add_api_route(
                path,
                handler,
                methods=[method, "HEAD"] if method == "GET" else [method],
                dependencies=[Depends(guard)],
                response_model=None,
                include_in_schema=False,
            )

    def get(self, path: str, *, action: str, role: Role = "viewer") -> Callable[[Handler], Handler]:
        """A page, or a part of one."""

        def declare(handler: Handler) -> Handler:
            self._add(PREFIX + path, handler, "GET", Guard(role=role, action=action))
            return handler

        return declare

    def post(self, path: str, *, action: str, role: Role = "operator") -> Callable[[Handler], Handler]:
        """Something that is done. Audited with the path's values as its subject, also where it is refused."""

        def declare(handler: Handler) -> Handler:
            self._add(PREFIX + path, _audited(handler, action), "POST", Guard(role=role, action=action))
            return handler

        return declare

    def open(self, path: str, *, action: str, method: str = "GET") -> Callable[[AnyHandler], AnyHandler]:
        """For everybody, and not below the prefix; one of OPEN_ACTIONS."""
        if action not in OPEN_ACTIONS:
            raise UnguardedRoute(f"{action} may not be open; OPEN_ACTIONS has what is")

        def declare(handler: AnyHandler) -> AnyHandler:
            self._add(path, handler, method, Open(action=action))
            return handler

        return declare

    def _add(self, path: str, handler: OpenHandler, method: str, guard: Guard | Open) -> None:
        self._declared.append((path, handler, method, guard))


def _guard_of(route: BaseRoute) -> Guard | Open | None:
    """The guard that a route was declared with."""
    if not isinstance(route, APIRoute):
        return None
    found = [one.dependency for one in route.dependencies if isinstance(one.dependency, Guard | Open)]
    return found[0] if len(found) == 1 else None


def guarded_routes(app: FastAPI) -> Iterator[tuple[APIRoute, Guard | Open]]:
    """Every route with its guard. Raises UnguardedRoute; only the folder of files needs none."""
    for route in app.routes:
        if isinstance(route, Mount) and route.path == STATIC:
            continue
        guard = _guard_of(route)
        if guard is None or not isinstance(route, APIRoute):
            raise UnguardedRoute(f"{getattr(route, 'path', route)} says nobody who may call it; declare it with Pages")
        if isinstance(guard, Open) and guard.action not in OPEN_ACTIONS:
            raise UnguardedRoute(f"{route.path} may not be open to everybody")
        yield route, guard


def _audited(handler: Handler, action: str) -> Handler:
    if "context" not in inspect.signature(handler).parameters:
        raise TypeError(f"{handler.__name__} must take `context: Context`: what it does is audited")

    @wraps(handler)
    def act(**values: Any) -> Response:  # noqa: ANN401 -- what FastAPI found in the request
        context: RequestContext = values["context"]
        try:
            answer = handler(**values)
        except (AcisError, Refusal) as exc:
            context.audit(action, refused=str(exc))
            raise
        context.audit(action)
        return answer

    return act
