"""Stop a stack from another terminal, and remove what it wrote."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time

from config.endpoints import read_endpoints, remove_endpoints
from mlops.errors import ServerFailed
from mlops.servers.account import remove_home
from mlops.servers.layout import Layout
from mlops.servers.leftovers import end_leftovers
from mlops.servers.lock import StackLock, holder
from mlops.servers.stack import refuse_second

POLL_S = 0.1


def stop_running(layout: Layout, *, timeout_s: float = 60.0) -> bool:
    """Stop the stack of this var folder, also one whose starter was killed; False where none ran."""
    running = read_endpoints(layout.var_dir)
    starter = holder(layout.lock_file)
    target = starter or (running.supervisor_pid if running else None)
    if target is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(target, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while holder(layout.lock_file) is not None or (running is not None and running.is_alive()):
            if time.monotonic() > deadline:
                message = f"process {target} did not stop within {timeout_s:.0f} s; look at {layout.log_dir}"
                raise ServerFailed(message)
            time.sleep(POLL_S)
    ended = end_leftovers(layout.var_dir)
    remove_endpoints(layout.var_dir)
    return target is not None or bool(ended)


def remove_var(layout: Layout) -> bool:
    """Remove the var folder with everything in it; False where there is none. Raises AlreadyRunning."""
    if not layout.var_dir.is_dir():
        return False
    refuse_second(layout)
    if layout.run_dir.is_dir():
        with StackLock(layout.lock_file):
            end_leftovers(layout.var_dir)
            _remove(layout)
    else:
        _remove(layout)
    return True


def _remove(layout: Layout) -> None:
    if layout.postgres_home.exists() or layout.postgres_home.is_symlink():
        remove_home(layout.postgres_home)
    shutil.rmtree(layout.var_dir)
