"""The lease keeper: its renewals, what they answer, and when a stage may still write. Time is the test's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from mlops.domain.errors import LeaseLost, LedgerUnavailable, StageCancelled
from mlops.domain.ports import Ledger, Progress
from mlops.domain.records import Executor, Grant, Kind, Renewal, Stage
from mlops.runs import lease as lease_keeper
from mlops.runs.lease import Drained, Holder, LeaseKeeper

NOW = datetime(2020, 1, 1, tzinfo=UTC)
GRANT = Grant(
    run_id="run-1", stage=Stage.TRAIN, token=1, attempt=1, publish_no=1, lease_until=NOW + timedelta(seconds=60),
    deadline=NOW + timedelta(hours=1), strategy="growth", kind=Kind.TRAIN, namespace="live", as_of=None, policy={},
    params={}, reason="a test", requested_by="test", executor=Executor.CELERY, inputs={},
)  # fmt: skip
DEADLINE_S = 10.0


@dataclass
class FakeLedger:
    """Answers renewals as it is told, and keeps what they said."""

    error: Exception | None = None
    cancel: bool = False
    drain: bool = False
    progress: list[dict[str, Any] | None] = field(default_factory=list)
    asked: threading.Condition = field(default_factory=threading.Condition)

    def renew(self, grant: Grant, *, progress: dict[str, Any] | None = None, worker: str | None = None) -> Renewal:
        with self.asked:
            self.progress.append(progress)
            self.asked.notify_all()
        if self.error is not None:
            raise self.error
        return Renewal(lease_until=NOW, cancel=self.cancel, drain=self.drain)

    def await_renewals(self, count: int) -> None:
        with self.asked:
            assert self.asked.wait_for(lambda: len(self.progress) >= count, DEADLINE_S), "no renewal came"


@dataclass
class Time:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def keeper(ledger: FakeLedger, clock: Time, monkeypatch: pytest.MonkeyPatch) -> Iterator[LeaseKeeper]:
    """A keeper of a 60 s lease, renewed every 10 s of the test's time; its thread looks every millisecond."""
    monkeypatch.setattr(lease_keeper, "PROGRESS_EVERY_S", 0.001)
    with LeaseKeeper(
        cast("Ledger", ledger), GRANT, Holder(worker="w1", lease_s=60.0, renew_s=10.0), monotonic=clock
    ) as running:
        yield running


def test_an_error_that_nobody_foresaw_does_not_end_the_renewals(
    keeper: LeaseKeeper, ledger: FakeLedger, clock: Time
) -> None:
    ledger.error = RuntimeError("a driver's own")
    clock.now = 10.0
    ledger.await_renewals(2)
    ledger.error = None
    eventually(lambda: keeper._confirmed_at == 10.0)
    keeper.check_before_write()


