"""The proxy does what a test says it did; else a test of a fault would test nothing."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import LOOPBACK, FaultyProxy

RECEIVED: list[bytes] = []


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while piece := self.request.recv(1024):
            RECEIVED.append(piece)
            self.request.sendall(piece)


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer((LOOPBACK, 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def received() -> list[bytes]:
    """What the server gets from now on."""
    RECEIVED.clear()
    return RECEIVED


@pytest.fixture
def proxy(echo_port: int) -> Iterator[FaultyProxy]:
    with FaultyProxy(echo_port) as running:
        yield running


def connected(proxy: FaultyProxy, timeout_s: float = 5.0) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=timeout_s)


def echoed(client: socket.socket, text: bytes = b"ping") -> bytes:
    client.sendall(text)
    return client.recv(1024)


def test_it_passes_on_both_ways(proxy: FaultyProxy) -> None:
    with connected(proxy) as client:
        assert echoed(client) == b"ping"


def test_a_cut_resets_what_is_open_and_lets_new_ones_through(proxy: FaultyProxy) -> None:
    with connected(proxy) as client:
        echoed(client)
        assert proxy.cut() == 2  # the client's side and the server's
        with pytest.raises(ConnectionResetError):
            echoed(client)
    with connected(proxy) as client:
        assert echoed(client) == b"ping"


def test_refused_connections_are_reset_until_it_passes_on_again(proxy: FaultyProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionError), connected(proxy) as client:  # the reset may come before connect returns
        echoed(client) or echoed(client)
    proxy.pass_on()
    with connected(proxy) as client:
        assert echoed(client) == b"ping"


def test_a_held_connection_is_open_and_silent_and_goes_on_later(proxy: FaultyProxy) -> None:
    with connected(proxy, timeout_s=0.2) as client:
        echoed(client)
        proxy.hold()
        with pytest.raises(TimeoutError):
            echoed(client)
        proxy.pass_on()
        client.settimeout(5.0)
        assert client.recv(1024) == b"ping"


def test_a_canned_answer_is_given_to_whatever_is_asked(proxy: FaultyProxy) -> None:
    proxy.answer(b"no")
    with connected(proxy) as client:
        assert echoed(client) == b"no"
        assert client.recv(1024) == b""


def test_an_answer_is_lost_after_the_server_has_acted(proxy: FaultyProxy, received: list[bytes]) -> None:
    with connected(proxy) as client:
        assert echoed(client, b"before") == b"before"
        proxy.lose_answers(1, to=b"wri")
        assert echoed(client, b"read") == b"read"
        with pytest.raises(ConnectionResetError):
            echoed(client, b"write")
    assert received == [b"before", b"read", b"write"]
    assert proxy.n_lost == 1
    with connected(proxy) as client:
        assert echoed(client, b"write") == b"write"  # no more than asked for


def test_answers_are_lost_until_it_passes_on_again(proxy: FaultyProxy) -> None:
    proxy.lose_answers(100)
    for _ in range(3):
        with connected(proxy) as client, pytest.raises(ConnectionResetError):
            echoed(client)
    assert proxy.n_lost == 3
    proxy.pass_on()
    with connected(proxy) as client:
        assert echoed(client) == b"ping"


def test_pieces_are_delayed_and_slowed(proxy: FaultyProxy) -> None:
    proxy.delay_s, proxy.bytes_per_s = 0.05, 1000.0
    with connected(proxy) as client:
        began = time.monotonic()
        assert echoed(client, b"x" * 100) == b"x" * 100
    # Both ways: 2 x (50 ms + 100 bytes at 1,000 a second)
    assert time.monotonic() - began >= 0.3
