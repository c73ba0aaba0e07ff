"""What lies in the transport's dead letters."""

from __future__ import annotations

import json

from tests.integration.workers.conftest import Workers
from worker.bells import drop_late_replies
from worker.routing import UNROUTED


def letter(exchange: str) -> str:
    return json.dumps({"body": "", "properties": {"delivery_info": {"exchange": exchange, "routing_key": "x"}}})


def test_answers_that_came_too_late_are_no_dead_letters_and_tasks_are(workers: Workers) -> None:
    with workers.app.connection_for_write() as connection:
        client = connection.default_channel.client
        client.rpush(UNROUTED, letter("reply.celery.pidbox"), letter(""), "no json", letter("reply.celery.pidbox"))
        try:
            assert drop_late_replies(workers.app) == 2
            assert client.llen(UNROUTED) == 2
        finally:
            client.delete(UNROUTED)