def eventually(fact: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not fact():
        assert time.monotonic() < until, "it did not come true"
        threading.Event().wait(0.001)


def raised_by(keeper: LeaseKeeper) -> Exception | None:
    try:
        keeper.check()
    except Exception as exc:  # noqa: BLE001 -- the test looks at it
        return exc
    return None


def test_nothing_is_renewed_before_it_is_due(ledger: FakeLedger, clock: Time, keeper: LeaseKeeper) -> None:
    clock.now = 9.9
    keeper.report(Progress(done=1, total=2))  # a message that shows that the thread has looked
    ledger.await_renewals(1)
    clock.now = 19.8  # 9.9 s after that renewal
    keeper.report(Progress(done=2, total=2))
    ledger.await_renewals(2)
    assert ledger.progress == [{"done": 1, "total": 2, "unit": "rounds"}, {"done": 2, "total": 2, "unit": "rounds"}]


def test_each_renewal_counts_from_when_it_was_asked_for(ledger: FakeLedger, clock: Time, keeper: LeaseKeeper) -> None:
    for count in range(1, 8):
        clock.now = 10.0 * count
        ledger.await_renewals(count)
    keeper.check_before_write()


def test_the_newest_progress_is_sent_without_waiting_for_a_renewal(ledger: FakeLedger, keeper: LeaseKeeper) -> None:
    keeper.report(Progress(done=40, total=100, left_s=3.1))
    ledger.await_renewals(1)
    assert ledger.progress == [{"done": 40, "total": 100, "unit": "rounds", "left_s": 3.1}]


def test_a_renewal_that_fails_is_tried_again_and_the_stage_goes_on(
    ledger: FakeLedger, clock: Time, keeper: LeaseKeeper
) -> None:
    ledger.error = LedgerUnavailable("PostgreSQL restarts")
    clock.now = 30.0
    ledger.await_renewals(3)
    keeper.check()
    keeper.check_before_write()  # 30 s of silence are fewer than 45
    ledger.error = None
    eventually(lambda: keeper._confirmed_at == 30.0)
    clock.now = 60.0
    keeper.check_before_write()


@pytest.mark.parametrize(("silent_s", "may_write"), [(44.9, True), (45.0, True), (45.1, False), (3600.0, False)])
def test_after_45_of_60_seconds_without_a_confirmed_renewal_nothing_is_written(
    ledger: FakeLedger, clock: Time, keeper: LeaseKeeper, silent_s: float, *, may_write: bool
) -> None:
    ledger.error = LedgerUnavailable()
    clock.now = silent_s
    keeper.check()  # it may still compute
    if may_write:
        keeper.check_before_write()
    else:
        with pytest.raises(LeaseLost, match="nothing is written"):
            keeper.check_before_write()


def test_a_process_that_was_stopped_between_claim_and_work_has_an_old_lease(ledger: FakeLedger) -> None:
    holder = Holder(worker="w1", lease_s=60.0, renew_s=10.0)
    woken = LeaseKeeper(cast("Ledger", ledger), GRANT, holder, asked_at=100.0, monotonic=lambda: 145.1)
    with pytest.raises(LeaseLost, match="nothing is written"):
        woken.check_before_write()


def test_a_lease_that_another_took_stops_the_stage_and_the_renewals(
    ledger: FakeLedger, clock: Time, keeper: LeaseKeeper
) -> None:
    ledger.error = LeaseLost("token 2 holds it")
    clock.now = 10.0
    eventually(lambda: isinstance(raised_by(keeper), LeaseLost))
    eventually(lambda: not keeper._thread.is_alive())
    with pytest.raises(LeaseLost, match="token 2"):
        keeper.check_before_write()


def test_a_cancelled_run_stops_the_stage(ledger: FakeLedger, clock: Time, keeper: LeaseKeeper) -> None:
    ledger.cancel = True
    clock.now = 10.0
    eventually(lambda: isinstance(raised_by(keeper), StageCancelled))


def test_a_draining_worker_stops_the_stage(ledger: FakeLedger, clock: Time, keeper: LeaseKeeper) -> None:
    ledger.drain = True
    clock.now = 10.0
    eventually(lambda: isinstance(raised_by(keeper), Drained))


def test_cancel_wins_over_drain(ledger: FakeLedger, clock: Time, keeper: LeaseKeeper) -> None:
    ledger.cancel = ledger.drain = True
    clock.now = 10.0
    eventually(lambda: isinstance(raised_by(keeper), StageCancelled))


def test_the_thread_ends_with_the_stage_even_if_it_fails(ledger: FakeLedger) -> None:
    keeper = LeaseKeeper(cast("Ledger", ledger), GRANT, Holder(worker="w1", lease_s=60.0, renew_s=10.0))
    with pytest.raises(ZeroDivisionError), keeper:
        raise ZeroDivisionError
    assert not keeper._thread.is_alive()


def test_a_stage_that_stops_is_told_again_each_time_it_asks(
    ledger: FakeLedger, clock: Time, keeper: LeaseKeeper
) -> None:
    ledger.cancel = True
    clock.now = 10.0
    eventually(lambda: raised_by(keeper) is not None)
    assert isinstance(raised_by(keeper), StageCancelled)
    with pytest.raises(StageCancelled):
        keeper.check_before_write()
