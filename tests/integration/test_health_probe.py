"""Whether something listens where the broker should be, by real sockets."""

from __future__ import annotations

import socket

from worker.health import broker_answers


def test_a_redis_answers_whether_or_not_it_wants_a_password(redis_url: str) -> None:
    assert broker_answers(redis_url)


def test_a_port_behind_which_nobody_answers_is_no_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not broker_answers(f"redis://:pw@127.0.0.1:{port}/0", timeout_s=0.2)
        assert broker_answers(f"rediss://:pw@127.0.0.1:{port}/0")  # what is behind TLS cannot be asked so cheaply
    assert not broker_answers(f"redis://:pw@127.0.0.1:{port}/0")


def test_an_address_that_is_none_is_no_broker() -> None:
    assert not broker_answers("redis://:pw@127.0.0.1:port/0")
