"""Connections that say half of something, or nothing, or do not read: they end, and others are answered."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from config.settings import ROOT
from devstack.ports import choose_port
from mlops.serving import web_server
from tests.support.waiting import wait_for

REQUEST_S = 0.5
WHOLE = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    number = choose_port()
    arguments = [sys.executable, "-m", "tests.support.half_http", str(number), str(REQUEST_S)]
    with subprocess.Popen(arguments, cwd=ROOT) as process:
        wait_for(lambda: accepts(number), "the server listens", within_s=60)
        yield number
        process.terminate()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def said(port: int, *parts: bytes) -> bytes:
    """All that comes until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        found = b""
        try:
            for part in parts:
                connection.sendall(part)
            while got := connection.recv(65_536):
                found += got
        except ConnectionResetError:
            pass
        return found


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"GET / HTTP/1.1\r\nhost: x\r\n",),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na",),
        (b"\r\n",),
    ],
    ids=["nothing", "half a head", "half a body", "an empty line"],
)
def test_a_request_that_never_comes_whole_is_not_waited_for(port: int, parts: tuple[bytes, ...]) -> None:
    assert said(port, *parts) == b""


def test_a_whole_request_is_answered_and_then_the_idle_connection_ends(port: int) -> None:
    answer = said(port, WHOLE)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"3")


def test_several_requests_on_one_connection_are_all_answered(port: int) -> None:
    assert said(port, WHOLE, WHOLE, WHOLE).count(b"HTTP/1.1 200") == 3


def test_a_head_has_an_end_and_a_body_may_be_longer(port: int) -> None:
    header = b"x: " + b"y" * 1000 + b"\r\n"
    assert said(port, b"GET / HTTP/1.1\r\nhost: x\r\n", header * (web_server.HEAD_BYTES // 1000 + 1)) == b""
    body = b"z" * (4 * web_server.HEAD_BYTES)
    whole = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    assert said(port, whole).endswith(str(len(body)).encode())


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="of Linux")
def test_the_kernel_ends_a_connection_whose_client_does_not_read_or_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        web_server._end_what_is_not_read(listening)
        with socket.create_connection(listening.getsockname()[:2]), listening.accept()[0] as accepted:
            unread_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert unread_ms == web_server.UNREAD_S * 1000
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
