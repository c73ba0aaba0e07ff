"""Liveness of a role as the age of a file that its main loop touches: a probe costs one `stat`.

`python -m worker.health ROLE` is the probe of Compose and Kubernetes. It does not fail because Redis is down:
restarting a worker mends no Redis, and would kill a training that needs none.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

#: Workers touch their file every 2 s, beat every 5 s, the reconciler after each pass of 30 s, which a dead
#: MLflow can hold up for two minutes.
WITHIN_S = 180.0


def health_file(var_dir: Path, role: str) -> Path:
    """The role's file."""
    return var_dir / "run" / f"alive-{role}"


def touch(path: Path) -> None:
    """Say that the role is alive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def is_alive(path: Path, *, within_s: float) -> bool:
    """The role touched its file within so many seconds."""
    try:
        return time.time() - path.stat().st_mtime <= within_s
    except FileNotFoundError:
        return False


def broker_answers(url: str, *, timeout_s: float = 3.0) -> bool:
    """Something listens where the broker should be."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "localhost", parts.port or 6379), timeout=timeout_s):
            return True
    except OSError:
        return False


def main(arguments: list[str]) -> int:
    """0: alive, or waiting for the broker. 1: the main loop stands still. 2: wrong use."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m worker.health ROLE\n")
        return 2
    # Not by load_settings(): its imports take ten times as long as the probe.
    var_dir = Path(os.environ.get("ACIS_VAR_DIR") or Path(__file__).resolve().parents[1] / "var")
    path = health_file(var_dir, arguments[0])
    if is_alive(path, within_s=WITHIN_S):
        return 0
    broker = os.environ.get("CELERY_BROKER_URL", "")
    if broker and not broker_answers(broker):
        return 0
    sys.stderr.write(
        f"{arguments[0]}: {path} was not touched for {WITHIN_S:.0f} s; the role hangs or has not started\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
