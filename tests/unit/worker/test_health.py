"""The probe of a role: the age of a file decides, and a dead broker is never the role's fault."""

from __future__ import annotations

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from celery.signals import heartbeat_sent, worker_init, worker_ready, worker_shutting_down

from worker import health, signals
from worker.__main__ import main as worker_main
from worker.health import WITHIN_S, health_file, is_alive, main, ready_file, touch


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whether something listens where the broker should be; asked only when the file is old."""
    state = {"answers": True}
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://:pw@broker:6379/0")
    monkeypatch.setattr(health, "broker_answers", lambda _url: state["answers"])
    return state


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_role_that_touched_its_file_is_alive(tmp_path: Path) -> None:
    path = health_file(tmp_path, "drift")
    assert not is_alive(path, within_s=10)
    touch(path)
    assert is_alive(path, within_s=10)
    age(path, 11)
    assert not is_alive(path, within_s=10)


def test_a_fresh_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "broker_answers", lambda _url: pytest.fail("asked although the file is fresh"))
    touch(health_file(tmp_path, "drift"))
    assert main(["drift"]) == 0


def test_a_role_that_stands_still_is_not_alive(
    tmp_path: Path, broker: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    path = health_file(tmp_path, "drift")
    touch(path)
    age(path, WITHIN_S + 1)
    assert broker["answers"]
    assert main(["drift"]) == 1
    assert f"drift: {path} was not touched for 180 s" in capsys.readouterr().err


@pytest.mark.parametrize("started", [True, False])
def test_a_worker_that_waits_for_its_broker_is_left_alone(
    tmp_path: Path, broker: dict[str, bool], started: bool
) -> None:
    if started:
        touch(health_file(tmp_path, "drift"))
        age(health_file(tmp_path, "drift"), WITHIN_S + 1)
    broker["answers"] = False
    assert main(["drift"]) == 0


def test_one_role_says_nothing_about_another(tmp_path: Path, broker: dict[str, bool]) -> None:
    touch(health_file(tmp_path, "drift"))
    assert broker["answers"]
    assert main(["promote"]) == 1


def test_the_probe_wants_a_role(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "ROLE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("dumb-init --single-child -- python -m worker train.cpu", "train.cpu"),
        ("/sbin/docker-init -- python -m config.secret_files mlflow server --port=5000", "mlflow"),
        ("python -m cli.app migrate", None),
        ("", None),
    ],
)
def test_a_containers_role_is_known_by_its_first_process(command: str, role: str | None) -> None:
    assert health.role_of(command.split()) == role


def test_a_page_is_alive_while_it_says_200(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"/healthz": 200}

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer[self.path])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("ACIS_ADMIN_PORT", str(server.server_port))
        assert main(["admin"]) == 0
        answer["/healthz"] = 503
        assert main(["admin"]) == 1
        server.shutdown()
    assert main(["admin"]) == 1
    assert "admin: /healthz does not say 200" in capsys.readouterr().err


def test_each_heartbeat_of_a_worker_touches_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_NAME", "train.cpu")
    signals._alive_file.cache_clear()
    try:
        heartbeat_sent.send(sender=None)
    finally:
        signals._alive_file.cache_clear()
    assert is_alive(tmp_path / "run" / "alive-train.cpu", within_s=10)


def test_a_role_is_ready_once_it_has_come_up_and_until_it_is_asked_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKER_NAME", "drift-a")
    drained: list[Path] = []
    # The real one would end this process in 14 s.
    monkeypatch.setattr(signals, "begin_drain", drained.append)
    for known in (signals._alive_file, signals._ready_file):
        known.cache_clear()
    try:
        worker_init.send(sender=None)
        touch(health_file(tmp_path, "drift-a"))
        assert (main(["drift-a"]), main(["drift-a", "--ready"])) == (0, 1)
        assert "it starts" in capsys.readouterr().err
        worker_ready.send(sender=None)
        assert main(["drift-a", "--ready"]) == 0
        worker_shutting_down.send(sender=None, how="Warm")
        assert drained == [tmp_path]
        assert (main(["drift-a"]), main(["drift-a", "--ready"])) == (0, 1)
    finally:
        for known in (signals._alive_file, signals._ready_file):
            known.cache_clear()


def test_a_role_that_starts_again_is_neither_alive_nor_ready_by_the_files_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.execv", lambda *_: None)
    monkeypatch.setattr("os.umask", lambda _: 0)
    for name in ("WORKER_NAME", "WORKER_ROLE"):
        monkeypatch.setenv(name, "")
    files = [of(tmp_path, role) for role in ("drift", "drift-a") for of in (health_file, ready_file)]
    for path in files:
        touch(path)
    worker_main(["drift"])
    assert [path.name for path in files if path.exists()] == ["alive-drift-a", "ready-drift-a"]


@pytest.mark.parametrize("arguments", [["drift", "--redy"], ["--ready"], ["drift", "--ready", "--ready"]])
def test_a_probe_that_is_asked_wrongly_says_so(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_a_file_of_a_clock_that_was_ahead_does_not_stand_for_a_role_that_hangs(tmp_path: Path) -> None:
    path = health_file(tmp_path, "drift")
    touch(path)
    age(path, -7200)
    assert not is_alive(path, within_s=10)
