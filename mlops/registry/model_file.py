"""The model file in XGBoost's own format: reads it after its digest was found to be the one that the ledger has.

Called by the registry, the gateway, the documented client and the router. Nothing in such a file can be executed.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import xgboost as xgb

from mlops.domain.errors import UnrecordedModelFile, UnusableModelFile
from mlops.domain.live import classifier as shipped
from mlops.domain.live.classifier import XGBClassifier

_PACKAGE = "acis_model"
SHIPPED_CLASS = f"{_PACKAGE}.classifier.{XGBClassifier.__name__}"
"""The classifier as MLflow's loaders import it from the code beside a model."""


def read_classifier(path: Path, *, expected_sha256: str | None, n_jobs: int) -> XGBClassifier:
    """Read the classifier, with the threads that the file does not keep. Raises UnusableModelFile."""
    return classifier_of(path.read_bytes(), name=path.name, expected_sha256=expected_sha256, n_jobs=n_jobs)


def classifier_of(content: bytes, *, name: str, expected_sha256: str | None, n_jobs: int) -> XGBClassifier:
    """Make the classifier of a model file's content. Raises UnusableModelFile, which calls it by `name`."""
    verify_digest(content, expected_sha256, name=name)
    # XGBoost aborts the process on a torn file. UBJSON is one object from brace to brace.
    if not (content.startswith(b"{") and content.endswith(b"}")):
        message = f"model file {name} is torn or not in XGBoost's UBJSON format ({len(content)} bytes)"
        raise UnusableModelFile(message)
    classifier = XGBClassifier()
    try:
        classifier.load_model(bytearray(content))
    except (xgb.core.XGBoostError, TypeError) as exc:
        message = f"model file {name} is not an XGBoost classifier: {str(exc).splitlines()[0]}"
        raise UnusableModelFile(message) from exc
    classifier.set_params(n_jobs=n_jobs)
    return classifier


def verify_digest(content: bytes, expected_sha256: str | None, *, name: str) -> None:
    """Raise UnrecordedModelFile where a model file is not what the ledger recorded; None: it recorded nothing."""
    found = hashlib.sha256(content).hexdigest()
    if expected_sha256 is None:
        message = (
            f"model file {name} has digest {found[:12]}…, and the ledger has none of it: nothing says that it is what "
            f"was registered, so it is not used; train again, or look at it and say so with `acis registry record "
            f"STRATEGY VERSION --reason …`"
        )
        raise UnrecordedModelFile(message)
    if found != expected_sha256:
        message = (
            f"model file {name} has digest {found[:12]}…, the ledger has {expected_sha256[:12]}…; "
            f"it was changed after it was logged and is not loaded: train again, or `acis registry restore` a champion"
        )
        raise UnrecordedModelFile(message)


def ship_classifier(folder: Path) -> Path:
    """Make in `folder` the package that goes beside a logged model: the classifier, with what it imports."""
    package = folder / _PACKAGE
    package.mkdir()
    package.joinpath("__init__.py").touch()
    source = Path(shipped.__file__)
    for module in (source, source.with_name("rows.py")):
        shutil.copyfile(module, package / module.name)
    return package


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
