"""What a page sees of Redis: how long the queues are, and what workers tell of their progress."""

from __future__ import annotations

import json
import queue
from dataclasses import replace

import redis
from celery import Celery
from kombu import Connection
from pydantic import SecretStr

from config.settings import Settings
from mlops.bootstrap import Services
from mlops.domain.ports import Progress
from mlops.domain.records import Publication, Stage
from tasks.broker import QUEUES, UNROUTED, Broker
from tasks.progress import ProgressFeed, RunUpdate, store_progress
from tasks.publish import CeleryDispatcher, publisher
from tests.support.waiting import wait_for
from worker import routing
from worker.publications import queue_lengths

NOBODY = "redis://127.0.0.1:1/0"


def test_the_queues_are_those_of_the_routing() -> None:
    assert set(QUEUES) == {queue.name for queue in routing.QUEUES}
    assert routing.UNROUTED == UNROUTED


def test_the_depths_are_the_messages_that_wait(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("drift", "a", "b")
    view = Broker(Settings(celery_broker_url=SecretStr(redis_url))).look()
    assert view.depths == {**dict.fromkeys(QUEUES, 0), "drift": 2}


def test_what_comes_back_is_got_before_what_waits_for_its_first_turn_and_counts_with_it(
    redis_url: str, ledger_postgres_url: str
) -> None:
    settings = Settings(celery_broker_url=SecretStr(redis_url), database_url=SecretStr(ledger_postgres_url))
    dispatcher = CeleryDispatcher(publisher(Services(settings)), Services(settings))
    first = Publication(run_id="", stage=Stage.PROMOTE, publish_no=1, strategy="growth", device="cpu")
    sent = [replace(first, run_id="first-1"), replace(first, run_id="first-2")]
    sent += [replace(first, run_id=name, publish_no=2, keeps_its_place=True) for name in ("back-1", "back-2")]
    for publication in sent:
        assert dispatcher.publish(publication)
    depths = Broker(settings).look().depths
    assert depths is not None
    assert depths["promote"] == 4
    assert (queue_lengths(Celery(broker=redis_url)) or {})["promote"] == 4
    got = []
    with Connection(redis_url) as connection, connection.SimpleQueue("promote") as waiting:
        for _ in sent:
            message = waiting.get(timeout=5)
            message.ack()
            got.append(message.payload[1]["run_id"])
    assert got == ["back-1", "back-2", "first-1", "first-2"]


def test_without_redis_the_reason_is_said() -> None:
    assert Broker(Settings()).look().depths is None
    view = Broker(Settings(celery_broker_url=SecretStr(NOBODY))).look()
    assert view.depths is None
    assert view.error.startswith("Redis does not answer")


def test_progress_and_the_end_of_a_run_are_told_as_they_are_stored(redis_url: str) -> None:
    heard: queue.Queue[RunUpdate] = queue.Queue()
    feed = ProgressFeed(Settings(celery_broker_url=SecretStr(redis_url)), heard.put)
    feed.start()
    try:
        wait_for(lambda: feed.is_connected, "the feed listens", within_s=10)
        app = Celery("told", broker=redis_url, backend=redis_url, set_as_current=False)
        store_progress(app, "run-1", Stage.TRAIN, Progress(done=3, total=10, left_s=1.5))
        with redis.Redis.from_url(redis_url) as client:
            # As Celery tells that a result is there.
            client.publish("celery-task-meta-run-1", json.dumps({"task_id": "run-1", "status": "SUCCESS"}))
            client.publish("celery-task-meta-x", "no JSON")
        told = heard.get(timeout=5)
        assert told.run_id == "run-1"
        assert told.progress is not None
        assert (told.progress["stage"], told.progress["done"], told.progress["left_s"]) == ("train", 3, 1.5)
        assert heard.get(timeout=5) == RunUpdate(run_id="run-1", progress=None)
        assert heard.empty()
    finally:
        feed.stop()
        feed.join(5)


def test_the_feed_waits_for_a_redis_that_is_not_there() -> None:
    feed = ProgressFeed(Settings(celery_broker_url=SecretStr(NOBODY)), lambda _: None)
    feed.start()
    feed.stop()
    feed.join(10)
    assert not feed.is_alive()
