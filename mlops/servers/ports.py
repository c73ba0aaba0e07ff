"""Free ports of the loopback address."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Nobody listens on the port now; it can be lost again before it is used."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_port(preferred: Iterable[int] = (), *, taken: Collection[int] = ()) -> int:
    """The first preferred port that is free and not in `taken`, else any free one."""
    for port in preferred:
        if port not in taken and is_free(port):
            return port
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
