"""What the doctor says of servers that lose what they were given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis

from mlops.diagnosis.doctor import broker_durability, database_durability
from mlops.ledger.engine import Database


def test_a_postgresql_that_does_not_sync_is_an_error(postgres_url: str) -> None:
    database = Database(postgres_url)  # the tests' server skips fsync
    (answer,) = database_durability(database)
    database.close()
    assert answer.level == "error"
    assert "fsync, full_page_writes, synchronous_commit off" in answer.found


class Replicated:
    """A PostgreSQL with standbys, as its catalogue shows them."""

    def __init__(self, *states: str) -> None:
        self._states = states

    @contextmanager
    def reading(self) -> Iterator[Any]:
        standbys = [SimpleNamespace(application_name=f"b{n}", sync_state=state) for n, state in enumerate(self._states)]
        yield SimpleNamespace(scalar=lambda _: "on", execute=lambda _: SimpleNamespace(all=lambda: standbys))


@pytest.mark.parametrize(
    ("states", "subjects"),
    [((), ["durability"]), (("async", "async"), ["failover", "durability"]), (("sync", "async"), ["durability"])],
)
def test_standbys_that_all_lag_are_a_warning(states: tuple[str, ...], subjects: list[str]) -> None:
    answers = list(database_durability(cast("Database", Replicated(*states))))
    assert [answer.subject for answer in answers] == subjects


def test_a_redis_that_evicts_is_an_error_and_one_without_a_file_a_warning(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert [answer.level for answer in broker_durability(client)] == ["ok"]
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        try:
            found = {answer.level: answer.found for answer in broker_durability(client)}
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("appendonly", "yes")
    assert "allkeys-lru" in found["error"]
    assert "no append-only file" in found["warning"]
