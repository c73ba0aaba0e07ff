"""What may be asked: OpenAPI of the page, which publishes none, and of the prediction service; and who may ask it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import unquote

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import Mount, compile_path

from admin.app import create_app
from config.settings import Settings
from mlops.bootstrap import Services

Least = Literal["nobody", "viewer", "person", "operator", "operator in person"]

LEAST: dict[str, Least] = {
    "GET /": "nobody",
    "GET /favicon.ico": "nobody",
    "GET /healthz": "nobody",
    "GET /admin/sign-in": "nobody",
    "POST /admin/sign-in": "nobody",
    "GET /admin/static": "nobody",
    "POST /admin/sign-out": "viewer",
    "GET /admin/account": "viewer",
    "POST /admin/account/password": "person",
    "POST /admin/account/sessions/{digest}/end": "person",
    "POST /admin/account/sign-out-everywhere": "person",
    "POST /admin/account/tokens": "person",
    "POST /admin/account/tokens/{token_id}/revoke": "person",
    "GET /admin/users": "operator",
    "POST /admin/users": "operator in person",
    "POST /admin/users/{name}/role": "operator in person",
    "POST /admin/users/{name}/disable": "operator in person",
    "POST /admin/users/{name}/enable": "operator in person",
    "POST /admin/users/{name}/password": "operator in person",
    "POST /admin/users/{name}/unlock": "operator in person",
    "POST /admin/users/tokens/{token_id}/revoke": "operator in person",
    "GET /admin/": "viewer",
    "GET /admin/audit": "viewer",
    "GET /admin/events": "viewer",
    "GET /admin/workers": "viewer",
    "GET /admin/mlflow": "viewer",
    "GET /admin/registry": "viewer",
    "GET /admin/registry/history": "viewer",
    "GET /admin/registry/models/{strategy}": "viewer",
    "GET /admin/registry/models/{strategy}/compare": "viewer",
    "POST /admin/registry/models/{strategy}/compare": "operator",
    "POST /admin/registry/models/{strategy}/promote": "operator",
    "POST /admin/registry/models/{strategy}/rollback": "operator",
    "POST /admin/registry/models/{strategy}/answer": "operator",
    "GET /admin/drift": "viewer",
    "POST /admin/drift/check": "operator",
    "GET /admin/drift/checks": "viewer",
    "GET /admin/drift/heatmap": "viewer",
    "GET /admin/drift/strategies/{name}": "viewer",
    "GET /admin/drift/strategies/{name}/preview": "viewer",
    "POST /admin/drift/strategies/{name}/policy": "operator",
    "POST /admin/drift/strategies/{name}/take-back": "operator",
    "GET /admin/drift/reports": "viewer",
    "GET /admin/drift/reports/{run_id}": "viewer",
    "GET /admin/drift/reports/{run_id}/page": "viewer",
    "GET /admin/live": "viewer",
    "GET /admin/live/{strategy}": "viewer",
    "POST /admin/live/{strategy}/predict": "operator",
    "POST /admin/live/{strategy}/score": "operator",
    "GET /admin/experiments": "viewer",
    "GET /admin/experiments/{strategy}": "viewer",
    "GET /admin/experiments/{strategy}/route": "viewer",
    "GET /admin/experiments/{strategy}/preview": "operator",
    "POST /admin/experiments/{strategy}/start": "operator",
    "POST /admin/experiments/{strategy}/{experiment_id}/{act}": "operator",
    "GET /admin/runs": "viewer",
    "GET /admin/runs/{run_id}": "viewer",
    "POST /admin/runs/{run_id}/cancel": "operator",
    "POST /admin/runs/{run_id}/requeue": "operator",
    "POST /admin/runs/{run_id}/again": "operator",
    "GET /admin/schedule": "viewer",
    "GET /admin/schedule/{strategy}/{word}": "viewer",
    "GET /admin/schedule/{strategy}/{word}/preview": "viewer",
    "POST /admin/schedule/{strategy}/{word}/pause": "operator",
    "POST /admin/schedule/{strategy}/{word}/resume": "operator",
    "POST /admin/schedule/{strategy}/{word}/run": "operator",
    "POST /admin/schedule/{strategy}/{word}/edit": "operator",
    "POST /admin/schedule/{strategy}/{word}/take-back": "operator",
    "GET /admin/strategies/question": "viewer",
    "POST /admin/strategies": "operator",
    "GET /admin/strategies/{strategy}": "viewer",
    "GET /admin/training": "viewer",
    "GET /admin/training/estimate": "viewer",
    "POST /admin/training": "operator",
    "GET /admin/training/started": "viewer",
    "POST /admin/training/started/cancel": "operator",
}
"""Each route of the page with the least role that may call it, written down here and not read from the code.

