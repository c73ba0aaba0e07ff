"""Fixtures that every test may use; servers start only for tests that ask for one."""

from __future__ import annotations

from hypothesis import settings

from tests.support.servers import (
    mlflow_url,
    postgres_database,
    postgres_server,
    postgres_url,
    redis_numbers,
    redis_server,
    redis_url,
    servers_folder,
)

# A first example imports and compiles, and the machine may be shared: time is no property of ours.
settings.register_profile("acis", deadline=None)
settings.load_profile("acis")

__all__ = [
    "mlflow_url",
    "postgres_database",
    "postgres_server",
    "postgres_url",
    "redis_numbers",
    "redis_server",
    "redis_url",
    "servers_folder",
]
