"""The supervised stack: real servers on free ports, killed, brought back, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis
from sqlalchemy.engine import make_url

from config.endpoints import Endpoints, process_birth, read_endpoints
from devstack.layout import Layout, Ports, choose_ports
from devstack.mlflow import mlflow_answers
from devstack.plan import StackOptions
from devstack.ports import HeldPorts, choose_port
from devstack.postgres import postgres_answers
from devstack.process import leftovers
from devstack.redis import redis_answers
from devstack.stack import Stack, remove_var, stop_running
from devstack.status import ServiceStatus, stack_status
from devstack.supervise import ProgramState
from mlops.domain.errors import AlreadyRunning, ServerFailed
from tests.support.servers import origin
from tests.support.waiting import wait_for

DEADLINE_S = 60.0


@pytest.fixture
def var_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="acis-test-stack-") as folder:
        var = Path(folder) / "var with space;%s"
        yield var
        stop_running(Layout(var_dir=var))
        remove_var(Layout(var_dir=var))


def options(var_dir: Path, **more: object) -> StackOptions:
    return StackOptions(
        **{
            "var_dir": var_dir,
            "strategies_file": var_dir / "strategies.toml",
            "origin": origin(),
            "mlflow_port": choose_port(),
            "flower_port": choose_port(),
            "admin_port": choose_port(),
            "roles": (),
            **more,
        }  # type: ignore[arg-type]
    )


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def test_killed_servers_come_back_and_nothing_is_left_at_the_end(var_dir: Path) -> None:
    prepared: list[Endpoints] = []

    def prepare(endpoints: Endpoints) -> None:
        assert redis_answers(endpoints.celery_broker_url)
        assert postgres_answers(endpoints.database_url)
        prepared.append(endpoints)

    stack = Stack(options(var_dir), prepare=prepare)
    try:
        endpoints = stack.start()
        stack.wait_healthy()
        assert prepared == [endpoints]
        assert read_endpoints(var_dir) == endpoints

        with redis.Redis.from_url(endpoints.celery_broker_url) as client:
            client.set("kept", "yes")
        everyone = family(endpoints.supervisor_pid)
        before = {name: state.pid for name, state in supervised(stack).items()}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        wait_for(
            lambda: all(new_pid(stack, name, pid) for name, pid in before.items()), "new processes", within_s=DEADLINE_S
        )
        wait_for(lambda: redis_answers(endpoints.celery_broker_url), "Redis answers again", within_s=DEADLINE_S)
        wait_for(lambda: postgres_answers(endpoints.database_url), "PostgreSQL answers again", within_s=DEADLINE_S)
        wait_for(
            lambda: mlflow_answers(endpoints.mlflow_tracking_uri, endpoints.mlflow_auth),
            "MLflow answers again",
            within_s=DEADLINE_S,
        )
        everyone += family(endpoints.supervisor_pid)
    finally:
        begun = time.monotonic()
        stack.stop()
        took = time.monotonic() - begun
    assert took < 15
    # PostgreSQL's own children end a moment after it
    _, alive = psutil.wait_procs([one for one in everyone if one.pid != os.getpid()], timeout=5)
    assert alive == []
    assert leftovers(var_dir) == []
    assert read_endpoints(var_dir) is None

    # the data outlives the stack, and the next start is on the same ports
    again = Stack(options(var_dir))
    try:
        second = again.start()
        assert (second.database_url, second.celery_broker_url) == (endpoints.database_url, endpoints.celery_broker_url)
        with redis.Redis.from_url(second.celery_broker_url, decode_responses=True) as client:
            assert client.get("kept") == "yes"
    finally:
        again.stop()


def supervised(stack: Stack) -> dict[str, ProgramState]:
    supervisor, _, _ = stack._running()
    return supervisor.states()


def new_pid(stack: Stack, name: str, old: int) -> bool:
    return supervised(stack)[name].pid not in (0, old)


ONLY_REDIS = {"database_url": "postgresql://nobody@127.0.0.1:1/none", "mlflow_tracking_uri": "http://127.0.0.1:1"}


def test_a_second_start_says_that_one_runs_and_where(var_dir: Path) -> None:
    stack = Stack(options(var_dir, **ONLY_REDIS))
    try:
        endpoints = stack.start()
        with pytest.raises(AlreadyRunning, match=r"runs already, since .* MLflow http://127.0.0.1:1, Flower http"):
            Stack(options(var_dir, **ONLY_REDIS)).start()
        with pytest.raises(AlreadyRunning):
            remove_var(Layout(var_dir=var_dir))
        assert redis_answers(endpoints.celery_broker_url)
    finally:
        stack.stop()
    assert not redis_answers(endpoints.celery_broker_url)


def test_a_failing_preparation_leaves_nothing_running(var_dir: Path) -> None:
    seen: list[Endpoints] = []

    def fail(endpoints: Endpoints) -> None:
        seen.append(endpoints)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Stack(options(var_dir, **ONLY_REDIS), prepare=fail).start()
    assert leftovers(var_dir) == []
    assert process_birth(seen[0].supervisor_pid) != seen[0].supervisor_birth
    assert read_endpoints(var_dir) is None


def test_a_role_that_keeps_failing_is_named_with_the_end_of_its_log(var_dir: Path) -> None:
    stack = Stack(options(var_dir, roles=("no-such-role",), **ONLY_REDIS))
    try:
        stack.start()
        with pytest.raises(ServerFailed, match=r"worker-no-such-role keeps failing(.|\n)*usage: python -m worker ROLE"):
            stack.wait_healthy()
        assert [trouble.name for trouble in stack.troubles()] == ["worker-no-such-role"]
    finally:
        stack.stop()


STARTER = """
import sys, time
from pathlib import Path
from devstack.plan import StackOptions
from devstack.stack import Stack
from devstack.status import ServiceStatus, stack_status
from devstack.supervise import ProgramState

