"""Free ports of the loopback address, held for one stack so that no other takes them meanwhile."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Collection, Iterable

import psutil

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
    """The first preferred port that is free and not in `taken`, else any free one; not held."""
    held = HeldPorts()
    try:
        return held.take(preferred, taken=taken)
    finally:
        held.release()


class HeldPorts:
    """Ports that nobody else gets between their choice and the moment when a server of ours listens on them.

    Two sockets for each, which the kernel takes back when this process ends. A UDP socket of the same number is the
    lock between stacks: it can be bound once. A bound TCP socket that does not listen keeps everybody off who binds
    without SO_REUSEADDR, outgoing connections among them; a server with that option, as all of ours are, binds beside
    it, which is Linux's rule and not the BSDs'.
    """

    def __init__(self) -> None:
        self._sockets: dict[int, list[socket.socket]] = {}

    def take(self, preferred: Iterable[int] = (), *, taken: Collection[int] = ()) -> int:
        """The first preferred port that is free and not in `taken`, else any free one."""
        for port in preferred:
            if port not in taken and self._hold(port):
                return port
        while True:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind((LOOPBACK, 0))
                port = int(probe.getsockname()[1])
            if port not in taken and self._hold(port):
                return port

    def release(self) -> None:
        """Let others have them; safe to repeat."""
        for sockets in self._sockets.values():
            for one in sockets:
                one.close()
        self._sockets.clear()

    def _hold(self, port: int) -> bool:
        if port in self._sockets:
            return False
        with contextlib.ExitStack() as undo:
            lock = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            hold = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            hold.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                lock.bind((LOOPBACK, port))
                hold.bind((LOOPBACK, port))
            except OSError:
                return False
            if sys.platform != "linux":
                hold.close()
            self._sockets[port] = [lock, hold]
            undo.pop_all()
        return True


def somebody_listens(port: int) -> bool:
    """A connection to the port is accepted."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0):
            return True
    except OSError:
        return False


def listens(pid: int, port: int) -> bool:
    """The process, or one below it, is who listens on the port: an answer there is that process's, not a stranger's."""
    with contextlib.suppress(psutil.Error):
        main = psutil.Process(pid)
        for process in (main, *main.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(
                    one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
                    for one in process.net_connections(kind="tcp")
                ):
                    return True
    return False
