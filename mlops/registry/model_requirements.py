"""The packages that a served model needs."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def requirements() -> tuple[str, ...]:
    """What a served model needs, pinned to what is installed; one XGBoost wheel, not both."""
    pinned = {}
    for package in ("mlflow", "xgboost-cpu", "xgboost", "numpy", "pandas", "scikit-learn"):
        try:
            pinned[package] = version(package)
        except PackageNotFoundError:
            continue
    if "xgboost-cpu" in pinned:
        pinned.pop("xgboost", None)
    return tuple(f"{package}=={number}" for package, number in pinned.items())
