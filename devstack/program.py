"""One long-running program: what starts it and how it is stopped; made by each server, run by two runners.

`process.Child` runs it directly (tests), `supervise` writes it into a supervisord configuration (`make run`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

VAR_VARIABLE = "ACIS_VAR_DIR"
"""Every program of a stack is told its var folder by it."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program and how to end it."""

    name: str
    """Unique within a stack; also names its log file."""
    command: tuple[str, ...]
    """Absolute program and arguments. Never a secret: every user of the machine can read them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the inherited environment; may hold secrets."""
    cwd: Path = Path("/")
    user: str | None = None
    """Account to run as, when the starter is root; None: the starter's own."""
    stop_signal: str = "TERM"
    """The signal of an orderly end, without `SIG`."""
    stop_wait_s: int = 10
    """Seconds from that signal to SIGKILL."""
    serves_by_child: bool = False
    """Its port is held by a child: both are signalled, and a child that outlived it is ended first."""
    settled_s: int = 1
    """An end within so many seconds of the start counts as a failed start, and the next try backs off."""
