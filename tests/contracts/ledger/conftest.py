"""The ledger on both of its databases, empty, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import TimedLedger, postgres_ledger, sqlite_ledger, with_movable_clock


@pytest.fixture(scope="session")
def ledger_postgres_url(postgres_database: Callable[[], str]) -> str:
    """A PostgreSQL database with the tables and a movable clock."""
    return with_movable_clock(postgres_database())


@pytest.fixture(params=["sqlite", "postgresql"])
def timed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TimedLedger]:
    """A ledger and its clock."""
    if request.param == "sqlite":
        with sqlite_ledger(tmp_path) as ledger:
            yield ledger
    else:
        with postgres_ledger(request.getfixturevalue("ledger_postgres_url")) as ledger:
            yield ledger


@pytest.fixture
def ledger(timed: TimedLedger) -> SqlLedger:
    """The ledger of `timed`."""
    return timed.ledger
