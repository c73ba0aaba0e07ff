"""The model file in XGBoost's own format: reads it after its digest was found to be the logged one.

Called by the registry, the gateway and the documented client. Nothing in such a file can be executed.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import xgboost as xgb

from mlops.domain.errors import UnusableModelFile

if TYPE_CHECKING:
    from pathlib import Path


def read_classifier(path: Path, *, expected_sha256: str | None, n_jobs: int) -> xgb.XGBClassifier:
    """Read the classifier, with the threads that the file does not keep. Raises UnusableModelFile."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if expected_sha256 is not None and found != expected_sha256:
        message = (
            f"model file {path.name} has digest {found[:12]}…, logged was {expected_sha256[:12]}…; "
            f"it was changed after it was logged and is not loaded"
        )
        raise UnusableModelFile(message)
    # XGBoost aborts the process on a torn file. UBJSON is one object from brace to brace.
    if not (content.startswith(b"{") and content.endswith(b"}")):
        message = f"model file {path.name} is torn or not in XGBoost's UBJSON format ({len(content)} bytes)"
        raise UnusableModelFile(message)
    classifier = xgb.XGBClassifier()
    try:
        classifier.load_model(bytearray(content))
    except (xgb.core.XGBoostError, TypeError) as exc:
        message = f"model file {path.name} is not an XGBoost classifier: {str(exc).splitlines()[0]}"
        raise UnusableModelFile(message) from exc
    classifier.set_params(n_jobs=n_jobs)
    return classifier


@cache
def requirements() -> tuple[str, ...]:
    """List the packages that a served model needs, pinned to what is installed; one XGBoost wheel, not both."""
    pinned = {}
    for package in ("mlflow", "xgboost-cpu", "xgboost", "numpy", "pandas", "scikit-learn"):
        try:
            pinned[package] = version(package)
        except PackageNotFoundError:
            continue
    if "xgboost-cpu" in pinned:
        pinned.pop("xgboost", None)
    return tuple(f"{package}=={number}" for package, number in pinned.items())
