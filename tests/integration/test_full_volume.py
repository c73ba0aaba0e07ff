"""A stack whose volume is full: it lives on, says which volume it is, and space that comes back is enough."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg2
import pytest
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from typer.testing import CliRunner

from cli.app import app
from devstack.layout import Layout
from devstack.plan import StackOptions
from devstack.ports import choose_port
from devstack.postgres import postgres_answers
from devstack.redis import redis_answers
from devstack.stack import Stack, remove_var, stop_running
from devstack.supervise import ProgramState
from mlops.domain.errors import LedgerUnavailable
from mlops.ledger.ledger import open_ledger
from mlops.ledger.schema import migrate
from mlops.volumes import volume_of
from tests.support.servers import origin
from tests.support.volumes import SmallVolume, small_volume, why_no_volume
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(why_no_volume() is not None, reason=str(why_no_volume()))

WITHIN_S = 90.0


@pytest.fixture
def volume() -> Iterator[SmallVolume]:
    with tempfile.TemporaryDirectory(prefix="acis-full-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's account must reach it
        with small_volume(Path(folder) / "volume", megabytes=400) as mounted:
            layout = Layout(var_dir=mounted.mount / "var")
            try:
                yield mounted
            finally:
                stop_running(layout)
                remove_var(layout)


def writes(url: str) -> bool:
    """PostgreSQL takes a megabyte of rows, and the log of it."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS filled (t text)"))
            connection.execute(
                text("INSERT INTO filled SELECT repeat(md5(n::text), 32) FROM generate_series(1, 9000) n")
            )
    except (SQLAlchemyError, psycopg2.Error):
        return False
    finally:
        engine.dispose()
    return True


def stores(url: str) -> bool:
    """Redis takes a key."""
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.set("key", "x" * 100_000))
        except redis.RedisError:
            return False


def test_a_stack_outlives_its_volume_being_full_and_goes_on_when_there_is_space(
    volume: SmallVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    var_dir = volume.mount / "var"
    options = StackOptions(
        var_dir=var_dir,
        strategies_file=var_dir / "strategies.toml",
        origin=origin(),
        mlflow_tracking_uri="http://127.0.0.1:1",
        flower_port=choose_port(),
        admin_port=choose_port(),
        roles=("control", "reconciler"),
    )
    stack = Stack(options, prepare=lambda found: _prepare(found.database_url))
    try:
        endpoints = stack.start()
        stack.wait_healthy()

        def states() -> dict[str, ProgramState]:
            return stack._running()[0].states()

        before = {name: state.pid for name, state in states().items()}
        assert stack.full_volumes() == []

        volume.fill()
        # Both servers must write and cannot: Redis refuses, PostgreSQL's log needs a new file.
        wait_for(lambda: not stores(endpoints.celery_broker_url), "Redis is out of room", within_s=WITHIN_S)
        wait_for(lambda: not writes(endpoints.database_url), "PostgreSQL is out of room", within_s=WITHIN_S)
        worker, refused = states()["worker-control"], refusals(endpoints.celery_broker_url)
        wait_for(
            lambda: refusals(endpoints.celery_broker_url) > refused + 5, "Redis refuses the worker", within_s=WITHIN_S
        )
        now = states()["worker-control"]
        assert (now.pid, now.starts) == (worker.pid, worker.starts)  # it waits, as for a Redis that is away

        volume.fill()  # what they gave up
        for path in stack.layout.log_dir.glob("*.log"):  # a page that a file has begun takes some lines yet
            with path.open("ab", buffering=0) as log, suppress(OSError):
                while True:
                    log.write(b"\n")
        # Much to write for the supervisor: what ends, and what is tried again and says why it cannot.
        for pid in before.values():
            with suppress(ProcessLookupError):  # PostgreSQL may have ended by itself
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: all(one.starts > 1 for one in states().values()), "all are started again", within_s=WITHIN_S)
        ledger = open_ledger(endpoints.database_url)
        with suppress(LedgerUnavailable):  # in words, whichever way PostgreSQL fails
            ledger.runs()
        (full,) = stack.full_volumes()
        assert full.mount == volume.mount
        assert full.free_bytes < 1_000_000
        assert f"the volume at {volume.mount} " in str(full)

        monkeypatch.setenv("ACIS_VAR_DIR", str(var_dir))
        said = CliRunner().invoke(app, ["status"])
        assert f"✗ the volume at {volume.mount} " in said.output
        assert stack._running()[0].is_alive()
        assert states().keys() == before.keys()

        volume.free()
        wait_for(lambda: postgres_answers(endpoints.database_url), "PostgreSQL answers", within_s=WITHIN_S)
        wait_for(lambda: writes(endpoints.database_url), "PostgreSQL takes rows", within_s=WITHIN_S)
        wait_for(lambda: redis_answers(endpoints.celery_broker_url), "Redis answers", within_s=WITHIN_S)
        wait_for(lambda: stores(endpoints.celery_broker_url), "Redis takes a key", within_s=WITHIN_S)
        stack.wait_healthy()
        assert not volume_of(var_dir).is_full
        ledger.close()
        logs = "".join(path.read_text(errors="replace") for path in stack.layout.log_dir.glob("*.log"))
        assert "Traceback" not in logs, logs[logs.index("Traceback") :][:3000]
    finally:
        volume.free()
        stack.stop()


def refusals(url: str) -> int:
    """Errors that Redis has answered with so far."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("stats")["total_error_replies"])


def _prepare(url: str) -> None:
    migrate(url)
