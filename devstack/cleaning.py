"""Stop a stack from another terminal, and remove what it wrote."""

from __future__ import annotations

import contextlib
import shutil

import psutil

from config.endpoints import read_endpoints, remove_endpoints
from devstack.account import remove_home
from devstack.layout import Layout, StackLock, holder
from devstack.process import end_leftovers, leftovers
from devstack.stack import refuse_second
from mlops.domain.errors import ServerFailed


def stop_running(layout: Layout, *, timeout_s: float = 60.0) -> bool:
    """Stop the stack of this var folder, also one whose starter was killed; False where none ran.

    Orderly first; what has not ended by the timeout is ended by force. Raises ServerFailed where a process is left.
    """
    running = read_endpoints(layout.var_dir)
    starter = holder(layout.lock_file)
    target = starter or (running.supervisor_pid if running else None)
    if target is not None:
        _end(target, timeout_s=timeout_s)
    ended = end_leftovers(layout.var_dir)
    left = leftovers(layout.var_dir)
    if left or holder(layout.lock_file) is not None:
        pids = ", ".join(str(process.pid) for process in left) or str(holder(layout.lock_file))
        raise ServerFailed(f"still there after all: process {pids}; look at {layout.log_dir}, and end it yourself")
    remove_endpoints(layout.var_dir)
    return target is not None or bool(ended)


def _end(pid: int, *, timeout_s: float) -> None:
    """SIGTERM, on which the starter stops everything in order; SIGKILL after the timeout, on which the rest follows."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.terminate()
        try:
            process.wait(timeout_s)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(timeout_s)


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
