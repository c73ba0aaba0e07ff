"""Processes of the running stack are killed, as a machine short of memory does."""

from __future__ import annotations

from dataclasses import replace

import psutil
from celery import Celery
from sqlalchemy import create_engine, text

from mlops.domain.policies import Strategy
from mlops.domain.records import Accepted, Kind, RunRequest, RunState, Stage, StageState
from mlops.domain.run_states import TERMINAL
from mlops.runs.request import run_request
from mlops.strategies.file import snapshot
from tests.support.served_stack import LEASE_S, ServedStack
from tests.support.waiting import wait_for

#: Some seconds of training on one core, so that it can be killed in its middle.
ROUNDS = 2000


def queued(stack: ServedStack, request: RunRequest) -> Accepted:
    stack.rest()
    accepted = stack.services.ledger.accept(request)
    assert accepted.created
    assert accepted.publication is not None
    stack.services.dispatcher.publish(accepted.publication)
    return accepted


def slow(strategy: Strategy) -> Strategy:
    training = replace(strategy.training, params={**strategy.training.params, "n_estimators": ROUNDS})
    return replace(strategy, training=training)


def lease_left_s(stack: ServedStack, run_id: str) -> float:
    engine = create_engine(stack.endpoints.database_url)
    question = text(
        "SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM mlops_stage"
        " WHERE run_id = :run_id AND stage = 'train' AND state = 'running'"
    )
    try:
        with engine.connect() as connection:
            return float(connection.execute(question, {"run_id": run_id}).scalar_one())
    finally:
        engine.dispose()


def test_a_training_whose_worker_is_killed_finishes_with_one_promotion_and_one_version(stack: ServedStack) -> None:
    ledger = stack.services.ledger
    strategy = stack.services.strategies["dividend"]
    request = run_request(
        stack.services.strategies, "dividend", Kind.RETRAIN, reason="its worker is killed", requested_by="test"
    )
    run_id = queued(stack, replace(request, policy=snapshot(slow(strategy)))).run_id

    def is_boosting() -> bool:
        view = ledger.run(run_id)
        assert view.state not in TERMINAL, f"it ended {view.state} before it could be killed: {view.outcome}"
        progress = view.stages[-1].progress or {}
        return progress.get("unit") == "rounds" and 0 < progress["done"] < ROUNDS

    wait_for(is_boosting, "the training is in its middle", within_s=60)
    assert 0 < lease_left_s(stack, run_id) <= LEASE_S
    worker = stack.processes("worker-train-cpu")
    assert len(worker) >= 2  # the main process and its child
    for process in worker:
        process.kill()
    psutil.wait_procs(worker, timeout=5)
    assert ledger.run(run_id).stages[-1].state is StageState.RUNNING  # nobody could say that it died

    wait_for(lambda: ledger.run(run_id).state in TERMINAL, "the run ends", within_s=120)
    view = ledger.run(run_id)
    assert view.state in (RunState.SUCCEEDED, RunState.REFUSED), view.outcome
    train = next(stage for stage in view.stages if stage.stage is Stage.TRAIN)
    assert (train.token, train.attempt, train.state) == (2, 2, StageState.SUCCEEDED)
    assert len([one for one in ledger.promotions("dividend") if one.run_id == run_id]) == 1
    versions = stack.services.registry.versions(strategy.model_name)
    assert len([version for version in versions if version.tags.get("run_id") == run_id]) == 1


def test_redis_comes_back_after_a_kill_and_a_queued_run_finishes(stack: ServedStack) -> None:
    ledger = stack.services.ledger
    killed = stack.processes("redis") or [
        process
        for process in psutil.process_iter()
        if process.name() in ("redis-server", "valkey-server") and process.cwd() == str(stack.var_dir / "redis")
    ]
    assert len(killed) == 1
    killed[0].kill()
    request = run_request(
        stack.services.strategies, "momentum", Kind.CHECK, reason="Redis is killed", requested_by="test"
    )
    run_id = queued(stack, request).run_id
    wait_for(lambda: ledger.run(run_id).state in TERMINAL, "the run ends", within_s=90)
    assert ledger.run(run_id).state is RunState.SUCCEEDED
    app = Celery("bare", backend=stack.endpoints.celery_result_backend, set_as_current=False)
    assert app.AsyncResult(run_id).get(timeout=15)["state"] == "succeeded"
    assert not killed[0].is_running()
