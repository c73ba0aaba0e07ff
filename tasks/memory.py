"""Whether the kernel killed a process for its memory: what the memory cgroup of this process counts, versions 1 and 2.

A worker's main process asks, of a child that got SIGKILL. Its own cgroup is the child's too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Version 1 says "no limit" by a number of about this size.
NO_LIMIT = 1 << 60
_ROOT = Path("/")


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

    def n_killed(self) -> int:
        """So far; to be asked before the work that may be killed. 0 where the kernel does not tell."""
        return memory_figures(self._root).n_killed or 0

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
    for folder in _folders(root):
        found = _version_2(folder) if (folder / "memory.events").exists() else _version_1(folder)
        if found.n_killed is not None:
            return found
    return UNKNOWN


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


def _version_2(folder: Path) -> MemoryFigures:
    events = dict(line.split() for line in _text(folder / "memory.events").splitlines() if len(line.split()) == 2)
    return MemoryFigures(
        n_killed=_number(events.get("oom_kill", "")),
        limit=_least(folder, "memory.max"),
        peak=_number(_text(folder / "memory.peak")),
    )


def _version_1(folder: Path) -> MemoryFigures:
    control = dict(line.split() for line in _text(folder / "memory.oom_control").splitlines() if len(line.split()) == 2)
    return MemoryFigures(
        n_killed=_number(control.get("oom_kill", "")),
        limit=_least(folder, "memory.limit_in_bytes"),
        peak=_number(_text(folder / "memory.max_usage_in_bytes")),
    )


def _least(folder: Path, name: str) -> int | None:
    """The least limit of a cgroup and of those that it is in."""
    limits = [_number(_text(one / name)) for one in (folder, *folder.parents)]
    return min((limit for limit in limits if limit is not None and limit < NO_LIMIT), default=None)


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
