"""Programs run as direct children, each in a process group of its own that is ended as a whole."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from mlops.domain.errors import ServerFailed

VAR_VARIABLE = "ACIS_VAR_DIR"
"""Every program of a stack is told its var folder by it."""

_PR_SET_PDEATHSIG = 1
POLL_S = 0.02
"""Between two looks at a server that is starting; they take 40 ms to 10 s."""
NO_WORDS = "(empty log)"
_TAIL_BYTES = 64 * 1024


# Looked up here, not between fork and exec, where no lock may be taken.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent's thread ends; Linux only, else nothing."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal_number)


def tail(path: Path, lines: int = 15, *, since: int = 0) -> str:
    """The last lines of a log from byte `since` on, or a word that there are none.

    A log that is shorter than that was rotated since: then all of it counts.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = since if since <= size else 0
            file.seek(max(begin, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or NO_WORDS


def log_size(path: Path) -> int:
    """Bytes of a log; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program and how to end it."""

    name: str
    """Unique within a stack; also names its log file."""
    command: tuple[str, ...]
    """Absolute program and arguments. Never a secret: every user of the machine can read them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the inherited environment; may hold secrets."""
    inherits: frozenset[str] = frozenset()
    """Variables with secrets that it may inherit; none of `config.roles.SECRETS` beside them."""
    cwd: Path = Path("/")
    user: str | None = None
    """Account to run as, when the starter is root; None: the starter's own."""
    stop_signal: str = "TERM"
    """The signal of an orderly end, without `SIG`."""
    stop_wait_s: int = 10
    """Seconds from that signal to SIGKILL."""
    settled_s: int = 1
    """An end within so many seconds of the start counts as a failed start, and the next try backs off."""


class Child:
    """A running program with its log; ends with the `with` block, or with this process."""

    def __init__(self, program: Program, *, log: Path) -> None:
        self.program = program
        self.log = log
        self._signal = signal.Signals[f"SIG{program.stop_signal}"]
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log_begins = log_size(log)
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 -- programs of devstack/plan.py
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=program.cwd,
                env={**os.environ, **program.environment},
                start_new_session=True,
                user=program.user,
                group=_group_of(program.user),
                extra_groups=None if program.user is None else [],
                preexec_fn=lambda: die_with_parent(self._signal),  # noqa: PLW1509
            )

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
        """Return when `ready`. Raises ServerFailed with the log's end if it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            code = self.process.poll()
            if code is not None:
                message = f"{self.program.name} ended with {code} while starting:\n{self.said()}"
                raise ServerFailed(message)
            if time.monotonic() > deadline:
                message = f"{self.program.name} did not answer within {timeout_s:.0f} s:\n{self.said()}"
                raise ServerFailed(message)
            time.sleep(POLL_S)

    def said(self) -> str:
        """The end of what it wrote since this start."""
        return tail(self.log, since=self._log_begins)

    def stop(self) -> None:
        """Ask it to end, wait, then kill what is left of its group."""
        if self.process.poll() is None:
            self._send(self._signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.program.stop_wait_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _group_of(user: str | None) -> int | None:
    if user is None:
        return None
    return pwd.getpwnam(user).pw_gid


# ---- Processes that a stack started, whoever their parent is by now
#
# supervisord tells every program its name, and the stack tells every program its var folder; children inherit
# both, so the environment marks them. Redis and PostgreSQL write their titles over their environment; they are
# known by their program's name and by their working folder, which is that of their data.

_NAME_VARIABLE = "SUPERVISOR_PROCESS_NAME"
_SERVERS = frozenset({"redis-server", "valkey-server", "postgres"})


def leftovers(var_dir: Path, *, program: str | None = None) -> list[psutil.Process]:
    """Running processes of this var folder's stack, of one program or of all; never the caller itself."""
    data = {str((var_dir / "redis").resolve()), str((var_dir / "postgres").resolve() / "data")}
    found = []
    for process in psutil.process_iter():
        # Gone meanwhile, or somebody else's.
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if _is_marked(process, var_dir, program) or (program is None and _serves(process, data)):
                found.append(process)
    return found


def _is_marked(process: psutil.Process, var_dir: Path, program: str | None) -> bool:
    environment = process.environ()
    name = environment.get(_NAME_VARIABLE)
    return environment.get(VAR_VARIABLE) == str(var_dir) and name is not None and program in (None, name)


def _serves(process: psutil.Process, data: set[str]) -> bool:
    return process.name() in _SERVERS and process.cwd() in data


def end_leftovers(var_dir: Path, *, grace_s: float = 5.0) -> list[int]:
    """End them: orderly, and after the grace by force. Gives the pids that there were."""
    found = leftovers(var_dir)
    for process in found:
        # SIGINT is PostgreSQL's fast shutdown; a plain SIGTERM would wait for its clients.
        number = signal.SIGINT if process.name() == "postgres" else signal.SIGTERM
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
    _, alive = psutil.wait_procs(found, timeout=grace_s)
    for process in [*alive, *leftovers(var_dir)]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=grace_s)
    return [process.pid for process in found]
