"""Beat and the reconciler outlive whatever goes wrong in one of their rounds."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, cast

import pytest
from celery import Celery
from structlog.testing import capture_logs

from mlops.domain.errors import ConfigurationError, LedgerUnavailable
from tests.support.services import FakeServices
from worker import reconciler, scheduler
from worker.scheduler import LedgerScheduler

ERRORS = [
    LedgerUnavailable("PostgreSQL takes no writes now"),
    ConfigurationError("the ledger lacks its tables"),
    RuntimeError("nobody foresaw it"),
    OSError("no space left on device"),
]


def raising(error: Exception) -> NoReturn:
    raise error


@pytest.fixture
def beat(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> LedgerScheduler:
    monkeypatch.setattr(scheduler, "process_services", lambda: services)
    return LedgerScheduler(Celery("a-beat", set_as_current=False), lazy=True)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("broken", ["newest_policy_edit", "sync_schedule", "schedule", "accept"])
def test_a_tick_of_beat_that_fails_is_told_and_the_next_one_comes(
    beat: LedgerScheduler, services: FakeServices, monkeypatch: pytest.MonkeyPatch, broken: str, error: Exception
) -> None:
    beat.setup_schedule()
    beat.tick()  # the timetable begins
    now = services.ledger.now()
    morning = (now + timedelta(days=2)).replace(hour=5)  # two hours after the daily check, whatever the hour is now
    services.timed.advance((morning - now).total_seconds())
    services.ledger.edit_policy("growth", "drift.alert_share", 0.4, actor="anna", reason="a test")
    with monkeypatch.context() as meanwhile, capture_logs() as logs:
        meanwhile.setattr(services.ledger, broken, lambda *_, **__: raising(error))
        assert beat.tick() > 0
    assert any(str(error) in str(entry.get("error", "")) or entry["event"] == "beat.tick_crashed" for entry in logs)
    beat.tick()
    assert len(services.sent) > 0


def test_a_var_folder_that_cannot_be_written_does_not_end_beat(
    beat: LedgerScheduler, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat.setup_schedule()
    monkeypatch.setattr(scheduler, "touch", lambda _: raising(OSError("no space left on device")))
    assert beat.tick() > 0


@pytest.mark.parametrize(
    ("due_after_s", "pause_s"), [(float("inf"), 30.0), (100.0, 30.0), (12.0, 12.0), (0.1, reconciler.SOONEST_S)]
)
def test_the_next_pass_comes_when_something_is_due_and_no_later_than_usual(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, due_after_s: float, pause_s: float
) -> None:
    stop, pauses = threading.Event(), []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        stop.set()
        return True

    passing = threading.Event()
    monkeypatch.setattr(passing, "wait", wait)
    monkeypatch.setattr(passing, "is_set", stop.is_set)
    for thread in ("RegistryThread", "Housekeeper", "LiveWatch"):
        monkeypatch.setattr(reconciler, thread, lambda *_, **__: threading.Thread())
    monkeypatch.setattr(reconciler, "reconcile", lambda *_: None)
    monkeypatch.setattr(services.ledger, "due_after_s", lambda: due_after_s)
    assert services.settings.reconcile_s == 30.0
    reconciler.run_forever(cast("Celery", None), services, passing)
    assert pauses == [pause_s]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("broken", ["lock", "step", "touch"])
def test_a_pass_of_the_reconciler_that_fails_is_told_and_the_next_one_comes(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str, error: Exception
) -> None:
    stop, rounds = threading.Event(), 0

    def wait(_: float) -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            stop.set()
        return stop.is_set()

    passing = threading.Event()
    monkeypatch.setattr(passing, "wait", wait)
    monkeypatch.setattr(passing, "is_set", stop.is_set)
    for thread in ("RegistryThread", "Housekeeper", "LiveWatch"):
        monkeypatch.setattr(reconciler, thread, lambda *_, **__: threading.Thread())
    monkeypatch.setattr(reconciler, "reconcile", lambda *_: raising(error) if broken == "step" else None)
    if broken == "lock":
        monkeypatch.setattr(services.ledger, "try_reconcile_lock", lambda: raising(error))
    if broken == "touch":
        monkeypatch.setattr(reconciler, "touch", lambda _: raising(error))
    with capture_logs() as logs:
        reconciler.run_forever(cast("Celery", None), services, passing)
    told = [entry["event"] for entry in logs if entry["event"] in ("reconcile.waits", "reconcile.pass_crashed")]
    assert len(told) == 3
