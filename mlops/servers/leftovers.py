"""Processes that a stack started, whoever their parent is by now: the marker is in their environment.

supervisord tells every program its name, and the stack tells every program its var folder; children inherit
both. So what a killed parent left behind is found again, and nothing else is.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil

VAR_VARIABLE = "ACIS_VAR_DIR"
NAME_VARIABLE = "SUPERVISOR_PROCESS_NAME"


def leftovers(var_dir: Path, *, program: str | None = None) -> list[psutil.Process]:
    """Running processes of this var folder's stack, of one program or of all; never the caller itself."""
    found = []
    for process in psutil.process_iter():
        # Gone meanwhile, somebody else's, or overwritten by the program (PostgreSQL's own children, which
        # end with their parent).
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            environment = process.environ()
            name = environment.get(NAME_VARIABLE)
            if (
                process.pid != os.getpid()
                and environment.get(VAR_VARIABLE) == str(var_dir)
                and name is not None
                and program in (None, name)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
    return found


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
