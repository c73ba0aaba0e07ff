"""What a version is known by beside its number, from the evidence where it says so; and what is wrong with a registry.

Programs of the version before go on: they neither read nor write what is new.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mlops.ledger.columns import Timestamp
from mlops.ledger.migrations import steps

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_JUDGED = "('promote', 'refuse', 'keep', 'inconclusive', 'await_approval')"
_SAME_VERSION = "p.namespace = r.namespace AND p.strategy = r.strategy AND p.version = r.version"


def upgrade() -> None:
    """Three columns, filled for decisions of earlier versions, and a table."""
    steps.add_column("mlops_promotion", sa.Column("model_sha256", sa.String(length=64)))
    steps.add_column("mlops_promotion", sa.Column("made_by", sa.String(length=155)))
    steps.add_column("mlops_promotion", sa.Column("trained_as_of", sa.Date()))
    steps.create_table(
        "mlops_registry_finding",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("strategy", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=320), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("found_at", Timestamp, nullable=False),
        sa.Column("settled_at", Timestamp),
        sa.Column("settled_by", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_mlops_registry_finding"),
        sa.UniqueConstraint("strategy", "kind", "key", name="uq_mlops_registry_finding_strategy_kind_key"),
    )
    _digests()
    _makers()
    _dates()


def _digests() -> None:
    """The evidence of what was judged or approved names the digest; what else was decided is about such a version."""
    digest = _text("r.evidence", "model_sha256")
    _fill("model_sha256", digest, where=f"length({digest}) = 64")
    _fill("model_sha256", _only("p.model_sha256", f"mlops_promotion AS p WHERE {_SAME_VERSION}"))


def _makers() -> None:
    """The run that trained and decided, else the only run that trained a version of that number."""
    trained = f"s.stage = 'train' AND s.state = 'succeeded' AND {_text('s.result', 'version')} = r.version"
    _fill(
        "made_by",
        "r.run_id",
        where=f"EXISTS (SELECT 1 FROM mlops_stage AS s WHERE s.run_id = r.run_id AND {trained})",  # noqa: S608 -- constants
    )
    _fill("made_by", _only("s.run_id", f"mlops_stage AS s WHERE s.strategy = r.strategy AND {trained}"))


def _dates() -> None:
    """A judged version's date is its own; a rollback kept the date of the place."""
    _fill("trained_as_of", "r.as_of", where=f"r.decision IN {_JUDGED}")
    _fill("trained_as_of", _only("p.trained_as_of", f"mlops_promotion AS p WHERE {_SAME_VERSION}"))


def _fill(column: str, value: str, *, where: str = "1 = 1") -> None:
    steps.update_rows(
        "mlops_promotion", key="id", setting=f"{column} = {value}", where=f"r.{column} IS NULL AND {where}"
    )


def _only(column: str, source: str) -> str:
    """The one value that there is; NULL where there are two."""
    return f"(SELECT min({column}) FROM {source} HAVING min({column}) = max({column}))"  # noqa: S608 -- constants


def _text(column: str, key: str) -> str:
    """A value of a JSON column, as text."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    return f"{column}->>'{key}'" if is_postgresql else f"json_extract({column}, '$.{key}')"
