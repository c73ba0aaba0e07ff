"""What becomes of one run: its worker dies, is drained, poisoned or hung, or somebody cancels it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from celery import Celery
from typer.testing import CliRunner

from cli.app import app
from config.settings import ROOT
from mlops.domain.records import Kind, RunState, RunView, Stage, StageState
from mlops.domain.run_states import TERMINAL
from mlops.registry.registry import DIGEST_TAG
from mlops.runs.request import run_request
from tasks import publish
from tests.chaos.system import CANARY, LONG, LONG_ROUNDS, ChaosSystem
from tests.support.processes import Role, environment_of
from tests.support.waiting import wait_for

ENDS_WITHIN_S = 90.0
DRAINED_WITHIN_S = 15.0


@pytest.fixture(autouse=True)
def nothing_is_armed(system: ChaosSystem) -> Iterator[None]:
    # Of two workers that train, one may still be starting again after the test before: it could take nothing over.
    wait_for(system.is_ready, "all workers answer", within_s=90.0)
    yield
    for path in system.failpoints.iterdir():
        path.unlink()


def ask(system: ChaosSystem, strategy: str, kind: Kind = Kind.TRAIN) -> str:
    services = system.services
    accepted = services.ledger.accept(
        run_request(services.strategies, strategy, kind, reason="survival", requested_by="test")
    )
    assert accepted.created
    assert accepted.publication is not None
    assert services.dispatcher.publish(accepted.publication)
    return accepted.run_id


def ended(system: ChaosSystem, run_id: str, *, within_s: float = ENDS_WITHIN_S) -> RunView:
    wait_for(lambda: system.services.ledger.run(run_id).state in TERMINAL, f"run {run_id} ends", within_s=within_s)
    return system.services.ledger.run(run_id)


def training(system: ChaosSystem, run_id: str, *, share: float) -> Callable[[], bool]:
    """The training is so far."""

    def asked() -> bool:
        view = system.services.ledger.run(run_id)
        assert view.state not in TERMINAL, view.outcome
        progress = view.stages[-1].progress or {}
        return progress.get("unit") == "rounds" and progress["done"] >= share * progress["total"]

    return asked


def holder(system: ChaosSystem, run_id: str) -> Role:
    name = str(system.services.ledger.run(run_id).stages[-1].worker)
    return next(role for role in system.roles.all if name.startswith(f"{role.name}@"))


def dies_of(cause: str, view: RunView) -> bool:
    """The cause, or that its worker fell silent: on a machine under load the suite's short lease runs out first."""
    error = str(view.stages[0].error)
    return cause in error or "stopped renewing the lease" in error


def digest(system: ChaosSystem, run_id: str) -> str:
    """Of the model that the run registered."""
    version = system.services.registry.find_by_ledger_run(f"acis_{LONG}_classifier", run_id)
    assert version is not None
    return version.tags[DIGEST_TAG]


# --------------------------------------------------------------------------- death and drain


def test_a_training_killed_late_goes_on_elsewhere_and_gives_the_same_bytes(system: ChaosSystem) -> None:
    undisturbed = ask(system, LONG)
    ended(system, undisturbed)
    killed = ask(system, LONG)
    wait_for(training(system, killed, share=0.8), "four fifths are done", within_s=60.0, every_s=0.02)
    os.kill(holder(system, killed).pid, signal.SIGKILL)
    view = ended(system, killed)
    assert view.state is RunState.SUCCEEDED
    (stage,) = view.stages
    assert stage.token == 2
    # Of the twin's rounds and the refit's together; the twin's are not boosted again.
    rounds, _, of_refit = str((stage.result or {})["resumed_from"]).removeprefix("rounds-").partition(" ")
    assert of_refit == "of the refit"
    assert LONG_ROUNDS + int(rounds) >= 0.7 * 2 * LONG_ROUNDS
    assert digest(system, killed) == digest(system, undisturbed)


def test_a_command_that_follows_a_run_outlives_services_without_endpoints(system: ChaosSystem, tmp_path: Path) -> None:
    """As while their pods are moved: PostgreSQL and Redis refuse connections, and an ingress answers in MLflow's place."""
    page = b"<html><body>404 page not found</body></html>"
    said = tmp_path / "said"
    servers = system.servers
    with said.open("wb") as err:
        following = subprocess.Popen(
            [sys.executable, "-m", "cli.app", "train", LONG, "--queue"],
            env=environment_of(system.settings),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=err,
        )
        try:
            wait_for(lambda: system.services.ledger.runs(states=[RunState.RUNNING]), "the training runs", within_s=60.0)
            servers.mlflow_proxy.answer(
                b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                % (len(page), page)
            )
            for proxy in (servers.postgres_proxy, servers.redis_proxy):
                proxy.refuse()
            wait_for(lambda: b"Waiting up to 600 s" in said.read_bytes(), "the command waits", within_s=60.0)
        finally:
            for proxy in (servers.postgres_proxy, servers.redis_proxy, servers.mlflow_proxy):
                proxy.pass_on()
            try:
                following.wait(ENDS_WITHIN_S)
            finally:
                following.kill()
    words = said.read_text()
    assert following.returncode == 0, words
    assert "PostgreSQL is back" in words


