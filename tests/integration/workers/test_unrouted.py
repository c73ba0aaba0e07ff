"""Answers that nobody waits for any more."""

from __future__ import annotations

import json

from tests.integration.workers.conftest import Workers
from worker.replies import KEPT_S, drop_late_replies, let_replies_expire
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


def test_a_queue_of_answers_whose_asker_has_gone_ends_by_itself(workers: Workers) -> None:
    left = "5e5d0c36-0000-3000-8000-000000000000.reply.celery.pidbox"
    with workers.app.connection_for_write() as connection:
        client = connection.default_channel.client
        client.rpush(left, letter("reply.celery.pidbox"))
        try:
            assert let_replies_expire(workers.app) >= 1
            assert 0 < client.ttl(left) <= KEPT_S
            client.expire(left, 5)
            let_replies_expire(workers.app)
            assert client.ttl(left) <= 5, "a second look does not put the end off"
        finally:
            client.delete(left)
