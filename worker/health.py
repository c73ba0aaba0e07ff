"""Liveness and readiness of a role, as files that it touches: a probe costs one `stat`.

    python -m worker.health ROLE            alive: its main loop turned lately, or it waits for a broker that is away
    python -m worker.health ROLE --ready    and it has come up: its pool serves, its first tick or pass is done

The probes of Compose and Kubernetes. Neither fails because Redis is down: restarting a worker mends no Redis, and
would end a training that needs none.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from config.role_files import health_file, is_alive, ready_file, touch
from config.secret_files import read_secret_files

__all__ = ["broker_answers", "health_file", "is_alive", "main", "own_name", "ready_file", "touch"]

#: Workers touch their file every 2 s, beat every 5 s, the reconciler after each pass of 30 s, which a dead
#: MLflow can hold up for two minutes.
WITHIN_S = 180.0


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


def main(arguments: list[str]) -> int:
    """0: alive (and ready), or waiting for the broker. 1: it is not. 2: wrong use."""
    role, *options = arguments or [""]
    if not role or role.startswith("-") or options not in ([], ["--ready"]):
        sys.stderr.write("usage: python -m worker.health ROLE [--ready]\n")
        return 2
    # Not by load_settings(): its imports take ten times as long as the probe.
    var_dir = Path(os.environ.get("ACIS_VAR_DIR") or Path(__file__).resolve().parents[1] / "var")
    if options and not ready_file(var_dir, role).exists():
        sys.stderr.write(f"{role}: not ready; it starts, or it was asked to end\n")
        return 1
    path = health_file(var_dir, role)
    if is_alive(path, within_s=WITHIN_S):
        return 0
    with contextlib.suppress(ValueError):  # the role itself says that its secrets cannot be read
        read_secret_files(os.environ)
    broker = os.environ.get("CELERY_BROKER_URL", "")
    if broker and not broker_answers(broker):
        return 0
    sys.stderr.write(f"{role}: {path} was not touched for {WITHIN_S:.0f} s; the role hangs or has not started\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
