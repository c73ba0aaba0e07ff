"""Alembic's folder; `mlops.ledger.schema` runs it."""
