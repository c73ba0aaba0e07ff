"""The examples in docstrings, run."""

from __future__ import annotations

import doctest
import importlib
import io
from contextlib import redirect_stdout
from pathlib import Path

from tests.architecture.sources import PACKAGES, modules

SERVED = (
    "mlops.drift_detection.drift_detector",
    "mlops.mlflow.mlflow_client",
    "mlops.mlflow.train_with_mlflow",
    "mlops.retraining.auto_retrain",
    "tasks.dispatch",
)
"""Documented entry points, whose examples need the servers and the sample of `make run`."""


def with_examples() -> list[str]:
    """Modules that have an example, by their dotted names."""
    found = [path for path in modules(*PACKAGES, "examples") if ">>> " in path.read_text(encoding="utf-8")]
    return [".".join(Path(path).with_suffix("").parts) for path in found]


def failures(module: str) -> str:
    """What went wrong in a module's examples; empty where all of them gave what they say."""
    said = io.StringIO()
    with redirect_stdout(said):
        result = doctest.testmod(importlib.import_module(module), optionflags=doctest.FAIL_FAST)
    assert result.attempted, f"{module} has no example that doctest finds"
    return said.getvalue() if result.failed else ""
