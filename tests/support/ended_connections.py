"""A server that ends its connections."""

from __future__ import annotations

from sqlalchemy import text

from mlops.ledger.engine import Database


def end_other_connections(url: str) -> None:
    """All of that database but the one that asks; they are gone when this returns."""
    database = Database(url)
    with database.transaction() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    database.close()
