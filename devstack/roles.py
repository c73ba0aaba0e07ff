"""Our own processes as programs of the stack: workers, beat, reconciler, Flower, the admin page."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from devstack.process import Program

ROLES = ("control", "drift", "train.cpu", "promote", "beat", "reconciler", "flower", "admin")
"""What `python -m worker ROLE` is started as; `train.gpu` is added where there is a GPU."""

_NOT_WORKERS = frozenset({"beat", "reconciler", "flower", "admin"})


def program_name(role: str) -> str:
    """`worker-train-cpu` for the role `train.cpu`, `beat` for `beat`."""
    return role if role in _NOT_WORKERS else f"worker-{role.replace('.', '-')}"


def role_of(program: str) -> str:
    """The role of a program's name: `train.cpu` for `worker-train-cpu`."""
    return program.removeprefix("worker-").replace("-", ".") if program.startswith("worker-") else program


def role_programs(roles: Iterable[str], *, environment: Mapping[str, str], cwd: Path) -> list[Program]:
    """One program for each role.

    A worker's SIGTERM goes to its main process alone: it lets the children finish, or drain, and ends them.
    """
    return [
        Program(
            name=program_name(role),
            command=(sys.executable, "-m", "worker", role),
            environment=environment,
            cwd=cwd,
            stop_wait_s=5 if role in _NOT_WORKERS else 20,  # a drain takes up to 15 s
            settled_s=5,  # imports take 2 to 5 s; whoever ends sooner has failed to start
        )
        for role in roles
    ]
