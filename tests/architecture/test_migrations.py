"""A revision is made of steps that can be repeated: on PostgreSQL each commits by itself, and a kill may come between."""

from __future__ import annotations

import ast

from tests.architecture.sources import modules, parsed

VERSIONS = [path for path in modules("mlops") if path.parent.name == "versions" and path.name != "__init__.py"]
#: What asks, and changes nothing.
ASKS = {"get_bind"}


def test_every_revision_changes_the_schema_by_steps_alone() -> None:
    assert VERSIONS
    found = [
        f"{path.name}:{node.lineno}: op.{node.attr}"
        for path in VERSIONS
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "op"
        and node.attr not in ASKS
    ]
    assert found == [], (
        "use mlops.ledger.migrations.steps, which wait for locks, build indexes beside writers and repeat"
    )
