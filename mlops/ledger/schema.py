"""The schema's migrations, run from the program: `acis migrate`, `make run`, the tests; read by `acis doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

from mlops.ledger.engine import Database

VERSION_TABLE = "mlops_alembic_version"
"""Not Alembic's default: MLflow keeps its own migrations in `alembic_version`, maybe of the same database."""

_MIGRATION_LOCK = 0x61636974  # one process migrates, the others wait and find it done


@dataclass(frozen=True, kw_only=True)
class SchemaState:
    """Where the database's schema is."""

    current: str | None
    """Newest migration that was run; None: no tables yet."""
    head: str
    """Newest migration that this program has."""

    @property
    def is_current(self) -> bool:
        """The program and the database agree."""
        return self.current == self.head


def migrate(url: str) -> SchemaState:
    """Bring the schema to this program's newest; safe to call from several processes, and again.

    Raises LedgerUnavailable, ConfigurationError.
    """
    database = Database(url)
    try:
        with database.transaction() as connection:
            if database.is_postgresql:
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config = _config(connection)
            command.upgrade(config, "head")
            return _state(connection)
    finally:
        database.close()


def schema_state(url: str) -> SchemaState:
    """Current and newest migration. Raises LedgerUnavailable, ConfigurationError."""
    database = Database(url)
    try:
        with database.reading() as connection:
            return _state(connection)
    finally:
        database.close()


def _state(connection: Connection) -> SchemaState:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    head = ScriptDirectory.from_config(_config(connection)).get_current_head()
    return SchemaState(current=context.get_current_revision(), head=head or "")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
