"""What the reconciler does about the queues themselves."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from mlops.domain.records import Kind, Sent, Stage, WorkerBeat
from tasks.publish import task_id_of
from tests.support.ledgers import TimedLedger, request_for
from tests.support.services import fake_services, small_strategy
from worker.publications import GPU_SEEN_WITHIN_S, alarm_unrouted, take_back_from_gone_gpu


def test_a_training_that_waits_for_a_gone_gpu_worker_is_handed_out_again(tmp_path: Path, timed: TimedLedger) -> None:
    services = fake_services(tmp_path, timed, small_strategy())
    ledger = timed.ledger
    accepted = ledger.accept(request_for("growth", Kind.RETRAIN))
    assert accepted.publication is not None
    sent = Sent(publication=accepted.publication, queue="train.gpu", task_id=task_id_of(accepted.publication))
    ledger.published([sent])
    ledger.worker_seen(
        WorkerBeat(
            name="train.gpu@host", role="train.gpu", queues=("train.gpu",), device="gpu", pid=1, host="host",
            concurrency=1,
        )
    )  # fmt: skip
    assert take_back_from_gone_gpu(services) == 0
    timed.advance(GPU_SEEN_WITHIN_S + 1)
    assert take_back_from_gone_gpu(services) == 1
    assert [due.stage for due in ledger.due_publications({})] == [Stage.TRAIN]


def test_dead_letters_are_alarmed() -> None:
    with capture_logs() as logs:
        alarm_unrouted({"unrouted": 2})
        alarm_unrouted({"unrouted": 0})
        alarm_unrouted(None)
    assert [(entry["event"], entry["messages"]) for entry in logs] == [("queue.unrouted_not_empty", 2)]
