"""Something else stands where a queue should be: no worker ends by it, and the reconciler takes it away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.workers.conftest import Workers, eventually
from tests.integration.workers.test_unreadable import main_processes
from worker.publications import delete_replaced_keys


@pytest.mark.parametrize("key", ["control", "unacked", "unacked_index"])
def test_a_key_of_another_type_ends_no_worker(workers: Workers, key: str) -> None:
    workers.wait_idle()
    with workers.app.connection_for_write() as connection:
        client: Any = connection.default_channel.client
        pids = main_processes(workers)
        client.delete(key)
        client.set(key, "in its place")
        eventually(lambda: key != "control" or "queue.key_replaced" in workers.log("control"), "the worker meets it")
        assert main_processes(workers) == pids
        if key == "control":
            assert delete_replaced_keys(workers.app) == [key]
        assert workers.start(strategy="growth", as_of=None).get(timeout=60)["state"] == "succeeded"
        assert main_processes(workers) == pids, "no worker ended"
        assert delete_replaced_keys(workers.app) == []
