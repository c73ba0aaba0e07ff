"""One system for the whole suite: it takes 20 s to come up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.system import ChaosSystem, left_processes, run_system


@pytest.fixture(scope="package")
def system() -> Iterator[ChaosSystem]:
    """Servers that can be broken, and every role twice or thrice."""
    with run_system() as running:
        yield running
    assert left_processes(running.folder) == []
