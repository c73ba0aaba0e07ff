"""A small TCP proxy before a server, which breaks what goes through it; needs no root.

cut()         every connection ends with a reset, new ones go through
refuse()      every connection ends, new ones are reset at once: nobody listens, as far as a client can tell
hold()        nothing passes in either direction, connections stay open: half open, as when a cable is pulled
answer(b)     new connections get these bytes as soon as they ask anything, then they end
lose_answers(n)  the next n answers are swallowed and their connections reset: the server has acted, and nobody is told
delay_s       each piece waits so long                   bytes_per_s   pieces pass no faster than this
pass_on()     all of it ends
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
_PIECE = 16_384
#: A linger of 0 s: close() sends a reset in place of an orderly end.
_RESET = struct.pack("ii", 1, 0)

SERVER_ERROR = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
    b"Connection: close\r\n\r\nchaos"
)


class FaultyProxy:
    """Listens on a port of its own, in a thread; its methods may be called from any other."""

    def __init__(self, target_port: int, *, host: str = LOOPBACK) -> None:
        self.target_port, self._host = target_port, host
        self.port = 0
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self._refusing = False
        self._canned: bytes | None = None
        self._to_lose = 0
        self._wanted: bytes | None = None
        self.n_lost = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{target_port}", daemon=True)
        self._started = threading.Event()

    # ---- faults

    def cut(self) -> int:
        """Reset every connection; how many."""
        return self._call(self._reset_all)

    def refuse(self) -> None:
        """Reset every connection, and each new one."""
        self._refusing = True
        self.cut()

    def hold(self) -> None:
        """Let nothing pass any more; connections stay."""
        self._call(self._open.clear)

    def answer(self, content: bytes) -> None:
        """Whatever is asked from now on, this is the answer; connections that there are end."""
        self._canned = content
        self.cut()

    def lose_answers(self, n: int, *, to: bytes | None = None) -> None:
        """Swallow the next `n` answers, of requests that hold `to` where it is given; `n_lost` counts them.

        The request has gone through, and the server has answered it: what was asked for is done.
        """
        self.n_lost, self._wanted = 0, to
        self._to_lose = n

    def pass_on(self) -> None:
        """Be a proxy again."""
        self._refusing, self._canned, self.delay_s, self.bytes_per_s = False, None, 0.0, None
        self._to_lose = 0
        self._call(self._open.set)

    # ---- life

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, self._host, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._open.set()
        self._started.set()
        self._loop.run_forever()

    async def _shut(self) -> None:
        self._server.close()
        self._reset_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, work: Callable[[], int | None]) -> int:
        done: list[int | None] = []
        called = threading.Event()

        def run() -> None:
            done.append(work())
            called.set()

        self._loop.call_soon_threadsafe(run)
        called.wait()
        return done[0] or 0

    def _reset_all(self) -> int:
        writers = list(self._writers)
        for writer in writers:
            _reset(writer)
        return len(writers)

    # ---- one connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        self._writers.add(writer)
        try:
            if self._canned is not None:
                await reader.read(_PIECE)
                writer.write(self._canned)
                await writer.drain()
                return
            try:
                up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self.target_port)
            except OSError:
                _reset(writer)
                return
            self._writers.add(up_writer)
            try:
                asked = bytearray()
                await asyncio.gather(
                    self._pump(reader, up_writer, request=asked), self._pump(up_reader, writer, answer_to=asked)
                )
            finally:
                self._writers.discard(up_writer)
                up_writer.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the last: the proxy ends
            _reset(writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    def _loses(self, asked: bytearray) -> bool:
        """Whether this answer is swallowed; what nobody asked for, as a greeting, is none."""
        found = bytes(asked)
        asked.clear()
        if not self._to_lose or not found or (self._wanted is not None and self._wanted not in found):
            return False
        self._to_lose -= 1
        self.n_lost += 1
        return True

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        request: bytearray | None = None,
        answer_to: bytearray | None = None,
    ) -> None:
        while piece := await reader.read(_PIECE):
            await self._open.wait()
            if request is not None:
                request += piece  # since the last answer began
            elif answer_to is not None and self._loses(answer_to):
                _reset(writer)
                raise ConnectionResetError  # ends both directions
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.bytes_per_s:
                await asyncio.sleep(len(piece) / self.bytes_per_s)
            writer.write(piece)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
