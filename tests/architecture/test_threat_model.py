"""docs/security.md names tests that exist, and says of each part of the system all six kinds of threat."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from config.settings import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+\.py)::(\w+)`", TEXT)))
PARTS = {
    title: [
        [cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if line.startswith("| ")
    ]
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
TABLES = {title: rows[1:] for title, rows in PARTS.items() if rows}
LEAST = 20
"""Characters of a reason."""


@cache
def functions(path: str) -> set[str]:
    file = ROOT / path
    if not file.is_file():
        return set()
    return {
        one.name for one in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(one, ast.FunctionDef)
    }


def test_there_are_parts_and_tests() -> None:
    assert len(TABLES) >= 12
    assert len(NAMED) >= 50


@pytest.mark.parametrize(("path", "name"), NAMED, ids=str)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in functions(path)


@pytest.mark.parametrize("title", TABLES)
def test_each_line_has_its_test_or_its_reason(title: str) -> None:
    for kind, threat, guard, shown in TABLES[title]:
        assert kind in "STRIDE", kind
        assert threat
        assert guard
        assert "tests/" in shown or len(shown) > LEAST, f"{threat}: {shown!r}"


@pytest.mark.parametrize("title", TABLES)
def test_each_part_is_looked_at_for_all_six_kinds(title: str) -> None:
    assert {row[0] for row in TABLES[title]} == set("STRIDE")
