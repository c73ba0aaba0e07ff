"""The project's own sources, parsed: what the tests of this folder look at."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("config", "worker", "tasks", "mlops", "admin", "cli", "lab", "devstack")
#: Made by tools, ignored by git; `var` belongs to a running stack.
_NOT_OURS = {".git", "var", "build", "__pycache__"}


def modules(*packages: str) -> list[Path]:
    """Python files of packages, as paths from the root."""
    return sorted(path.relative_to(ROOT) for package in packages for path in (ROOT / package).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def imported(path: Path) -> set[str]:
    """Top-level names of what a file imports, wherever the import stands."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").partition(".")[0])
    return names


def text_files() -> Iterator[tuple[Path, str]]:
    """Every file of the tree that is text, as (path from the root, content)."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in _NOT_OURS and not name.endswith((".egg-info", "_cache"))]
        folders[:] = [name for name in folders if name not in {".hypothesis", ".import_linter_cache"}]
        folders[:] = [name for name in folders if not name.startswith(".venv")]
        for name in files:
            path = Path(folder, name)
            if path.name == ".env" or path.parts[len(ROOT.parts)] == "secrets":  # `make secrets`
                continue
            try:
                yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, FileNotFoundError):
                continue


def fields_without_docstring(class_node: ast.ClassDef) -> list[str]:
    """Annotated names of a class that no string follows."""
    without = []
    for node, following in zip(class_node.body, [*class_node.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        explained = (
            isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
            and following.value.value.strip()
        )
        if not explained:
            without.append(node.target.id)
    return without
