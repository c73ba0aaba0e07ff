"""A worker that is asked to end: SIGTERM to its main process, and within 15 s it is gone.

    main process    takes no new message, makes the drain file that its children look at, waits for them
    children        ignore SIGTERM; the stage stops at its next round, saves, gives its lease back
    after 11 s      a child that does not come back (native code, a server that is silent) is killed; its lease is
                    given back by `stage.lost`, or runs out

Signal handlers of `worker.signals` call this.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import structlog
from celery import bootsteps

from config.settings import load_settings
from tasks.drain import drain_file

log = structlog.get_logger(__name__)

#: From SIGTERM on. Celery needs about a second to take down a pool whose children have ended.
KILL_CHILDREN_AFTER_S = 11.0
#: The main process itself does not wait for a broker that is silent.
EXIT_AFTER_S = 14.0


def begin_drain(var_dir: Path) -> None:
    """Of this process, a worker's main one; returns at once, also inside a signal handler."""
    path = drain_file(var_dir, os.getpid())
    if path.exists():
        return
    # First, since a disk may be full.
    for after_s, work in ((KILL_CHILDREN_AFTER_S, kill_children), (EXIT_AFTER_S, _exit)):
        timer = threading.Timer(after_s, work)
        timer.daemon = True
        timer.start()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def forget_drains(var_dir: Path) -> None:
    """Of this process, of an earlier one with its number, and of those of this host that were killed."""
    own = drain_file(var_dir, os.getpid())
    own.unlink(missing_ok=True)
    stem = own.name.removesuffix(str(os.getpid()))
    for path in own.parent.glob(f"{stem}*"):
        pid = path.name.removeprefix(stem)
        # Of a host whose name goes on after ours, it is none.
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            path.unlink(missing_ok=True)


def outlive_sigterm() -> None:
    """In a child: service managers send SIGTERM to the whole group, and the main process tells it to stop anyway."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def kill_children() -> None:
    """Those that did not stop by themselves."""
    for child in psutil.Process().children(recursive=True):
        log.warning("worker.child_killed", pid=child.pid, after_s=KILL_CHILDREN_AFTER_S, next="its lease is given back")
        child.kill()


def _exit() -> None:
    log.warning("worker.ended_by_force", after_s=EXIT_AFTER_S, next="leases that it held run out")
    os._exit(1)


# ---- The part of Celery's worker that begins a drain however the worker is ended: by a signal, or from Flower's page
#
# Celery tells nobody of a shutdown that was asked for remotely, but closes every step before it waits for the pool.


class DrainStep(bootsteps.StartStopStep):
    """Of the worker's blueprint."""

    def close(self, parent: Any) -> None:  # noqa: ANN401, ARG002 -- the base class's signature
        """Before the pool is waited for; a second time does nothing."""
        begin_drain(load_settings().var_dir)
