"""The MLflow server as a program; the library itself is not imported here."""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from config.roles import ACCESS, MLFLOW_PASSWORD_VARIABLES
from devstack.ports import LOOPBACK
from devstack.process import Program
from mlops.addresses import MLFLOW_VIEW, credentials_of, without_credentials

VERSION_SOURCES = "^(models|runs|mlflow-artifacts):/(?!/)"
"""Places that a version may name, to the server: its own. The library would send a reader's password to others."""


def mlflow_program(
    *, port: int, backend_url: str, artifact_root: str, cwd: Path, passwords: Mapping[str, str]
) -> Program:
    """MLflow with one worker, behind our guard, serving artifacts itself: clients need no access to their place.

    passwords : by identity (`mlflow_access`)    artifact_root : a folder, or a URL such as `s3://bucket/prefix`
    """
    return Program(
        name="mlflow",
        command=(
            *(sys.executable, "-m", "devstack.mlflow_access", "server"),
            *("--app-name", "acis", "--host", LOOPBACK, "--port", str(port)),
            *("--artifacts-destination", artifact_root),
            # Two workers and more cost 44 ms on every request and 600 MB each.
            *("--workers", "1"),
        ),
        environment={
            "MLFLOW_BACKEND_STORE_URI": backend_url,  # holds the password, so not an argument
            **{variable: passwords[identity] for identity, variable in MLFLOW_PASSWORD_VARIABLES.items()},
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 437 MB instead of 2.4 GB
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": VERSION_SOURCES,
            # A proxy of the user's shell must not come between us and our own server.
            "NO_PROXY": _with_loopback(os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""),
            # Else it looks for a repository to tag its own start with.
            "GIT_PYTHON_REFRESH": "quiet",
        },
        inherits=ACCESS["mlflow"].variables,
        cwd=cwd,
        settled_s=10,
    )


def _with_loopback(no_proxy: str) -> str:
    return ",".join(part for part in (no_proxy, LOOPBACK, "localhost") if part)


_SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def mlflow_url(port: int) -> str:
    """Tracking URI."""
    return f"http://{LOOPBACK}:{port}"


def page_answers(url: str, *, timeout_s: float = 1.0) -> bool:
    """GET of the URL gives 200; never through a proxy, since the server is our own."""
    return _content(url, timeout_s=timeout_s) is not None


def mlflow_answers(url: str, auth: str = "", *, timeout_s: float = 3.0) -> bool:
    """An MLflow answers, and its database behind it: not whoever says "OK" at that port.

    auth : `user:password`, where the URL does not hold them
    Whose MLflow it is, its pages do not tell: `ports.listens` tells it of a process of ours.
    """
    try:
        found = json.loads(_content(f"{url}{_SEARCH}", auth, timeout_s=timeout_s) or "")
    except ValueError:
        return False
    return isinstance(found, dict) and isinstance(found.get("experiments"), list)


def mlflow_refuses(url: str, auth: str = "", *, timeout_s: float = 3.0) -> bool:
    """Something answers at the URL, and not to this name and password."""
    status, _ = _answer(f"{url}{_SEARCH}", auth, timeout_s=timeout_s)
    return status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def experiment_page(url: str, experiment: str, auth: str = "") -> str:
    """Where a browser finds the experiment's runs; the server's first page while it has no such experiment."""
    asked = f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}"
    try:
        found = json.loads(_content(asked, auth, timeout_s=3.0) or "")
        return f"{url}/#/experiments/{found['experiment']['experiment_id']}/runs?{MLFLOW_VIEW}"
    except (ValueError, KeyError, TypeError):
        return url


def _content(url: str, auth: str = "", *, timeout_s: float) -> bytes | None:
    status, content = _answer(url, auth, timeout_s=timeout_s)
    return content if status == HTTPStatus.OK else None


def _answer(url: str, auth: str, *, timeout_s: float) -> tuple[int, bytes]:
    """Status and content; 0 where nothing answers."""
    auth = auth or credentials_of(url)
    coded = base64.b64encode(auth.encode()).decode()
    request = urllib.request.Request(  # noqa: S310 -- the scheme is our own, or that of the user's setting
        without_credentials(url), headers={"Authorization": f"Basic {coded}"} if auth else {}
    )
    # By the authority that the library's own variable names, where there is one.
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return response.status, bytes(response.read())
    except urllib.error.HTTPError as exc:
        return exc.code, b""
    except (OSError, HTTPException):
        return 0, b""
