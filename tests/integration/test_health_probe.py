"""Whether something listens where the broker should be, by real sockets."""

from __future__ import annotations

import socket

from worker.health import broker_answers


def test_a_broker_that_listens_answers_and_one_that_is_gone_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert broker_answers(f"redis://:pw@127.0.0.1:{port}/0")
    assert not broker_answers(f"redis://:pw@127.0.0.1:{port}/0")