A token, whatever its owner may, does nothing that needs somebody in person; a viewer's writes nothing.
"""

ROUTES = create_app(Services(Settings())).routes
STREAM = "/admin/events"
"""Does not end."""


def route_names() -> Iterator[str]:
    """`METHOD /path` of each route that the page has, as LEAST names it."""
    for route in ROUTES:
        assert isinstance(route, APIRoute | Mount), f"{route} is no route whose role could be known"
        methods = (route.methods or set()) - {"HEAD"} if isinstance(route, APIRoute) else {"GET"}
        yield from (f"{method} {route.path}" for method in sorted(methods))


_PATTERNS = {name: compile_path(name.partition(" ")[2])[0] for name in route_names() if not name.endswith("static")}


def route_of(method: str, path: str) -> str | None:
    """The route that answers an address, by its name in LEAST; None where there is none."""
    wanted, found = "GET" if method == "HEAD" else method, unquote(path.partition("?")[0])
    return next((name for name, one in _PATTERNS.items() if name.startswith(f"{wanted} ") and one.match(found)), None)


def may(role: str, least: Least, method: str) -> bool:
    """Whether somebody of that role may call a route."""
    allowed: dict[str, set[Least]] = {
        "nobody": {"nobody"},
        "viewer": {"nobody", "viewer", "person"},
        "token": {"nobody", "viewer"},
        "program": {"nobody", "viewer", "operator"},
        "operator": {"nobody", "viewer", "person", "operator", "operator in person"},
    }
    is_read = method in {"GET", "HEAD"}
    return least in allowed[role] and (role != "token" or least == "nobody" or is_read)


def page_description() -> dict[str, Any]:
    """OpenAPI of the page, from its routes."""
    found = [route for route in create_app(Services(Settings())).routes if isinstance(route, APIRoute)]
    for route in found:
        route.include_in_schema = True
        route.methods -= {"HEAD"}
    return get_openapi(title="page", version="1", routes=found)


_NUMBERS = {"type": "array", "items": {"type": ["number", "null"]}, "maxItems": 20}
SERVICE: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "prediction service", "version": "1"},
    "paths": {
        "/healthz": {"get": {"responses": {"200": {"description": "it lives"}}}},
        "/readyz": {"get": {"responses": {"200": {"description": "it can answer"}}}},
        "/api/v1/models": {"get": {"responses": {"200": {"description": "what answers"}}}},
        "/api/v1/models/{strategy}/route": {
            "get": {
                "parameters": [
                    {"name": "strategy", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "key", "in": "query", "schema": {"type": "string", "minLength": 1, "maxLength": 255}},
                ],
                "responses": {"200": {"description": "which version answers the key, and why"}},
            }
        },
        "/api/v1/predict/{strategy}": {
            "post": {
                "parameters": [{"name": "strategy", "in": "path", "required": True, "schema": {"type": "string"}}],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["rows"],
                                "additionalProperties": False,
                                "properties": {
                                    "rows": {
                                        "anyOf": [
                                            {
                                                "type": "array",
                                                "maxItems": 20,
                                                "items": {
                                                    "type": "object",
                                                    "properties": {
                                                        name: {"type": ["number", "null"]}
                                                        for name in ("momentum", "value", "noise")
                                                    },
                                                },
                                            },
                                            {
                                                "type": "object",
                                                "properties": dict.fromkeys(("momentum", "value", "noise"), _NUMBERS),
                                            },
                                        ]
                                    },
                                    "tickers": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
                                    "keys": {"type": "array", "items": {"type": ["string", "null"]}, "maxItems": 20},
                                    "as_of": {
                                        "anyOf": [
                                            {"type": "string", "format": "date"},
                                            {"type": "array", "items": {"type": "string", "format": "date"}},
                                        ]
                                    },
                                },
                            }
                        }
                    },
                },
                "responses": {"200": {"description": "probabilities"}},
            }
        },
    },
}
"""The prediction service's own description, as docs/serving.md has it in words."""
