"""Tests that share servers are run by one process, and the units of `make test` are what lies in the tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tests.support import scheduling
from tests.support.scheduling import TOGETHER, place_of, unit_of

ASKED = {"mlflow_url": "mlflow", "workers": "workers"}
"""Unit by a fixture that costs seconds and hundreds of MB in each process."""
ALONE = {"tests/security/test_redis_holder.py"}
"""Workers of its own."""


def test_each_path_of_a_unit_is_there_and_none_is_in_two() -> None:
    paths = [path for unit in TOGETHER.values() for path in unit]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [pair for pair in combinations(paths, 2) if pair[0].startswith(pair[1]) or pair[1].startswith(pair[0])] == []


def test_files_lie_where_the_cost_of_what_they_ask_for_is_paid_once() -> None:
    elsewhere = {
        f"{file} asks for {name}"
        for file, names in arguments_of_tests()
        for name in names & ASKED.keys()
        if unit_of(file) != ASKED[name] and file not in ALONE
    }
    assert elsewhere == set()


def arguments_of_tests() -> Iterator[tuple[str, set[str]]]:
    """Names of all arguments in each file of tests."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        yield str(path.relative_to(ROOT)), {argument.arg for node in functions for argument in node.args.args}


@pytest.mark.parametrize(
    ("test", "unit"),
    [
        ("tests/chaos/test_chaos.py::test_x[a::b]", "chaos"),
        ("tests/acceptance/admin/test_drift.py::test_x", "acceptance"),
        ("tests/unit/test_errors.py::test_x[tests/chaos/]", "tests/unit/test_errors.py"),
    ],
)
def test_a_test_is_handed_out_with_its_unit_or_its_file(monkeypatch: pytest.MonkeyPatch, test: str, unit: str) -> None:
    monkeypatch.setattr(scheduling, "IS_SMALL", False)
    assert unit_of(test) == unit


def test_on_a_machine_with_little_memory_two_stacks_are_never_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "IS_SMALL", True)
    assert unit_of("tests/acceptance/test_demo.py::test_x") == unit_of("tests/chaos/test_chaos.py::test_x")


def test_what_takes_longest_begins_first() -> None:
    files = [str(path.relative_to(ROOT)) for path in Path(ROOT, "tests").rglob("test_*.py")]
    ordered = sorted(files, key=place_of)
    assert unit_of(ordered[0]) == "chaos"
    assert ordered[-1].startswith("tests/unit/")
