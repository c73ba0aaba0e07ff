"""A database that is away is a temporary error, and nothing of its password is shown."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from mlops.errors import LedgerUnavailable
from mlops.ledger import open_ledger
from mlops.ledger.engine import Database
from mlops.ledger.ledger import SqlLedger
from mlops.ledger.schema import migrate, schema_state
from tests.support.ended_connections import end_other_connections
from tests.support.ledgers import accepted_and_sent, granted, request_for


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A port that is bound and does not listen."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"postgresql://acis:secret@127.0.0.1:{bound.getsockname()[1]}/acis"


def test_a_request_to_a_database_that_is_away_is_not_accepted(dead_url: str) -> None:
    ledger = open_ledger(dead_url)
    with pytest.raises(LedgerUnavailable, match="does not answer") as away:
        ledger.accept(request_for())
    assert "secret" not in str(away.value)
    with pytest.raises(LedgerUnavailable):
        schema_state(dead_url)
    with pytest.raises(LedgerUnavailable), ledger.try_reconcile_lock():
        pass
    ledger.close()


def test_a_file_that_cannot_be_opened_is_a_ledger_that_does_not_answer(tmp_path: Path) -> None:
    ledger = open_ledger(f"sqlite:///{tmp_path / 'no such folder' / 'ledger.db'}")
    with pytest.raises(LedgerUnavailable, match="unable to open"):
        ledger.runs()


def test_a_connection_that_the_server_ended_is_replaced(postgres_url: str) -> None:
    migrate(postgres_url)
    ledger: SqlLedger = open_ledger(postgres_url)
    grant = granted(ledger, accepted_and_sent(ledger).run_id)
    end_other_connections(postgres_url)
    assert ledger.renew(grant).lease_until >= grant.lease_until
    ledger.close()


def test_a_transaction_cut_in_the_middle_writes_nothing(postgres_url: str) -> None:
    migrate(postgres_url)
    ledger = open_ledger(postgres_url)
    database = Database(postgres_url)

    def cut() -> None:
        with database.transaction() as connection:
            connection.execute(
                text("INSERT INTO mlops_audit (actor, action, subject, created_at) VALUES ('a','b','c',now())")
            )
            end_other_connections(postgres_url)
            connection.execute(text("SELECT 1"))

    with pytest.raises(LedgerUnavailable):
        cut()
    with database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM mlops_audit")) == 0
    database.close()
    ledger.close()
