"""A database that is away is a temporary error, and nothing of its password is shown."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from mlops.domain.errors import LedgerUnavailable
from mlops.ledger.engine import Database
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate, schema_state
from tests.support.ended_connections import end_other_connections
from tests.support.ledgers import accepted_and_sent, answering, granted, request_for

#: What a PostgreSQL answers that cannot do its work now, from its documentation's appendix A.
CANNOT_NOW = {
    "08006": "connection failure",
    "25006": "read-only transaction",
    "25P03": "idle in transaction",
    "40001": "serialization failure, or conflict with recovery",
    "40P01": "deadlock",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "55000": "recovery is in progress",
    "55P03": "lock not available",
    "57014": "statement cancelled",
    "57P01": "administrator's shutdown",
    "57P02": "crash of another backend",
    "57P03": "starting up",
    "58030": "input or output error",
    "XX000": "internal error",
}


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A port that is bound and does not listen."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"postgresql://acis:secret@127.0.0.1:{bound.getsockname()[1]}/acis"


@pytest.fixture(scope="module")
def ledger_url(postgres_database: Callable[[], str]) -> str:
    """A database with the ledger's tables."""
    url = postgres_database()
    migrate(url)
    return url


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


@pytest.mark.parametrize("sqlstate", CANNOT_NOW)
def test_whatever_the_server_cannot_do_now_is_temporary_and_it_is_asked_again(ledger_url: str, sqlstate: str) -> None:
    ledger = open_ledger(ledger_url)
    grant = granted(ledger, accepted_and_sent(ledger, request_for(sqlstate)).run_id)
    with answering(sqlstate):
        with pytest.raises(LedgerUnavailable, match="as the test wants it"):
            ledger.policy_edits("growth")
        with pytest.raises(LedgerUnavailable):
            ledger.accept(request_for("value"))
        with pytest.raises(LedgerUnavailable):
            ledger.renew(grant)
        with pytest.raises(LedgerUnavailable), ledger.try_reconcile_lock():
            pass
    assert ledger.renew(grant).lease_until >= grant.lease_until
    ledger.close()


def test_a_mistake_in_a_statement_is_not_temporary(ledger_url: str) -> None:
    ledger = open_ledger(ledger_url)
    with answering("22012"), pytest.raises(DBAPIError):  # division by zero
        ledger.policy_edits("growth")
    ledger.close()


def test_a_server_that_takes_no_writes_is_left_for_a_new_connection(ledger_url: str) -> None:
    # After a failover the kept connections are to the old primary, which goes on reading.
    ledger: SqlLedger = open_ledger(ledger_url)
    with ledger.database.reading() as kept:
        kept.execute(text("SET default_transaction_read_only = on"))
    with pytest.raises(LedgerUnavailable, match=r"takes no writes now.*let DATABASE_URL name the primary"):
        ledger.accept(request_for())
    assert ledger.accept(request_for()).created
    ledger.close()
