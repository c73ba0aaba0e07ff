"""What Alembic runs: on the connection that `mlops.ledger.schema` opened, whose statements commit by themselves."""

from __future__ import annotations

from alembic import context

from mlops.ledger.schema import VERSION_TABLE
from mlops.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
