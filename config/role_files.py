"""The files by which a role says that it is alive and that it serves; the standard library alone.

Written by the roles, read by the probes of Compose and Kubernetes (`python -m worker.health`), by `make run`, which
calls a role ready only then, and by `acis status`.
"""

from __future__ import annotations

import time
from pathlib import Path


def health_file(var_dir: Path, role: str) -> Path:
    """The role's file."""
    return var_dir / "run" / f"alive-{role}"


def ready_file(var_dir: Path, role: str) -> Path:
    """The file that is there while the role serves."""
    return var_dir / "run" / f"ready-{role}"


def touch(path: Path) -> None:
    """Say that the role is alive; a volume without room for a new file ends no role, it only looks silent."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return


def is_alive(path: Path, *, within_s: float) -> bool:
    """The role touched its file within so many seconds, or the clock has gone back by as many since."""
    silent_s = silent_for(path)
    return silent_s is not None and silent_s <= within_s


def silent_for(path: Path) -> float | None:
    """Seconds since the role touched its file, or by which the clock has gone back since; None where it never did."""
    try:
        return abs(time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return None


def forget(var_dir: Path, role: str) -> None:
    """What an earlier process of the role said of itself: called before the next one starts."""
    for path in (health_file(var_dir, role), ready_file(var_dir, role)):
        path.unlink(missing_ok=True)
