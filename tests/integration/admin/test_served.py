"""The page as a process, on a real PostgreSQL and a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from mlops.domain.records import Kind, RunRequest, Stage
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from tests.support.admin_server import START_S, served, sign_in, start
from tests.support.waiting import wait_for

LIVE_S = 1.0
"""What is promised from an event to an open page."""


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[SqlLedger]:
    migrate(postgres_url)
    opened = open_ledger(postgres_url)
    yield opened
    opened.close()


def test_the_first_user_is_made_once_and_live_progress_arrives_within_a_second(
    ledger: SqlLedger, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    values = {
        "DATABASE_URL": postgres_url,
        "CELERY_BROKER_URL": redis_url,
        "ACIS_ADMIN_AUTH": "root:a first password",
    }
    with served(tmp_path, **values) as home:
        session = sign_in(home, "root", "a first password")
        took = [live_s(session, home, redis_url, number) for number in range(5)]
        assert max(took) < LIVE_S
    ledger.set_password("root", "changed on the page")
    with served(tmp_path, **values) as home:
        sign_in(home, "root", "changed on the page")


def live_s(session: requests.Session, home: str, redis_url: str, number: int) -> float:
    """From a worker's word in Redis to an open page."""
    progress = {"stage": "train", "done": number, "total": 9, "unit": "rounds", "left_s": None}
    told = {"task_id": "r", "status": "PROGRESS", "result": progress}
    with (
        redis.Redis.from_url(redis_url) as client,
        session.get(f"{home}/admin/events", stream=True, timeout=20) as page,
    ):
        lines = page.iter_lines(chunk_size=1)
        next(lines)
        wait_for(lambda: client.publish("celery-task-meta-r", "no result") > 0, "the page listens", within_s=10)
        began = time.monotonic()
        client.publish("celery-task-meta-r", json.dumps(told))
        for line in lines:
            if line == b"data: " + json.dumps({"type": "progress", "run_id": "r", **progress}).encode():
                return time.monotonic() - began
    raise AssertionError("the stream ended without the event")


def test_what_begins_in_the_ledger_alone_reaches_an_open_page(
    ledger: SqlLedger, postgres_url: str, tmp_path: Path
) -> None:
    """No Redis at all: runs are accepted, and the page shows them."""
    with served(tmp_path, DATABASE_URL=postgres_url, ACIS_ADMIN_AUTH="root:a first password") as home:
        session = sign_in(home, "root", "a first password")
        with session.get(f"{home}/admin/events", stream=True, timeout=20) as page:
            lines = page.iter_lines(chunk_size=1)
            next(lines)
            request = RunRequest(strategy="growth", kind=Kind.CHECK, policy={}, reason="r", requested_by="t")
            run_id = ledger.accept(request).run_id
            assert ledger.claim(run_id, Stage.DRIFT, worker="w") is not None
            event = next(json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
        assert event == {"type": "changed", "run_id": run_id}
        assert "no broker is configured" in session.get(f"{home}/admin/").text


def test_an_end_does_not_wait_for_open_pages(ledger: SqlLedger, postgres_url: str, tmp_path: Path) -> None:
    with served(tmp_path, DATABASE_URL=postgres_url, ACIS_ADMIN_AUTH="root:a first password") as home:
        session = sign_in(home, "root", "a first password")
        page = session.get(f"{home}/admin/events", stream=True, timeout=20)
        next(page.iter_lines(chunk_size=1))
        began = time.monotonic()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "DATABASE_URL is not set"),
        (
            {"DATABASE_URL": "postgresql://nobody@localhost/x", "ACIS_ADMIN_AUTH": "root:short"},
            "at least 12 characters",
        ),
    ],
)
def test_what_it_cannot_start_with_is_said_in_words(tmp_path: Path, values: dict[str, str], words: str) -> None:
    process = start(tmp_path, **values)
    try:
        assert process.wait(START_S) == 2
    finally:
        process.kill()
    assert words in (tmp_path / "admin.log").read_text()
