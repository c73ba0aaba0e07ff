"""Who may do what at the MLflow server: a guard in front of its routes, for `mlflow server --app-name acis`.

Four identities, each with a password: `viewer` (people) and `reader` (roles that read) write nothing; `trainer` makes
experiments, runs, models, versions and tags, and may call a version the challenger; `registrar` also moves aliases
and stages and deletes. Whoever is none of them gets 401 on everything but /health. A route that stands in no table
below is refused to everybody, so that a new one of MLflow's is closed until somebody has read what it does
(docs/decisions/0049). Loaded by the MLflow server alone.

As a program it is `mlflow …` as the command does it, but for `mlflow server`, which serves in this process. The command
starts uvicorn as a child, which imports all of MLflow a second time: twice the time until the first answer, and 300 MB
for a parent that only waits. `make run` starts this module, and the image has it as its `mlflow`.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, NoReturn

from config.roles import MLFLOW_PASSWORD_VARIABLES, MlflowIdentity
from devstack.mlflow_artifacts import ensure_artifacts, name_failures

MIN_PASSWORD = 16
"""Characters. One SHA-256 stands between a password and whoever guesses: it must be random, `openssl rand -hex 24`."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("uvicorn.refused")

# ---- Routes, as `METHOD path`; a path below /api/2.0/mlflow, /ajax-api/3.0/mlflow and the like begins with `mlflow/`.

_OPEN = re.compile(r"(GET|HEAD) /health")

_READ = re.compile(
    r"""
    (GET|HEAD)\ (?:
        / | /version | /static-files/.+ | /graphql | /get-artifact | /model-versions/get-artifact
        | mlflow/(?:
            artifacts/list | experiments/(?:get|get-by-name|search) | server-info | ui-telemetry
            | logged-models/[^/]+(?:/artifacts/(?:directories|files))?
            | metrics/get-history(?:-bulk)?(?:-interval)?
            | model-versions/(?:get|get-download-uri|search)
            | registered-models/(?:alias|get|get-latest-versions|search)
            | runs/get | traces/[^/]+/info | traces/(?:get|batchGet) | datasets/search | scorers/list
        )
        | mlflow-artifacts/artifacts(?:/.+)? | mlflow-artifacts/presigned/.+
    )
    | POST\ (?:
        /graphql  # its mutations search, too
        | mlflow/(?:
            experiments/(?:search|search-datasets) | logged-models/search | registered-models/get-latest-versions
            | runs/search | artifacts/presigned-download-url | datasets/search
            | traces/(?:search|metrics|batchGetInfos)
        )
    )
    """,
    re.VERBOSE,
)

_TRAIN = re.compile(
    r"""
    POST\ mlflow/(?:
        experiments/(?:create|set-experiment-tag)
        | runs/(?:create|update|set-tag|log-batch|log-metric|log-parameter|log-inputs|log-model|outputs)
        | logged-models(?:/[^/]+/params)? | artifacts/presigned-upload-url
        | registered-models/create | model-versions/(?:create|set-tag)
    )
    | PATCH\ mlflow/(?: logged-models/[^/]+(?:/tags)? | registered-models/update )
    | PUT\ mlflow-artifacts/artifacts/.+
    | POST\ mlflow-artifacts/mpu/(?:create|complete|abort)/.+
    """,
    re.VERBOSE,
)

_REGISTER = re.compile(
    r"""
    POST\ mlflow/(?:
        registered-models/(?:alias|set-tag|rename) | model-versions/transition-stage
        | runs/(?:delete|restore|delete-tag) | experiments/(?:delete|restore|update|delete-experiment-tag)
    )
    | PATCH\ mlflow/model-versions/update
    | DELETE\ mlflow/(?:
        registered-models/(?:alias|delete|delete-tag) | model-versions/(?:delete|delete-tag)
        | logged-models/[^/]+(?:/tags/[^/]+)?
    )
    | DELETE\ mlflow-artifacts/artifacts/.+
    """,
    re.VERBOSE,
)

_ALLOWED: Mapping[MlflowIdentity, tuple[re.Pattern[str], ...]] = {
    "viewer": (_READ,),
    "reader": (_READ,),
    "trainer": (_READ, _TRAIN),
    "registrar": (_READ, _TRAIN, _REGISTER),
}

