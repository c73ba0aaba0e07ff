"""Whether this worker was asked to end: a file that its main process makes, and that its children look at.

SIGTERM reaches the main process, which makes the file (`worker.draining`). A child that holds a stage stops at its
next round or batch, keeps its checkpoint and gives the lease back; one that has not claimed yet passes the message on.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path

from tasks.services import process_services


def drain_file(var_dir: Path, main_pid: int) -> Path:
    """The file of a worker's main process; folders may be shared between hosts, and in containers all are pid 1."""
    return var_dir / "run" / f"drain-{socket.gethostname()}-{main_pid}"


class DrainFlag:
    """Callable; a look at a file of the local disk, some microseconds."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __call__(self) -> bool:
        """The worker was asked to end."""
        return os.path.exists(self._path)  # noqa: PTH110 -- a Path takes three times as long, once a boosting round


def is_draining() -> bool:
    """Of the worker whose child this process is."""
    return _of_process(os.getpid())()


@lru_cache(maxsize=1)
def _of_process(_pid: int) -> DrainFlag:
    return DrainFlag(drain_file(process_services().settings.var_dir, os.getppid()))
