"""`python -m devstack.precompile`: compiles the modules that the image's programs import, and no others.

Called by the Dockerfile. The image is read-only, so what is not compiled there is compiled by every process anew; and
what no program imports would be three quarters of the compiled files.
"""

from __future__ import annotations

import ast
import compileall
import importlib
import io
import py_compile
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("config", "mlops", "tasks", "worker", "admin", "cli", "lab", "devstack")
LOADED_BY_NAME = (
    *("alembic", "billiard", "celery", "click", "flask", "flower", "h11", "httptools", "jinja2", "kombu"),
    *("mlflow.server", "mlflow.store", "mlflow.tracking", "mlflow.utils", "redis", "sqlalchemy", "starlette"),
    *("tornado", "uvicorn", "uvloop", "werkzeug"),
)
"""Packages whose modules are found by a string, a plug-in or a URL: compiled as a whole."""
PROGRAMS = ("mlflow.cli", "mlflow.server.fastapi_app", "mlflow.xgboost", "celery.bin.celery", "flower.command")
"""What is started, or registers a model, beside our own modules."""
_UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def imported_names(package: Path) -> Iterator[str]:
    """Modules that the package's files import anywhere, inside functions too."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (one.name for one in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module
                yield from (f"{node.module}.{one.name}" for one in node.names)


def import_all() -> bool:
    """Import what our modules and programs import; whether all of it can be, but for what is not installed.

    An extra is not installed, and a function or class is no module.
    """
    is_whole = True
    for name in sorted({*PROGRAMS, *(name for one in PACKAGES for name in imported_names(ROOT / one))}):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except ImportError as exc:  # a part of a library was taken out that another part needs
            sys.stderr.write(f"{name}: {exc}\n")
            is_whole = False
        except Exception as exc:  # noqa: BLE001 -- a module that wants settings is compiled below all the same
            sys.stderr.write(f"{name}: left out ({type(exc).__name__}: {exc})\n")
    return is_whole


def draw() -> None:
    """Draw words, as a training does: matplotlib imports what it needs for them only then."""
    from matplotlib.figure import Figure  # noqa: PLC0415 -- after the folders are found

    figure = Figure()
    figure.text(0.5, 0.5, "words")
    figure.savefig(io.BytesIO(), format="png")


def folders_by_name() -> list[str]:
    """Folders of `LOADED_BY_NAME`. Raises ModuleNotFoundError where one is not installed."""
    specs = {name: find_spec(name) for name in LOADED_BY_NAME}
    missing = sorted(name for name, spec in specs.items() if spec is None)
    if missing:
        raise ModuleNotFoundError(f"not installed: {', '.join(missing)}")
    return [place for spec in specs.values() if spec for place in spec.submodule_search_locations or ()]


def main() -> int:
    """Exit code; 1 where a module that is needed cannot be imported, or compiled."""
    folders = folders_by_name()  # first: some put another object in their module's place once they are imported
    if not import_all():
        return 1
    draw()
    sources = {Path(file) for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))}
    for path in sorted(path for path in sources if path.suffix == ".py"):
        py_compile.compile(str(path), doraise=True, invalidation_mode=_UNCHECKED)
    folders += [str(ROOT / one) for one in PACKAGES]
    return 0 if all(compileall.compile_dir(one, quiet=1, invalidation_mode=_UNCHECKED) for one in folders) else 1


if __name__ == "__main__":
    sys.exit(main())
