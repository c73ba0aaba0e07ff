"""${message}."""

from __future__ import annotations

import sqlalchemy as sa

from mlops.ledger.columns import Json, Timestamp
from mlops.ledger.migrations import steps

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Newer, by steps: each commits by itself and finds what it has done already."""
    ${upgrades if upgrades else "pass"}
