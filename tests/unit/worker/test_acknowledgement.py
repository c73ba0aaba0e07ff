"""An acknowledgement whose answer is lost costs nothing of the worker's prefetch window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.transport import virtual
from kombu.transport.redis import QoS

from worker.app import Acknowledgements


class Pipeline:
    """Removes from Redis; the answers to the first `n_lost` requests are lost after it has acted."""

    def __init__(self, n_lost: int) -> None:
        self.n_lost, self.removed = n_lost, [""]

    def zrem(self, _key: str, tag: str) -> Pipeline:
        self.removed.append(tag)
        return self

    def hdel(self, _key: str, _tag: str) -> Pipeline:
        return self

    def execute(self) -> None:
        if self.n_lost > 0:
            self.n_lost -= 1
            raise ConnectionResetError("the answer is lost")


def window(kind: type[QoS], n_lost: int) -> tuple[QoS, Pipeline]:
    """A prefetch window of one message, which is taken."""
    pipeline = Pipeline(n_lost)

    @contextmanager
    def acquired(_client: Any = None) -> Iterator[Any]:
        yield SimpleNamespace(pipeline=lambda: pipeline)

    channel = SimpleNamespace(
        conn_or_acquire=acquired,
        unacked_key="u",
        unacked_index_key="i",
        connection_errors=(ConnectionError,),
        do_restore=False,
    )
    made = kind(channel, prefetch_count=1)
    virtual.QoS.append(made, SimpleNamespace(), "tag")
    assert not made.can_consume()
    return made, pipeline


@pytest.mark.parametrize("n_lost", [0, 1, 2])
def test_the_window_is_free_again_however_many_answers_are_lost(n_lost: int) -> None:
    qos, pipeline = window(Acknowledgements, n_lost)
    qos.ack("tag")
    assert qos.can_consume()
    assert pipeline.removed[1:] == ["tag"] * min(n_lost + 1, 2)


@pytest.mark.parametrize("n_lost", [0, 1, 2])
def test_a_message_that_is_rejected_frees_its_place_too(n_lost: int) -> None:
    qos, _ = window(Acknowledgements, n_lost)
    qos.reject("tag")
    assert qos.can_consume()


@pytest.mark.parametrize("error", [None, ConnectionResetError("the answer is lost")])
def test_a_message_that_is_put_back_frees_its_place_too(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restore(_qos: QoS, tag: str, **_: object) -> None:
        assert tag == "tag"
        if error is not None:
            raise error

    monkeypatch.setattr(QoS, "restore_by_tag", restore)
    qos, _ = window(Acknowledgements, 0)
    qos.reject("tag", requeue=True)
    assert qos.can_consume()


def test_kombu_s_own_keeps_the_place_for_good() -> None:
    """Why ours is there: where this fails, kombu has mended it and ours can go."""
    qos, _ = window(QoS, 1)
    with pytest.raises(ConnectionResetError):
        qos.ack("tag")
    assert not qos.can_consume()


def test_an_error_that_is_none_of_the_connection_is_not_swallowed() -> None:
    qos, pipeline = window(Acknowledgements, 0)
    pipeline.execute = lambda: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        qos.ack("tag")
    assert qos.can_consume()