def test_a_drained_worker_is_gone_in_time_and_another_takes_over_at_once(system: ChaosSystem) -> None:
    run_id = ask(system, LONG)
    wait_for(training(system, run_id, share=0.3), "the training runs", within_s=60.0, every_s=0.02)
    first = holder(system, run_id)
    process = psutil.Process(first.pid)
    began = time.monotonic()
    process.terminate()
    gone, _ = psutil.wait_procs([process], timeout=DRAINED_WITHIN_S)
    assert gone, f"it runs {DRAINED_WITHIN_S:.0f} s after SIGTERM"
    left_s = wait_for(
        lambda: system.services.ledger.run(run_id).stages[-1].token == 2, "somebody else has it", within_s=10.0
    )
    assert time.monotonic() - began - left_s < DRAINED_WITHIN_S
    view = ended(system, run_id)
    (stage,) = view.stages
    # A drain uses up no attempt, and what was boosted is not boosted again.
    assert (view.state, stage.attempt, stage.token) == (RunState.SUCCEEDED, 1, 2)
    assert (stage.result or {})["resumed_from"]


def test_a_worker_that_is_ended_from_flowers_page_drains_too(system: ChaosSystem) -> None:
    run_id = ask(system, LONG)
    wait_for(training(system, run_id, share=0.2), "the training runs", within_s=60.0, every_s=0.02)
    process = psutil.Process(holder(system, run_id).pid)
    caller = Celery("flower", broker=system.servers.redis_url, set_as_current=False)
    caller.control.shutdown(destination=[str(system.services.ledger.run(run_id).stages[-1].worker)])
    caller.close()
    gone, _ = psutil.wait_procs([process], timeout=DRAINED_WITHIN_S)
    assert gone
    (stage,) = ended(system, run_id).stages
    assert (stage.attempt, stage.token) == (1, 2)


def test_a_worker_is_gone_in_time_while_redis_is_down(system: ChaosSystem) -> None:
    role = system.roles.of("drift")[0]
    process = psutil.Process(role.pid)
    system.servers.redis_proxy.refuse()
    try:
        process.terminate()
        gone, _ = psutil.wait_procs([process], timeout=DRAINED_WITHIN_S)
        assert gone
    finally:
        system.servers.redis_proxy.pass_on()
    assert ended(system, ask(system, CANARY, Kind.CHECK)).state is RunState.SUCCEEDED


# --------------------------------------------------------------------------- poison


def test_a_training_that_kills_its_process_is_dead_in_words_and_its_worker_lives_on(system: ChaosSystem) -> None:
    starts = {role.name: role.starts for role in system.roles.of("train.cpu")}
    runs = {name: ask(system, name) for name in ("killed", "gone", "greedy")}
    views = {name: ended(system, run_id) for name, run_id in runs.items()}
    for view in views.values():
        (stage,) = view.stages
        assert (view.state, stage.state, stage.attempt) == (RunState.DEAD, StageState.DEAD, 3)
    assert dies_of("signal 9 (SIGKILL)", views["killed"])
    assert dies_of("exitcode 7", views["gone"])
    assert "Unable to allocate" in str(views["greedy"].stages[0].error)
    assert {role.name: role.starts for role in system.roles.of("train.cpu")} == starts
    assert ended(system, ask(system, CANARY)).state is RunState.SUCCEEDED


def test_dead_runs_are_listed_and_brought_back_by_command(
    system: ChaosSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment_of(system.services.settings).items():
        monkeypatch.setenv(name, value)
    command = CliRunner()
    run_id = ask(system, "killed")
    ended(system, run_id)
    listed = command.invoke(app, ["runs", "--dead", "--json"])
    assert run_id in {view["run_id"] for view in json.loads(listed.output)}
    back = command.invoke(app, ["requeue", run_id])
    assert (back.exit_code, back.output.strip()) == (0, f"Run {run_id}: queued")
    assert ended(system, run_id).state is RunState.DEAD


def test_a_stage_that_hangs_in_native_code_is_ended(system: ChaosSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "SOFT_AFTER_S", 1)
    monkeypatch.setattr(publish, "KILL_AFTER_S", 2)
    run_id = ask(system, "hung")
    wait_for(
        lambda: system.services.ledger.run(run_id).stages[0].state is StageState.RUNNING, "it hangs", within_s=30.0
    )
    children = {child.pid for child in holder(system, run_id).children()}
    view = ended(system, run_id)
    assert view.state is RunState.DEAD
    assert "hung past the deadline" in str(view.stages[0].error)
    # All but the tracker of its semaphores.
    wait_for(lambda: not all(psutil.pid_exists(pid) for pid in children), "its process is killed", within_s=20.0)


# --------------------------------------------------------------------------- cancel


def test_a_training_is_cancelled_at_its_next_round(system: ChaosSystem) -> None:
    run_id = ask(system, LONG)
    wait_for(training(system, run_id, share=0.1), "the training runs", within_s=60.0, every_s=0.02)
    system.services.ledger.cancel(run_id, actor="somebody")
    view = ended(system, run_id, within_s=10.0)
    assert view.state is RunState.CANCELLED
    assert system.services.registry.find_by_ledger_run(f"acis_{LONG}_classifier", run_id) is None


def test_a_run_is_cancelled_while_all_workers_are_down(system: ChaosSystem) -> None:
    workers = system.roles.of("train.cpu")
    run_id = ask(system, LONG)
    wait_for(training(system, run_id, share=0.1), "the training runs", within_s=60.0, every_s=0.02)
    with system.roles.held_back(workers):
        for role in workers:
            os.kill(role.pid, signal.SIGKILL)
        waiting = ask(system, CANARY)
        system.services.ledger.cancel(waiting, actor="somebody")
        assert ended(system, waiting, within_s=5.0).state is RunState.CANCELLED
        system.services.ledger.cancel(run_id, actor="somebody")
        assert ended(system, run_id, within_s=20.0).state is RunState.CANCELLED
    assert ended(system, ask(system, CANARY)).stages[0].stage is Stage.TRAIN