var = Path(sys.argv[1])
stack = Stack(StackOptions(
    var_dir=var, strategies_file=var, origin=sys.argv[2], database_url="postgresql://x@127.0.0.1:1/x",
    mlflow_tracking_uri="http://127.0.0.1:1", roles=(),
))
stack.start()
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def starter(var_dir: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(var_dir), origin()], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere `stop_running` is what ends it")
def test_everything_ends_when_its_starter_is_killed(var_dir: Path, starter: subprocess.Popen[str]) -> None:
    assert leftovers(var_dir)
    starter.kill()
    starter.wait()
    wait_for(lambda: leftovers(var_dir) == [], "no process left", within_s=DEADLINE_S)
    wait_for(lambda: read_endpoints(var_dir) is None, "no announcement left", within_s=DEADLINE_S)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere `stop_running` is what ends it")
def test_servers_end_when_the_supervisor_is_killed(var_dir: Path, starter: subprocess.Popen[str]) -> None:
    running = read_endpoints(var_dir)
    assert running
    os.kill(running.supervisor_pid, signal.SIGKILL)
    wait_for(lambda: leftovers(var_dir) == [], "no process left", within_s=DEADLINE_S)


def test_a_stack_is_stopped_from_another_terminal(var_dir: Path, starter: subprocess.Popen[str]) -> None:
    assert stop_running(Layout(var_dir=var_dir))
    assert leftovers(var_dir) == []
    assert read_endpoints(var_dir) is None
    assert not stop_running(Layout(var_dir=var_dir))


def test_another_terminal_sees_what_runs_where_and_whether_it_answers(
    var_dir: Path, starter: subprocess.Popen[str]
) -> None:
    layout = Layout(var_dir=var_dir)

    def seen() -> dict[str, ServiceStatus]:
        return {one.name: one for one in stack_status(layout).services}

    before = seen()["redis"]
    status = stack_status(layout)
    assert (status.state, status.pid, status.answers) == ("serving", starter.pid, False)
    assert not seen()["postgres"].answers  # the user's, at an address where nobody is
    assert (seen()["postgres"].state, seen()["postgres"].address) == ("given", "127.0.0.1:1/x")
    assert before.state in ("starting", "running")  # for its first second
    assert (before.answers, before.restarts) == (True, 0)
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_for(lambda: seen()["redis"].answers and seen()["redis"].pid != before.pid, "it is back", within_s=DEADLINE_S)
    assert seen()["redis"].restarts == 1
    assert seen()["redis"].since >= before.since  # type: ignore[operator]
    # One that is stopped, and so holds its port, answers nothing.
    now = seen()["redis"].pid
    assert now is not None
    os.kill(now, signal.SIGSTOP)
    assert not seen()["redis"].answers
    os.kill(now, signal.SIGCONT)
    assert stop_running(layout)
    stopped = stack_status(layout)
    assert (stopped.state, stopped.services, stopped.answers) == ("stopped", [], False)
    assert starter.wait(DEADLINE_S) is not None


def test_a_starter_that_does_not_stop_is_ended_by_force_with_all_it_started(
    var_dir: Path, starter: subprocess.Popen[str]
) -> None:
    os.kill(starter.pid, signal.SIGSTOP)
    assert stop_running(Layout(var_dir=var_dir), timeout_s=0.5)
    assert leftovers(var_dir) == []
    assert starter.wait(DEADLINE_S) is not None


def test_a_port_lost_to_a_stranger_while_a_server_starts_is_left_to_it(
    var_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers: list[socket.socket] = []

    def choose_and_lose(layout: Layout, held: HeldPorts, **wanted: Any) -> Ports:
        ports = choose_ports(layout, held, **wanted)
        if not strangers:  # as a server, with SO_REUSEADDR
            strangers.append(socket.create_server(("127.0.0.1", ports.redis)))
        return ports

    monkeypatch.setattr("devstack.stack.choose_ports", choose_and_lose)
    told: list[tuple[str, str]] = []
    stack = Stack(options(var_dir, **ONLY_REDIS))
    try:
        url = stack.start(lambda name, what: told.append((name, what))).celery_broker_url
        lost = strangers[0].getsockname()[1]
        assert make_url(url).port != lost
        assert redis_answers(url)
        assert ("redis", f"port {lost} was taken by another program; starting on another one") in told
    finally:
        stack.stop()
        strangers[0].close()


def test_a_start_that_stands_still_is_given_up_with_the_log_of_this_start_alone(var_dir: Path) -> None:
    layout = Layout(var_dir=var_dir)
    layout.make()
    layout.log("redis").write_text("words of an earlier start\n")
    stack = Stack(options(var_dir, **ONLY_REDIS), ready={"the moon": lambda: False})
    try:
        stack.start()
        with pytest.raises(ServerFailed, match=r"nothing moved for the last \d+ s: the moon"):
            stack.wait_healthy(stall_s=0.5)
        assert "earlier start" not in stack._said("redis", lines=1000)
    finally:
        stack.stop()
    assert "words of an earlier start" in layout.log("redis").read_text()


def test_databases_are_the_stacks_own_and_guarded(var_dir: Path) -> None:
    stack = Stack(options(var_dir, mlflow_tracking_uri="http://127.0.0.1:1", celery_broker_url="redis://127.0.0.1:1/0"))
    try:
        url = make_url(stack.start().database_url)
        assert url.database == "acis"
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(host=url.host, port=url.port, user=url.username, dbname=url.database, password="wrong")
    finally:
        stack.stop()
    assert remove_var(Layout(var_dir=var_dir))
    assert not var_dir.exists()
