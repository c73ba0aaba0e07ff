"""Who may import what. import-linter follows the arrow in `make check`; here is what it cannot say."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.sources import PACKAGES, ROOT, imported, modules

#: Running a script by its path puts its folder first on sys.path.
SCRIPT_FOLDERS = ("mlops/drift_detection", "mlops/mlflow", "mlops/retraining")


def importlinter() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        content: dict[str, Any] = tomllib.load(file)["tool"]["importlinter"]
    return content


def exists(name: str) -> bool:
    """A module of ours, or an installed library."""
    if name.partition(".")[0] not in PACKAGES:
        return name in packages_distributions()
    path = ROOT.joinpath(*name.split("."))
    return (path / "__init__.py").is_file() or path.with_suffix(".py").is_file()


def test_the_import_contracts_name_modules_that_exist() -> None:
    named = set(importlinter()["root_packages"])
    for contract in importlinter()["contracts"]:
        named |= set(contract.get("source_modules", ()))
        named |= {name.strip() for layer in contract.get("layers", ()) for name in layer.split("|")}
        named |= {pair.partition(" -> ")[0] for pair in contract.get("ignore_imports", ())}
        # Our own ones among the forbidden; a misspelt library would never be imported, and so never be found.
        named |= set(contract.get("forbidden_modules", ()))
    assert {name for name in named if not exists(name)} == set()


def test_the_import_contracts_hold_the_arrow_and_the_pure_modules() -> None:
    kinds = [contract["type"] for contract in importlinter()["contracts"]]
    assert "layers" in kinds
    layers = next(contract["layers"] for contract in importlinter()["contracts"] if contract["type"] == "layers")
    ours = [name.strip() for layer in layers for name in layer.split("|")]
    order = ["cli", "worker", "admin", "tasks", "mlops.stages", "mlops.runs", "mlops.registry", "mlops.ledger"]
    assert [name for name in ours if name in {*order, "mlops.domain", "config"}] == [*order, "mlops.domain", "config"]
    inside = {path.parts[1].removesuffix(".py") for path in modules("mlops") if len(path.parts) > 1} - {"__init__"}
    assert {f"mlops.{name}" for name in inside} == {name for name in ours if name.startswith("mlops.")}
    assert {name for name in ours if "." not in name} == set(PACKAGES) - {"mlops"}
    assert set(importlinter()["root_packages"]) == set(PACKAGES)


def test_the_mlflow_library_is_imported_by_one_adapter() -> None:
    found = {str(path) for path in modules(*PACKAGES) if "mlflow" in imported(path)}
    # The second is a part of the MLflow server, whose process loads it.
    assert found == {"mlops/registry/gateway.py", "devstack/mlflow_access.py"}


def test_optuna_is_imported_by_one_adapter() -> None:
    found = {str(path) for path in modules(*PACKAGES) if "optuna" in imported(path)}
    assert found == {"mlops/ledger/studies.py"}


@pytest.mark.parametrize("library", ["celery", "kombu", "billiard", "flower"])
def test_celery_is_imported_in_worker_and_tasks_alone(library: str) -> None:
    found = {path.parts[0] for path in modules(*PACKAGES) if library in imported(path)}
    assert found <= {"worker", "tasks"}


def test_celery_is_imported_somewhere() -> None:
    assert any("celery" in imported(path) for path in modules("worker"))  # else the test above cannot fail


@pytest.mark.parametrize("library", ["sqlalchemy", "alembic", "psycopg2", "adbc_driver_postgresql"])
def test_databases_are_spoken_to_by_adapters_alone(library: str) -> None:
    found = {"/".join(path.parts[:2]) for path in modules(*PACKAGES) if library in imported(path)}
    assert found
    # The names of PostgreSQL's conditions, and no connection, are what `mlops.sqlstates` takes of psycopg2.
    assert {name for name in found - {"mlops/sqlstates.py"} if not name.startswith("devstack/")} <= {
        "mlops/ledger",
        "mlops/features",
    }


@pytest.mark.parametrize("folder", SCRIPT_FOLDERS)
def test_no_module_beside_a_script_shadows_a_library(folder: str) -> None:
    own = set(PACKAGES)
    taken = (set(sys.stdlib_module_names) | set(packages_distributions())) - own
    here = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    here |= {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    assert here & taken == set()
    assert here & own == set()  # `from tasks import …` in a script must find the package


def test_every_package_and_tests_folder_can_be_imported() -> None:
    folders = {path.parent for path in modules(*PACKAGES, "tests")}
    assert {str(folder) for folder in folders if not (ROOT / folder / "__init__.py").is_file()} == set()


def test_the_script_folders_hold_the_documented_scripts() -> None:
    scripts = ("drift_detection/drift_detector.py", "mlflow/train_with_mlflow.py", "retraining/auto_retrain.py")
    assert all((ROOT / Path("mlops") / script).is_file() for script in scripts)
