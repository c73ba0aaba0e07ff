"""Whether a service of a stack serves, and how long a start may take: as long as it gets on.

A server is asked for something real, and by a process of ours; a role says by its files that its pool is up and that
its loop turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import psutil

from config.role_files import health_file, ready_file, silent_for
from devstack.layout import Layout, Ports
from devstack.mlflow import mlflow_answers, page_answers
from devstack.plan import Urls, role_of
from devstack.ports import listens
from devstack.postgres import postgres_answers
from devstack.redis import redis_answers
from devstack.supervise import ProgramState

STALL_S = 120.0
"""A start in which nothing that is waited for has done anything for so long is given up."""
_WORK = 2.0
"""Seconds of the processor, or megabytes read and written, that are progress: a start needs more, and a process that
only waits, with a heartbeat, uses less in all of STALL_S."""
SILENT_S = {"reconciler": 180.0, "beat": 30.0}
"""A role that has not turned its loop for longer does not answer: beat's turns every 5 s, the reconciler's every 30 s
and after up to two minutes at a dead MLflow."""
_WORKER_SILENT_S = 20.0
"""Of a worker, which says every 2 s that its messages reach the broker."""


def port_of(name: str, ports: Ports) -> int | None:
    """The port that a program listens on; None where it listens on none."""
    found: dict[str, int] = {
        "redis": ports.redis,
        "postgres": ports.postgres,
        "mlflow": ports.mlflow,
        "flower": ports.flower,
        "admin": ports.admin,
        "serve": ports.serve,
    }
    return found.get(name)


def server_answers(name: str, urls: Urls) -> bool:
    """A server, ours or the user's, answers a request that needs what stands behind it."""
    asked: dict[str, Callable[[], bool]] = {
        "redis": lambda: redis_answers(urls.broker),
        "postgres": lambda: postgres_answers(urls.database),
        "mlflow": lambda: mlflow_answers(urls.mlflow, urls.mlflow_auth),
        "flower": lambda: page_answers(f"{urls.flower}/healthcheck"),
        "admin": lambda: page_answers(f"{urls.admin}/healthz"),
        "serve": lambda: page_answers(f"{urls.serve}/healthz"),
    }
    return asked[name]()


def is_ready(state: ProgramState, *, urls: Urls, ports: Ports, layout: Layout) -> bool:
    """The program serves: this very process, since its last start."""
    if state.pid == 0:
        return False
    port = port_of(state.name, ports)
    if port is not None:
        return server_answers(state.name, urls) and listens(state.pid, port)
    role = role_of(state.name)
    # Its files were taken away before it started; in its first seconds it could be about to end.
    if state.state != "RUNNING" or not ready_file(layout.var_dir, role).exists():
        return False
    silent_s = silent_for(health_file(layout.var_dir, role))
    return silent_s is not None and silent_s <= SILENT_S.get(role, _WORKER_SILENT_S)


class Progress:
    """Whether programs that start get on, by what their processes use; a busy machine is slow, not stuck."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: dict[str, tuple[int, float]] = {}
        self._done: dict[str, float] = {}
        self._moved_at = monotonic()

    def look(self, work: Mapping[str, tuple[int, float]]) -> float:
        """Seconds since any of the programs got on. `work`: pid and what its processes have used so far."""
        for name, (pid, used) in work.items():
            last_pid, last = self._seen.get(name, (pid, used))
            self._done[name] = self._done.get(name, 0.0) + (max(0.0, used - last) if pid == last_pid else used)
            self._seen[name] = (pid, used)
        if any(done >= _WORK for done in self._done.values()):
            self.moved()
        return self._monotonic() - self._moved_at

    def moved(self) -> None:
        """Something came up, or cannot be blamed for standing still."""
        self._moved_at = self._monotonic()
        self._done.clear()


def work_of(states: Iterable[ProgramState]) -> dict[str, tuple[int, float]]:
    """For `Progress`: what each program's processes have used, in seconds of the processor plus megabytes moved."""
    return {state.name: (state.pid, _used(state.pid)) for state in states if state.pid}


def _used(pid: int) -> float:
    total = 0.0
    try:
        main = psutil.Process(pid)
        processes = [main, *main.children(recursive=True)]
    except psutil.Error:
        return total
    for process in processes:
        try:
            times = process.cpu_times()
            total += times.user + times.system
            if hasattr(process, "io_counters"):  # not on macOS
                moved = process.io_counters()
                total += (moved.read_chars + moved.write_chars) / 1e6
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another account's
    return total
