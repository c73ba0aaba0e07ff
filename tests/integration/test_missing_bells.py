"""Bells after the broker lost everything: all of them at once, and none where nobody knows what it has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery

from mlops.domain.records import Sent
from mlops.ledger import reconciliation
from tasks.publish import task_id_of
from tests.support.ledgers import request_for
from tests.support.services import FakeServices
from worker import publications as bells
from worker.publications import MARK, broker_seen, republish

N_RUNS = 7


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    app = Celery(broker=redis_url, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def sent(services: FakeServices, app: Celery) -> FakeServices:
    """Runs whose bells were sent, to a broker that has been emptied since."""
    _send_and_lose(services, app)
    return services


def _send_and_lose(services: FakeServices, app: Celery) -> None:
    republish(app, services, services.dispatcher)  # it is known from now on
    for number in range(N_RUNS):
        publication = services.ledger.accept(request_for(f"s{number}")).publication
        assert publication is not None
        services.ledger.published([Sent(publication=publication, queue="drift", task_id=task_id_of(publication))])
    with app.connection_for_write() as connection:
        connection.default_channel.client.flushall()


def test_all_lost_bells_are_rung_at_once_however_many_the_ledger_hands_out(
    sent: FakeServices, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (bells, reconciliation):
        monkeypatch.setattr(module, "PASS_LIMIT", 3)
    assert republish(app, sent, sent.dispatcher) == N_RUNS
    assert len({publication.run_id for publication in sent.sent}) == N_RUNS
    assert republish(app, sent, sent.dispatcher) == 0


def test_a_broker_whose_queues_cannot_be_counted_is_not_marked(
    sent: FakeServices, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(bells, "queue_lengths", lambda _: None)
        assert republish(app, sent, sent.dispatcher) == 0
    seen = broker_seen(app)
    assert seen is not None
    assert seen.change == "emptied"
    assert republish(app, sent, sent.dispatcher) == N_RUNS


def test_a_broker_that_was_restarted_since_the_look_shows_at_the_next_one(
    sent: FakeServices, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = broker_seen(app)
    assert seen is not None
    republish(app, sent, sent.dispatcher)
    with app.connection_for_write() as connection:
        client = connection.default_channel.client
        client.set(MARK, client.get(MARK).replace(seen.server.encode(), b"the process before"))
    again = broker_seen(app)
    assert again is not None
    assert again.change == "restarted"
