"""Liveness of a role as the age of a file that its main loop touches: a probe costs one `stat`.

It does not fail because Redis is down: restarting a worker mends no Redis.
"""

from __future__ import annotations

import time
from pathlib import Path


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
