"""No setting of the machine's reaches a test, and no test leaves its logging behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import variables


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours is set, and no stack runs in the var folder."""
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACIS_VAR_DIR", str(tmp_path))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command sets logging up for its own standard error, which is closed after the test that ran it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
