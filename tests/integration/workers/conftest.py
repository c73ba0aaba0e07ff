"""A control and a drift worker as they run in production, on real Redis and PostgreSQL, and a clock to move.

The workers are started once for all tests of the folder; each test names its own runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr
from sqlalchemy import text

from config.settings import Settings
from mlops.bootstrap import Services
from mlops.domain.records import RunView
from mlops.ledger.engine import Database
from tasks.broker import lists_of
from tasks.services import connect
from tests.support.features import postgres_table
from tests.support.ledgers import as_user, with_movable_clock
from tests.support.processes import environment_of, started
from tests.support.servers import as_redis_user
from tests.support.services import panel
from worker.app import celery_config

DEADLINE_S = 20.0
N_WORKERS = 2
STRATEGIES = """
[defaults.data]
as_of = "latest"
min_current_rows = 40
[defaults.schedule]
drift_check = ""
retrain = ""
[strategies.growth]
[strategies.empty]
"""


def eventually(fact: Callable[[], Any], what: str, *, within_s: float = DEADLINE_S) -> Any:
    """What `fact` gives once it is true."""
    until = time.monotonic() + within_s
    while not (found := fact()):
        assert time.monotonic() < until, f"not within {within_s:.0f} s: {what}"
        threading.Event().wait(0.05)
    return found


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The running system as a test sees it."""

    services: Services
    app: Celery
    """Ours, as the reconciler has it."""
    caller: Celery
    """A bare client, as another code base has it."""
    features_url: str
    logs: Path

    def log(self, role: str) -> str:
        """All that a worker said."""
        return (self.logs / f"{role}.log").read_text(errors="replace")

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass on the database's clock."""
        database: Database = self.services.ledger.database
        with database.transaction() as connection:
            connection.execute(text("UPDATE moved.shift SET by = by + make_interval(secs => :s)"), {"s": seconds})

    def run(self, run_id: str) -> RunView:
        return self.services.ledger.run(run_id)

    def start(self, **arguments: Any) -> Any:
        """`drift.check` by name; its AsyncResult."""
        return self.caller.send_task("drift.check", kwargs={"check_only": True, **arguments}, queue="control")

    def checking(self) -> int | None:
        """Process of the drift worker's child that works on a bell; None while it is idle."""
        answers = self.app.control.inspect(timeout=2.0, limit=N_WORKERS).active() or {}
        bells = [bell for worker, bells in answers.items() if worker.startswith("drift@") for bell in bells]
        return int(bells[0]["worker_pid"]) if bells else None

    def wait_idle(self) -> None:
        """Until no message waits or is worked on."""

        def is_idle() -> bool:
            inspect = self.app.control.inspect(timeout=2.0, limit=N_WORKERS)
            held = [inspect.active(), inspect.reserved()]
            with self.app.connection_for_read() as connection:
                length = connection.default_channel.client.llen
                waiting = sum(length(one) for queue in ("control", "drift") for one in lists_of(queue))
            return not waiting and all(answer and not any(answer.values()) for answer in held)

        eventually(is_idle, "the workers are idle")


def app_of(settings: Settings) -> Celery:
    """As `create_app`, without becoming this process's default."""
    app = Celery("acis", set_as_current=False)
    app.conf.update(celery_config(settings, None))
    return app


@pytest.fixture(scope="package")
def worker_settings(
    redis_server: str,
    redis_numbers: Iterator[int],
    postgres_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    """Settings of the workers: a ledger whose clock moves, features in a database of their own."""
    folder = tmp_path_factory.mktemp("workers")
    strategies = folder / "strategies.toml"
    strategies.write_text(STRATEGIES)
    return Settings(
        database_url=SecretStr(with_movable_clock(postgres_database())),
        feature_source=SecretStr(postgres_table(panel(), postgres_database())),
        celery_broker_url=SecretStr(f"{redis_server}/{next(redis_numbers)}"),
        celery_result_backend=SecretStr(f"{redis_server}/{next(redis_numbers)}"),
        mlflow_tracking_uri=None,
        strategies_file=strategies,
        var_dir=folder / "var",
        report_dir=folder,
        drift_concurrency=1,
    )


@pytest.fixture(scope="package")
def workers(worker_settings: Settings) -> Iterator[Workers]:
    """The running system."""
    settings, database = worker_settings, worker_settings.database_url
    assert database is not None
    broker, backend, features = settings.celery_broker_url, settings.celery_result_backend, settings.feature_source
    assert broker is not None
    assert backend is not None
    assert features is not None
    logs = settings.report_dir
    control, drift = (
        environment_of(
            settings.model_copy(
                update={
                    "celery_broker_url": SecretStr(as_redis_user(broker.get_secret_value(), role)),
                    "celery_result_backend": SecretStr(as_redis_user(backend.get_secret_value(), role)),
                    "database_url": SecretStr(as_user(database.get_secret_value(), "acis_ledger")),
                }
            )
        )
        for role in ("control", "drift")
    )
    with (
        started(["worker", "control"], control, logs / "control.log"),
        started(["worker", "drift"], drift, logs / "drift.log"),
    ):
        running = Workers(
            services=connect(settings),
            app=app_of(settings),
            caller=Celery(broker=broker.get_secret_value(), backend=backend.get_secret_value(), set_as_current=False),
            features_url=features.get_secret_value(),
            logs=logs,
        )

        def both_answer() -> bool:
            return len(running.app.control.inspect(timeout=0.5, limit=N_WORKERS).ping() or {}) == N_WORKERS

        try:
            eventually(both_answer, "both workers answer", within_s=90.0)
        except AssertionError:
            pytest.fail("\n".join((logs / f"{role}.log").read_text()[-3000:] for role in ("control", "drift")))
        yield running
        running.caller.close()
        running.app.close()
        running.services.ledger.close()
