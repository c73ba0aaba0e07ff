"""A worker that is asked to end tells its children by a file, and forgets what earlier processes left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from config.settings import ROOT
from tasks.drain import DrainFlag, drain_file
from worker import draining
from worker.draining import begin_drain, forget_drains


class FakeTimer:
    """Never runs by itself."""

    made: list[tuple[float, object]] = []  # noqa: RUF012 -- emptied by the fixture

    def __init__(self, after_s: float, work: object) -> None:
        self.daemon = False
        self.made.append((after_s, work))

    def start(self) -> None:
        assert self.daemon  # else it would hold up the end


@pytest.fixture(autouse=True)
def timers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, object]]:
    FakeTimer.made = []
    monkeypatch.setattr(threading, "Timer", FakeTimer)
    return FakeTimer.made


def gone_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_children_see_that_their_worker_drains_and_only_theirs(tmp_path: Path) -> None:
    own = DrainFlag(drain_file(tmp_path, os.getpid()))
    other = DrainFlag(drain_file(tmp_path, os.getpid() + 1))
    assert (own(), other()) == (False, False)
    begin_drain(tmp_path)
    assert (own(), other()) == (True, False)


def test_a_second_signal_changes_nothing(tmp_path: Path, timers: list[tuple[float, object]]) -> None:
    begin_drain(tmp_path)
    begin_drain(tmp_path)
    assert [after_s for after_s, _ in timers] == [draining.KILL_CHILDREN_AFTER_S, draining.EXIT_AFTER_S]


def test_a_worker_is_gone_within_fifteen_seconds_whatever_hangs() -> None:
    assert draining.KILL_CHILDREN_AFTER_S < draining.EXIT_AFTER_S < 15.0


def test_a_new_worker_forgets_its_own_flag_and_those_of_the_dead(tmp_path: Path) -> None:
    living, dead, mine = os.getppid(), gone_pid(), os.getpid()
    for pid in (living, dead, mine):
        path = drain_file(tmp_path, pid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    elsewhere = tmp_path / "run" / "drain-another-host-1"
    elsewhere.touch()
    (tmp_path / "run" / f"drain-{socket.gethostname()}-2-17").touch()  # of a host whose name begins like ours
    forget_drains(tmp_path)
    assert drain_file(tmp_path, living).exists()  # it still drains
    assert elsewhere.exists()  # a shared folder; its host looks after it
    assert not drain_file(tmp_path, dead).exists()
    assert not drain_file(tmp_path, mine).exists()


def test_children_that_do_not_come_back_are_killed() -> None:
    # In a process of its own, whose children are all its own.
    program = """
import subprocess, sys
from worker.draining import kill_children
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
kill_children()
print(child.wait(10))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "-9"
