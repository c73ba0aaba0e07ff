"""A Redis that refuses: something else stands where a queue should be, or it takes no writes. No worker ends by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from config.settings import Settings
from tests.integration.workers.conftest import Workers, app_of, eventually
from tests.integration.workers.test_unreadable import main_processes
from tests.support.servers import as_redis_user
from worker import publications
from worker.publications import tidy_queues
from worker.replies import drop_bindings_of_the_gone


@pytest.fixture
def reconciler(worker_settings: Settings) -> Iterator[Celery]:
    """The reconciler's application, as its own user in Redis."""
    broker = worker_settings.celery_broker_url
    assert broker is not None
    url = SecretStr(as_redis_user(broker.get_secret_value(), "reconciler"))
    with app_of(worker_settings.model_copy(update={"celery_broker_url": url})) as app:
        yield app


@pytest.mark.parametrize("key", ["control", "unacked", "unacked_index", "unrouted"])
def test_a_key_of_another_type_ends_no_worker(workers: Workers, reconciler: Celery, key: str) -> None:
    workers.wait_idle()
    with workers.app.connection_for_write() as connection:
        client: Any = connection.default_channel.client
        pids = main_processes(workers)
        client.delete(key)
        client.set(key, "in its place")
        client.rpush("drift", "no json")
        eventually(lambda: key != "control" or "queue.key_replaced" in workers.log("control"), "the worker meets it")
        assert main_processes(workers) == pids
        if key in {"control", "unrouted"}:
            assert tidy_queues(reconciler) == [key]
        assert workers.start(strategy="growth", as_of=None).get(timeout=60)["state"] == "succeeded"
        assert main_processes(workers) == pids, "no worker ended"
        assert tidy_queues(reconciler) == []
        client.delete("unrouted")


def test_a_lock_without_an_end_is_taken_away(workers: Workers, reconciler: Celery) -> None:
    """While it stands, no worker gives back what others have left unacknowledged."""
    workers.wait_idle()
    with workers.app.connection_for_write() as connection:
        client: Any = connection.default_channel.client
        client.set("unacked_mutex", "nobody's")
        assert tidy_queues(reconciler) == ["unacked_mutex"]
        client.set("unacked_mutex", "a worker's", ex=60)
        assert tidy_queues(reconciler) == []
        client.delete("unacked_mutex")


def test_the_newest_dead_letters_are_kept(
    workers: Workers, reconciler: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publications, "MOST_LETTERS", 3)
    with workers.app.connection_for_write() as connection:
        client: Any = connection.default_channel.client
        client.lpush("unrouted", *range(5))
        tidy_queues(reconciler)
        assert client.lrange("unrouted", 0, -1) == [b"4", b"3", b"2"]
        client.delete("unrouted")


def test_a_redis_that_became_a_replica_ends_no_worker(workers: Workers) -> None:
    """As after a failover in which the old primary is still found under its name for a while."""
    workers.wait_idle()
    pids = main_processes(workers)
    said = {role: len(workers.log(role)) for role in ("control", "drift")}
    with workers.app.connection_for_write() as connection:
        client: Any = connection.default_channel.client
        client.replicaof("127.0.0.1", 1)
        try:
            for role, before in said.items():
                eventually(
                    lambda role=role, before=before: "read only replica" in workers.log(role)[before:],
                    f"{role} meets it",
                )
        finally:
            client.replicaof("NO", "ONE")
        assert workers.start(strategy="growth", as_of=None).get(timeout=60)["state"] == "succeeded"
        assert main_processes(workers) == pids


def test_a_workers_name_is_its_own_and_what_a_killed_one_leaves_is_taken_away(workers: Workers) -> None:
    names = set(main_processes(workers))
    assert all(re.fullmatch(r"(control|drift)@.+\.[0-9a-f]{8}", name) for name in names)
    with workers.app.connection_for_write() as connection:
        client: Any = connection.default_channel.client
        key = "_kombu.binding.celery.pidbox"
        before = client.smembers(key)
        (entry, *_) = [one.decode() for one in before]
        killed = re.sub(r"\.[0-9a-f]{8}(?=\.celery)", ".deadbeef", entry)
        client.sadd(key, killed)
        assert drop_bindings_of_the_gone(workers.app, workers.services.ledger, alive=names) == 1
        assert client.smembers(key) == before
