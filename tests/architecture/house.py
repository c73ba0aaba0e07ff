"""`python -m tests.architecture.house`: the size and the structure of the product's code, beside their bounds.

A module counts as imported by another wherever the import stands, under `TYPE_CHECKING` and in functions too.
"""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp
from rich.console import Console
from rich.table import Table

from tests.architecture.sources import PACKAGES, ROOT, modules, parsed

#: Whoever takes one of these is on the way of a strategy.
_STRATEGY = {"Strategy", "DataPolicy", "DriftPolicy", "TrainingPolicy", "PromotionPolicy"}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One property of the house."""

    name: str
    value: float
    bound: float
    """The largest value that is good."""
    where: tuple[str, ...] = ()
    """What is over the bound, or nearest to it."""

    @property
    def is_kept(self) -> bool:
        """The value is within the bound."""
        return self.value <= self.bound


def measures() -> list[Measure]:
    """Every property with its bound."""
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in modules(*PACKAGES)}
    n_lines = sum(text.count("\n") for text in sources.values())
    filled = [path for path, text in sources.items() if text.strip()]
    per_folder = Counter(str(path.parent) for path in filled)
    folder, n_largest = per_folder.most_common(1)[0]
    lonely = sorted(with_one_importer())
    pairs = mutual_imports()
    names = sum(len(public_names(path)) for path in sources)
    return [
        Measure(name="product lines", value=n_lines, bound=33_000),
        Measure(name="modules", value=len(filled), bound=230),
        Measure(name="modules in a folder", value=n_largest, bound=20, where=(folder,)),
        Measure(name="modules with one importer", value=len(lonely), bound=20, where=tuple(lonely)),
        Measure(name="pairs of packages that import each other", value=len(pairs), bound=0, where=tuple(pairs)),
        Measure(name="purity contracts that name more than a folder", value=len(impure_names()), bound=0),
        Measure(name="imports by name between packages", value=len(imports_by_name()), bound=0),
        Measure(name="public names per 1,000 lines", value=round(1000 * names / n_lines, 1), bound=32),
        *(
            Measure(name=f"modules on the way of a strategy, {stage}", value=len(way_of(stage)), bound=bound)
            for stage, bound in (("train", 32), ("drift", 25), ("promote", 17))
        ),
    ]


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def _path(module: str) -> Path:
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def _package(module: str) -> str:
    """The package that a module belongs to: those inside `mlops` count as packages, and so do its own modules."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "mlops" else parts[0]


def with_one_importer() -> Iterator[str]:
    """Modules that exactly one other module imports, where that is not the package which hands their names on."""
    graph = _graph()
    for module in graph.modules:
        importers = graph.find_modules_that_directly_import(module)
        is_package = _path(module).name == "__init__.py"
        if not is_package and len(importers) == 1 and importers != {module.rpartition(".")[0]}:
            yield module


def mutual_imports() -> list[str]:
    """Pairs of packages each of which imports the other."""
    graph = _graph()
    arrows = {
        (_package(module), _package(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    return sorted(f"{one} and {other}" for one, other in arrows if one < other and (other, one) in arrows)


def impure_names() -> list[str]:
    """What the contract of purity names beside the domain."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (pure,) = (contract for contract in contracts if contract["name"] == "the domain is pure")
    return [name for name in pure["source_modules"] if name != "mlops.domain"]


def imports_by_name() -> list[str]:
    """Calls of `import_module` with the name of a module of ours."""
    found = []
    for path in modules(*PACKAGES):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("import_module"):
                continue
            named = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            found += [f"{path}: {name}" for name in named if name.partition(".")[0] in PACKAGES]
    return found


def public_names(path: Path) -> list[str]:
    """Functions, classes and constants at the top of a module whose name has no underscore before it."""
    names: list[str] = []
    for node in parsed(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def way_of(stage: str) -> set[str]:
    """Modules that a strategy can pass in a stage: reached by imports from one to the next, each of which takes it."""
    graph, start = _graph(), f"mlops.stages.{stage}"
    seen, waiting = {start}, [start]
    while waiting:
        for imported in graph.find_modules_directly_imported_by(waiting.pop()):
            if imported not in seen and _takes_a_strategy(imported):
                seen.add(imported)
                waiting.append(imported)
    return seen


@cache
def _takes_a_strategy(module: str) -> bool:
    functions = (
        node for node in ast.walk(parsed(_path(module))) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    arguments = (argument for node in functions for argument in (*node.args.args, *node.args.kwonlyargs))
    return any(
        argument.arg == "strategy"
        or (argument.annotation is not None and ast.unparse(argument.annotation).strip("'\"") in _STRATEGY)
        for argument in arguments
    )


def main() -> int:
    """Print the table; exit code 1 where a bound is not kept."""
    table = Table("property", "found", "bound", "")
    found = measures()
    for one in found:
        table.add_row(one.name, f"{one.value:,g}", f"{one.bound:,g}", "" if one.is_kept else "over")
    console = Console()
    console.print(table)
    for one in found:
        if not one.is_kept and one.where:
            console.print(f"{one.name}: {', '.join(one.where)}", soft_wrap=True)
    return int(not all(one.is_kept for one in found))


if __name__ == "__main__":
    raise SystemExit(main())
