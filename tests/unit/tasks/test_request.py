"""What the main process says of a child that died, before a control worker gives its lease back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError

import tasks.request
from tasks.request import StageRequest


class Memory:
    """The kernel's count, as the test sets it."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def n_killed(self) -> int:
        return 4

    def reason(self, n_before: int) -> str:
        self.asked.append(n_before)
        return "out of memory: limit 512 MiB, peak 512 MiB"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Causes that were sent to `stage.lost`."""
    causes: list[str] = []
    sender = SimpleNamespace(send_task=lambda _name, *, kwargs, **_: causes.append(kwargs["cause"]))
    monkeypatch.setattr(tasks.request, "current_app", sender)
    monkeypatch.setattr(tasks.request.Request, "on_failure", lambda *_, **__: None)
    monkeypatch.setattr(tasks.request.Request, "on_accepted", lambda *_, **__: None)
    monkeypatch.setattr(StageRequest, "acknowledge", lambda _: None)
    monkeypatch.setattr(StageRequest, "kwargs", {"run_id": "run-1"})
    return causes


def died(of: str) -> Any:
    return SimpleNamespace(exception=WorkerLostError(of))


def a_request() -> StageRequest:
    request: StageRequest = StageRequest.__new__(StageRequest)
    request.id, request.name = "task-1", "model.train"
    request._request_dict = {}
    return request


def test_a_child_that_got_signal_9_is_told_with_what_the_kernel_counted(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    monkeypatch.setattr(tasks.request, "_killed_for_memory", memory)
    request = a_request()
    request.on_accepted(7, None)
    request.on_failure(died("Worker exited prematurely: signal 9 (SIGKILL) Job: 3."))
    assert told == ["Worker exited prematurely: signal 9 (SIGKILL) Job: 3.; out of memory: limit 512 MiB, peak 512 MiB"]
    assert memory.asked == [4]


def test_a_child_that_ended_otherwise_is_told_as_it_is(told: list[str]) -> None:
    a_request().on_failure(died("Worker exited prematurely: exitcode 7 Job: 3."))
    assert told == ["Worker exited prematurely: exitcode 7 Job: 3."]
