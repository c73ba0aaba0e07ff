"""The page as a process, on a real PostgreSQL and a real Redis."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import requests

from config.settings import ROOT, variables
from devstack.ports import choose_port
from mlops.domain.records import Kind, RunRequest, Stage
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from tests.support.waiting import wait_for

START_S = 60.0
LIVE_S = 1.0
"""What is promised from an event to an open page."""


def environment(**values: str) -> dict[str, str]:
    ours = set(variables())
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **values}


def start(folder: Path, **values: str) -> subprocess.Popen[bytes]:
    with (folder / "admin.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "worker", "admin"],
            cwd=ROOT,
            env=environment(ACIS_VAR_DIR=str(folder), **values),
            stdout=log,
            stderr=log,
        )


@contextmanager
def served(folder: Path, **values: str) -> Iterator[str]:
    """Its address, once it answers."""
    port = choose_port()
    process = start(folder, ACIS_ADMIN_PORT=str(port), **values)
    home = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "admin.log").read_text()
        try:
            return requests.get(f"{home}/healthz", timeout=1).ok
        except requests.RequestException:
            return False

    try:
        wait_for(answers, "the page answers", within_s=START_S)
        yield home
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[SqlLedger]:
    migrate(postgres_url)
    opened = open_ledger(postgres_url)
    yield opened
    opened.close()


def sign_in(home: str, name: str, password: str) -> requests.Session:
    session = requests.Session()
    session.headers["accept"] = "text/html"
    csrf = re.search(r'name="csrf" value="([^"]+)"', session.get(f"{home}/admin/sign-in").text)
    assert csrf
    fields = {"csrf": csrf[1], "name": name, "password": password}
    assert session.post(f"{home}/admin/sign-in", data=fields).ok
    return session


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
