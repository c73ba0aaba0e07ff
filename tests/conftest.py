"""Fixtures that every test may use; servers start only for tests that ask for one."""

from __future__ import annotations

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
