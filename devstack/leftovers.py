"""Processes that a stack started, whoever their parent is by now.

supervisord tells every program its name, and the stack tells every program its var folder; children inherit
both, so the environment marks them. Redis and PostgreSQL write their titles over their environment; they are
known by their program's name and by their working folder, which is that of their data.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil

from devstack.process import VAR_VARIABLE

NAME_VARIABLE = "SUPERVISOR_PROCESS_NAME"
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
    name = environment.get(NAME_VARIABLE)
    return environment.get(VAR_VARIABLE) == str(var_dir) and name is not None and program in (None, name)


def _serves(process: psutil.Process, data: set[str]) -> bool:
    return process.name() in _SERVERS and process.cwd() in data


def end_leftovers(var_dir: Path, *, program: str | None = None, grace_s: float = 5.0) -> list[int]:
    """End them: orderly, and after the grace by force. Gives the pids that there were."""
    found = leftovers(var_dir, program=program)
    for process in found:
        # SIGINT is PostgreSQL's fast shutdown; a plain SIGTERM would wait for its clients.
        number = signal.SIGINT if process.name() == "postgres" else signal.SIGTERM
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
    _, alive = psutil.wait_procs(found, timeout=grace_s)
    for process in [*alive, *leftovers(var_dir, program=program)]:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=grace_s)
    return [process.pid for process in found]
