"""A server that hangs does not hang the page."""

from __future__ import annotations

import threading
from typing import Never

import pytest

from admin.routes import model
from admin.routes.model import within
from mlops.domain.errors import RegistryUnavailable, VersionNotFound


def test_an_answer_and_an_error_come_through() -> None:
    assert within(5, lambda: 7) == 7

    def missing() -> Never:
        raise VersionNotFound("no version '9'")

    def slow() -> Never:
        raise TimeoutError("of the question's own")

    with pytest.raises(VersionNotFound, match="no version '9'"):
        within(5, missing)
    with pytest.raises(TimeoutError, match="of the question's own"):
        within(5, slow)


def test_what_takes_longer_is_refused_in_words_and_its_thread_ends_when_it_can() -> None:
    goes_on, ended = threading.Event(), threading.Event()

    def hang() -> None:
        goes_on.wait(10)
        ended.set()

    with pytest.raises(RegistryUnavailable, match="does not answer within 0 s; nothing was done"):
        within(0.01, hang)
    goes_on.set()
    assert ended.wait(10)


def test_questions_that_hang_are_not_added_to_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_AT_ONCE", threading.BoundedSemaphore(1))
    goes_on = threading.Event()
    with pytest.raises(RegistryUnavailable, match="within"):
        within(0.01, lambda: goes_on.wait(10))
    with pytest.raises(RegistryUnavailable, match="several questions wait"):
        within(5, lambda: None)
    goes_on.set()
