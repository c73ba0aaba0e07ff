"""How the worker's main process treats a message: when it acknowledges, and what it does when a child dies.

A stage's message is acknowledged as soon as a child has it: what dies then is found by its lease, and a
reset connection cannot deliver a running training twice. A start message is acknowledged when its run is
in the ledger, because until then nothing else knows of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import structlog
from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # the stubs lack it
from billiard.exceptions import WorkerLostError
from celery import current_app
from celery.worker.request import Request

from mlops import tracing

# ---- Whether the kernel killed a process for its memory: what its memory cgroup counts (versions 1 and 2)
#
# A worker's main process asks, of a child that got SIGKILL. Its own cgroup is the child's too.

#: Version 1 says "no limit" by a number of about this size.
_NO_LIMIT = 1 << 60
_ROOT = Path("/")
#: The file that counts the kills, by version: those of the limit and of the peak beside it.
_FILES = {
    "memory.events": ("memory.max", "memory.peak"),
    "memory.oom_control": ("memory.limit_in_bytes", "memory.max_usage_in_bytes"),
}


@dataclass(frozen=True, kw_only=True)
class MemoryFigures:
    """One look at a memory cgroup; None: the kernel does not tell."""

    n_killed: int | None
    """Processes that the kernel killed for want of memory, since the cgroup was made."""
    limit: int | None
    """Bytes; None: no limit."""
    peak: int | None
    """Most bytes that were in use at once, by all processes of the cgroup."""


UNKNOWN = MemoryFigures(n_killed=None, limit=None, peak=None)


class KilledForMemory:
    """Says of each kill whether memory was the reason; one a main process, since each count explains one kill."""

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._n_explained = 0

    @cached_property
    def _counts(self) -> Path | None:
        """The file that counts the kills, looked for once: it is read with every stage."""
        return next((path for path in _counting_files(self._root) if _n_killed(path) is not None), None)

    def n_killed(self) -> int:
        """So far; to be asked before the work that may be killed. 0 where the kernel does not tell."""
        return (_n_killed(self._counts) or 0) if self._counts else 0

    def reason(self, n_before: int) -> str:
        """Words about a process that was killed by signal 9; n_before : what `n_killed` gave when its work began"""
        figures = memory_figures(self._root)
        if figures.n_killed is None:
            return "whether memory was the reason is not known: the kernel does not tell (no memory cgroup)"
        limit = _size(psutil.virtual_memory().total if figures.limit is None else figures.limit)
        whose = " (the machine's)" if figures.limit is None else ""
        sizes = f"limit {limit}{whose}, peak {'not known' if figures.peak is None else _size(figures.peak)}"
        known = max(n_before, self._n_explained)
        if figures.n_killed > known:
            self._n_explained = known + 1
            return f"out of memory: {sizes}; give the worker more memory, or the stage less data"
        return f"memory was not the reason: {sizes}"


def memory_figures(root: Path = _ROOT) -> MemoryFigures:
    """Of the cgroup of this process. root : where `proc` and `sys` are, for tests"""
    for path in _counting_files(root):
        n_killed = _n_killed(path)
        if n_killed is not None:
            limit, peak = _FILES[path.name]
            return MemoryFigures(
                n_killed=n_killed, limit=_least(path.parent, limit), peak=_number(_text(path.parent / peak))
            )
    return UNKNOWN


def _counting_files(root: Path) -> Iterator[Path]:
    return (folder / name for folder in _folders(root) for name in _FILES)


def _n_killed(path: Path) -> int | None:
    """None: there is no such file, or an old kernel that does not count."""
    lines = (line.split() for line in _text(path).splitlines())
    return next((_number(words[1]) for words in lines if words[:1] == ["oom_kill"]), None)


def _folders(root: Path) -> Iterator[Path]:
    """Places where this process' figures may be, the most exact first; a container sees its own cgroup at the top."""
    mounted = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            yield mounted / "memory" / path.lstrip("/")
            yield mounted / "memory"
        elif not controllers:
            yield mounted / path.lstrip("/")
            yield mounted


def _least(folder: Path, name: str) -> int | None:
    """The least limit of a cgroup and of those that it is in."""
    limits = [_number(_text(one / name)) for one in (folder, *folder.parents)]
    return min((limit for limit in limits if limit is not None and limit < _NO_LIMIT), default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _number(text: str) -> int | None:
    """None for `max`, and for nothing."""
    return int(text) if text.strip().isdecimal() else None


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"


log = structlog.get_logger(__name__)

#: As billiard writes it.
_SIGKILL_WORDS = "signal 9"
_killed_for_memory = KilledForMemory()


class StageRequest(Request):
    """A message of one of the three stage tasks."""

    # The base class has slots.
    n_killed_before = 0

    def on_accepted(self, pid: Any, time_accepted: Any) -> None:  # noqa: ANN401 -- the base class's signature
        """A child has taken it."""
        super().on_accepted(pid, time_accepted)
        self.n_killed_before = _killed_for_memory.n_killed()
        if "run_id" in self.kwargs:
            self.acknowledge()

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 -- the base class's signature
        """A task failed, or its child died: then somebody must give the lease back."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):  # as billiard wraps it
            error = error.exc
        if isinstance(error, WorkerLostError) and "run_id" in self.kwargs:
            cause = str(error)
            if _SIGKILL_WORDS in cause:
                cause = f"{cause}; {_killed_for_memory.reason(self.n_killed_before)}"
            self._report_lost_child(cause)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _report_lost_child(self, cause: str) -> None:
        # The main process forks children later, so it keeps away from the database: a control worker does it.
        try:
            current_app.send_task(
                "stage.lost",
                kwargs={"run_id": self.kwargs["run_id"], "task": self.name, "task_id": self.id, "cause": cause},
                queue="control",
                **tracing.carried(self.request_dict.get(tracing.TRACEPARENT)),
                ignore_result=True,
                retry=False,
            )
        except Exception:
            log.exception("stage.lost_not_reported", run_id=self.kwargs["run_id"], next="its lease runs out")
