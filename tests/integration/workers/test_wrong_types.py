"""Something else stands where a queue should be: no worker ends by it, and the reconciler takes it away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.workers.conftest import Workers, eventually
from tests.integration.workers.test_unreadable import main_processes
from worker import publications
from worker.publications import tidy_queues


@pytest.mark.parametrize("key", ["control", "unacked", "unacked_index", "unrouted"])
def test_a_key_of_another_type_ends_no_worker(workers: Workers, key: str) -> None:
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
            assert tidy_queues(workers.app) == [key]
        assert workers.start(strategy="growth", as_of=None).get(timeout=60)["state"] == "succeeded"
        assert main_processes(workers) == pids, "no worker ended"
        assert tidy_queues(workers.app) == []
        client.delete("unrouted")


def test_the_newest_dead_letters_are_kept(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publications, "MOST_LETTERS", 3)
    with workers.app.connection_for_write() as connection:
        client: Any = connection.default_channel.client
        client.lpush("unrouted", *range(5))
        tidy_queues(workers.app)
        assert client.lrange("unrouted", 0, -1) == [b"4", b"3", b"2"]
        client.delete("unrouted")
