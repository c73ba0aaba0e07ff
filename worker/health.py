"""Liveness and readiness of a role, as files that it touches: a probe costs one `stat`.

    python -m worker.health ROLE            alive: its main loop turned lately, or it waits for a broker that is away
    python -m worker.health ROLE --ready    and it has come up: its pool serves, its first tick or pass is done
    python -m worker.health --own           alive, whichever role this container was started as

The probes of Compose, Kubernetes and of the image itself. Roles that answer by HTTP (flower, admin, serve), and MLflow,
are asked for their health page instead. No probe fails because Redis is down: restarting a worker mends no Redis, and
would end a training that needs none.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from config.role_files import health_file, is_alive, ready_file, touch
from config.secret_files import read_secret_files

__all__ = ["broker_answers", "health_file", "is_alive", "main", "own_name", "ready_file", "touch"]

#: Workers touch their file every 2 s, beat every 5 s, the reconciler after each pass of 30 s, which a dead
#: MLflow can hold up for two minutes.
WITHIN_S = 180.0


PAGES = {
    "flower": ("ACIS_FLOWER_PORT", 5555, "/healthcheck"),
    "admin": ("ACIS_ADMIN_PORT", 3000, "/healthz"),
    "serve": ("ACIS_SERVE_PORT", 8080, "/readyz"),
    "mlflow": ("", 5000, "/health"),  # Kubernetes sets a MLFLOW_PORT of its own, which is no number
}
"""Who is asked by HTTP: the variable of its port, the port where that is unset, and the page that says 200."""


def own_name(role: str) -> str:
    """Of this process: its role, or role and name where `python -m worker` was given one."""
    return os.environ.get("WORKER_NAME") or role


def broker_answers(url: str, *, timeout_s: float = 3.0) -> bool:
    """A Redis answers where the broker should be; of one behind TLS, whether somebody listens.

    An open port is not enough: a load balancer before a dead Redis has one.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "localhost", parts.port or 6379
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            if parts.scheme == "rediss":
                return True
            # Any answer will do: one that asks for a password is an answer.
            connection.sendall(b"PING\r\n")
            return bool(connection.recv(1))
    except (OSError, ValueError):  # a port that is no number
        return False


def page_answers(role: str, *, timeout_s: float = 5.0) -> bool:
    """The role's health page says 200, on this host."""
    variable, port, path = PAGES[role]
    try:
        connection = HTTPConnection("127.0.0.1", int(os.environ.get(variable) or port), timeout=timeout_s)
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, ValueError, HTTPException):
        return False


def role_of(command: list[str]) -> str | None:
    """Role of a container by its first process's command; None: it runs no role, as `acis migrate` does.

    >>> role_of("dumb-init --single-child -- python -m worker drift".split())
    'drift'
    >>> role_of("python -m config.secret_files mlflow server --port=5000".split())
    'mlflow'
    """
    following = dict(pairwise(command))
    return following.get("worker") or ("mlflow" if following.get("mlflow") == "server" else None)


def main(arguments: list[str]) -> int:
    """0: alive (and ready), or waiting for the broker. 1: it is not. 2: wrong use."""
    if arguments == ["--own"]:
        own = role_of(Path("/proc/1/cmdline").read_text(encoding="utf-8").split("\0"))
        return main([own]) if own else 0
    role, *options = arguments or [""]
    if not role or role.startswith("-") or options not in ([], ["--ready"]):
        sys.stderr.write("usage: python -m worker.health ROLE [--ready], or --own\n")
        return 2
    fault = _page_fault(role) if role in PAGES else _files_fault(role, is_readiness_asked=bool(options))
    if fault:
        sys.stderr.write(f"{role}: {fault}\n")
    return 1 if fault else 0


def _page_fault(role: str) -> str:
    return "" if page_answers(role) else f"{PAGES[role][2]} does not say 200; it starts, or it does not answer"


def _files_fault(role: str, *, is_readiness_asked: bool) -> str:
    # Not by load_settings(): its imports take ten times as long as the probe.
    var_dir = Path(os.environ.get("ACIS_VAR_DIR") or Path(__file__).resolve().parents[1] / "var")
    if is_readiness_asked and not ready_file(var_dir, role).exists():
        return "not ready; it starts, or it was asked to end"
    path = health_file(var_dir, role)
    if is_alive(path, within_s=WITHIN_S):
        return ""
    with contextlib.suppress(ValueError):  # the role itself says that its secrets cannot be read
        read_secret_files(os.environ)
    broker = os.environ.get("CELERY_BROKER_URL", "")
    if broker and not broker_answers(broker):
        return ""
    return f"{path} was not touched for {WITHIN_S:.0f} s; the role hangs or has not started"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
