"""PostgreSQL and Redis of a benchmark's own, as `make run` starts them, without MLflow and without workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.endpoints import Endpoints
from config.settings import ROOT
from devstack.plan import StackOptions
from devstack.stack import Stack

STRATEGIES_FILE = ROOT / "config" / "strategies.toml"
NOBODY = "http://127.0.0.1:1"
"""An MLflow that is not there."""


@contextmanager
def own_servers(var_dir: Path, *, strategies_file: Path = STRATEGIES_FILE) -> Iterator[Endpoints]:
    """Started in the folder, on free ports, and ended with the block."""
    options = StackOptions(var_dir=var_dir, strategies_file=strategies_file, mlflow_tracking_uri=NOBODY, roles=())
    stack = Stack(options)
    endpoints = stack.start()
    try:
        yield endpoints
    finally:
        stack.stop()