_CHALLENGER: Mapping[str, Mapping[str, type | str]] = {
    "POST mlflow/model-versions/transition-stage": {
        "name": str,
        "version": str,
        "stage": "Staging",
        "archive_existing_versions": bool,
    },
    "POST mlflow/registered-models/alias": {"name": str, "alias": "challenger", "version": str},
}
"""Bodies by which a trainer calls its version the challenger: fields with their type, or with the one value allowed."""
_MAX_BODY = 16 * 1024

_PREFIX = re.compile(r"/(?:ajax-)?api/[23]\.0/(?=mlflow)")


def _named(method: str, path: str) -> str:
    """The route as the tables have it."""
    return f"{method} {_PREFIX.sub('', path, count=1)}"


def may(identity: MlflowIdentity, method: str, path: str) -> bool:
    """Whether the identity may send this to the server, whatever the request's body."""
    return any(pattern.fullmatch(_named(method, path)) for pattern in _ALLOWED[identity])


# ---- The guard


class MlflowGuard:
    """An ASGI app that lets through what the identity of a request may ask of the app behind it.

    passwords : by identity; only their digests are kept
    """

    def __init__(self, app: App, passwords: Mapping[MlflowIdentity, str]) -> None:
        self._app = app
        self._digests = {identity: _digest(password) for identity, password in passwords.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 401 or 403."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # MLflow has no WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        method, path = scope["method"], scope["path"]
        if _OPEN.fullmatch(f"{method} {path}"):
            await self._app(scope, receive, send)
            return
        identity = self._identity(scope)
        if identity is None:
            await _refuse(scope, send, HTTPStatus.UNAUTHORIZED, "nobody that is known here")
        elif may(identity, method, path):
            await self._app(scope, receive, send)
        elif (body := await _challenger(identity, scope, receive)) is not None:
            await self._app(_with_length(scope, body), _giving(body), send)
        else:
            await _refuse(scope, send, HTTPStatus.FORBIDDEN, identity)

    def _identity(self, scope: Scope) -> MlflowIdentity | None:
        name, password = _credentials(scope)
        given = _digest(password)
        found: MlflowIdentity | None = None
        for identity, digest in self._digests.items():
            # Both comparisons always, so that the time tells neither name nor password.
            if hmac.compare_digest(given, digest) & hmac.compare_digest(name.encode(), identity.encode()):
                found = identity
        return found


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()


def _credentials(scope: Scope) -> tuple[str, str]:
    """Name and password of the request's basic authentication; empty where it has none, or more than one."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return "", ""
    kind, _, coded = given[0].partition(b" ")
    if kind.lower() != b"basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(coded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password


async def _challenger(identity: MlflowIdentity, scope: Scope, receive: Receive) -> bytes | None:
    """The body by which a trainer calls a version the challenger, written anew; None for everything else.

    What goes on is what was checked: no field twice, under another spelling, or in the query.
    """
    rules = _CHALLENGER.get(_named(scope["method"], scope["path"])) if identity == "trainer" else None
    if rules is None or scope["query_string"]:
        return None
    try:
        found = json.loads(await _content(receive))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not found.keys() <= rules.keys():
        return None
    fits = all(
        isinstance(found.get(name), rule) or (rule is bool and name not in found)
        if isinstance(rule, type)
        else found.get(name) == rule
        for name, rule in rules.items()
    )
    return json.dumps(found).encode() if fits else None


async def _content(receive: Receive) -> bytes:
    """The request's body; empty where it is too large for what it is about."""
    body = b""
    while len(body) <= _MAX_BODY:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body
    return b""


def _with_length(scope: Scope, body: bytes) -> Scope:
    dropped = (b"content-length", b"transfer-encoding", b"content-type", b"content-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
    length = str(len(body)).encode()
    return {**scope, "headers": [*headers, (b"content-type", b"application/json"), (b"content-length", length)]}


def _giving(body: bytes) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


async def _refuse(scope: Scope, send: Send, status: HTTPStatus, who: str) -> None:
    asked = f"{scope['method']} {scope['path'][:200]}"
    # What was typed as a name may be a password, so it is not written.
    log.warning("refused %d: %r by %s from %s", status, asked, who, (scope.get("client") or ("?",))[0])
    is_unknown = status == HTTPStatus.UNAUTHORIZED
    words = (
        f"{asked}: name and password are missing or wrong; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        if is_unknown
        else f"{asked}: {who} may not do this"
    )
    code = "UNAUTHENTICATED" if is_unknown else "PERMISSION_DENIED"
    body = json.dumps({"error_code": code, "message": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if is_unknown:
        headers.append((b"www-authenticate", b'Basic realm="MLflow", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


# ---- The server


def create_app() -> App:
    """MLflow's own app behind the guard.

    Raises SystemExit, in words, for a password that is missing or no secret, and where artifacts cannot be kept.
    """
    passwords = read_passwords(os.environ)
    # boto3's own is 5 tries of 60 s each, while MLflow's clients ask again after 30 s.
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")
    from mlflow.server import ARTIFACTS_DESTINATION_ENV_VAR  # noqa: PLC0415 -- takes seconds, and reads the environment
    from mlflow.server import app as flask  # noqa: PLC0415
    from mlflow.server.fastapi_app import app  # noqa: PLC0415
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

    destination = os.environ[ARTIFACTS_DESTINATION_ENV_VAR]
    ensure_artifacts(destination, get_artifact_repository)
    name_failures(app, flask, destination)
    return MlflowGuard(app, passwords)


def read_passwords(environ: Mapping[str, str]) -> dict[MlflowIdentity, str]:
    """Passwords by identity. Raises SystemExit where one is missing, too short, or given to two."""
    found = {identity: environ.get(variable, "") for identity, variable in MLFLOW_PASSWORD_VARIABLES.items()}
    short = [
        MLFLOW_PASSWORD_VARIABLES[identity] for identity, password in found.items() if len(password) < MIN_PASSWORD
    ]
    if short:
        raise SystemExit(
            f"MLflow is not started: {', '.join(short)} must be at least {MIN_PASSWORD} random characters; "
            "make each with `openssl rand -hex 24`"
        )
    if len(set(found.values())) < len(found):
        raise SystemExit(f"MLflow is not started: two of {', '.join(MLFLOW_PASSWORD_VARIABLES.values())} are the same")
    return found


# ---- `mlflow …`, whose server is this process

_READ_WITH_THE_SERVER = {
    "--allowed-hosts": "MLFLOW_SERVER_ALLOWED_HOSTS",
    "--cors-allowed-origins": "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "--x-frame-options": "MLFLOW_SERVER_X_FRAME_OPTIONS",
}
"""Options that `mlflow.server` reads from the environment while it is imported: here before the command sets them."""


def main(arguments: Sequence[str]) -> None:
    """Run the command; where it is a server of one worker, do not return before that ends."""
    if arguments[:1] == ["server"] and _is_of_one_process(arguments):
        import uvicorn  # noqa: F401, PLC0415 -- by whose presence `mlflow.server` knows that it serves
        from mlflow import server  # noqa: PLC0415 -- takes seconds

        server._exec_cmd = serve  # noqa: SLF001 -- the one place where it starts the child
        # uvicorn raises the signal again that ended it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
    from mlflow import cli  # noqa: PLC0415

    cli.cli([*arguments])


def _is_of_one_process(arguments: Sequence[str]) -> bool:
    """Whether the server is uvicorn with one worker; the environment then has what it reads early."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--workers", "--gunicorn-opts", "--waitress-opts", *_READ_WITH_THE_SERVER):
        parser.add_argument(option)
    given = {f"--{name.replace('_', '-')}": one for name, one in vars(parser.parse_known_args(arguments)[0]).items()}
    os.environ.update({name: given[option] for option, name in _READ_WITH_THE_SERVER.items() if given[option]})
    return given["--workers"] == "1" and not given["--gunicorn-opts"] and not given["--waitress-opts"]


def serve(command: Sequence[str], *, extra_env: Mapping[str, str], **_: Any) -> NoReturn:  # noqa: ANN401
    """Do here what `PYTHON -m uvicorn OPTIONS APP` would do in a child, and exit as it would."""
    from uvicorn.main import main as uvicorn_command  # noqa: PLC0415

    os.environ.update(extra_env)
    uvicorn_command([*command[3:]])
    raise SystemExit


if __name__ == "__main__":
    main(sys.argv[1:])
