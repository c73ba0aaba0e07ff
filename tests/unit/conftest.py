"""A ledger in a SQLite file, made once and emptied for each test, and services with fakes on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import variables
from tests.support.ledgers import TimedLedger, sqlite_ledger
from tests.support.services import FakeServices, fake_services


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


@pytest.fixture(scope="session")
def shared_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimedLedger]:
    """Migrations take half a second, so once is enough."""
    with sqlite_ledger(tmp_path_factory.mktemp("ledger")) as timed:
        yield timed


@pytest.fixture
def timed(shared_ledger: TimedLedger) -> TimedLedger:
    """An empty ledger and its clock."""
    shared_ledger.wipe()
    return shared_ledger


@pytest.fixture
def services(tmp_path: Path, timed: TimedLedger) -> FakeServices:
    """One strategy, its panel, and fakes behind every port."""
    return fake_services(tmp_path, timed)
