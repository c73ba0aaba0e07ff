"""Named places at which the chaos tests kill or pause a process; elsewhere a look at a global.

MLOPS_FAILPOINTS names a folder. A file there with the name of a place arms it, and holds what happens: once, to the
first process that gets there, which takes the file away.

    kill    SIGKILL, as a machine that is short of memory does
    exit    os._exit(1), as native code that gives up
    pause   SIGSTOP; somebody wakes it

Every commit, publish and external write has one before and one after it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "MLOPS_FAILPOINTS"
ACTIONS = ("kill", "exit", "pause")

_folder = os.environ.get(VARIABLE)


def reach(name: str) -> None:
    """Say that this process is at the place `name`."""
    if _folder is not None:
        _act(Path(_folder), name)


@contextmanager
def external_write(name: str) -> Iterator[None]:
    """The places before and after what the block writes elsewhere than in the ledger."""
    reach(f"{name}.before")
    yield
    reach(f"{name}.done")


def _act(folder: Path, name: str) -> None:
    reached = folder / f"{name}.reached"
    try:
        (folder / name).rename(reached)
    except FileNotFoundError:
        return
    action = reached.read_text()
    if action == "exit":
        os._exit(1)
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "pause": signal.SIGSTOP}[action])
