"""Notes to the ledger that may wait: what was done together with others costs one write in place of many."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

Item = TypeVar("Item")

#: A note waits at most so long; well below the 5 s after which the reconciler misses one.
AFTER_S = 1.0


class WriteBehind(Generic[Item]):
    """Collects items, and writes them together a moment later from a thread of its own.

    A process that dies before loses them, as does a pool's child that ends, so only what is harmless to do again may be
    noted so. A program that ends in the ordinary way writes them first.
    """

    def __init__(self, write: Callable[[list[Item]], None], *, after_s: float = AFTER_S) -> None:
        """after_s: 0: each item at once, in the thread that adds it. What `write` raises is logged."""
        self._write, self._after_s = write, after_s
        self._items: list[Item] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, item: Item) -> None:
        """Note it."""
        if not self._after_s:
            self._try([item])
            return
        with self._lock:
            self._items.append(item)
            # A fork leaves the child a thread that does not run.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._write_in_turn, name="notes", daemon=True)
                self._thread.start()
                atexit.register(self.flush)

    def flush(self) -> None:
        """Write now what waits."""
        with self._lock:
            items, self._items = self._items, []
        if items:
            self._try(items)

    def _try(self, items: list[Item]) -> None:
        try:
            self._write(items)
        except Exception:
            # The edge of a thread that others rely on.
            log.exception("notes.not_written", items=len(items), next="what they speak of is done again")

    def _write_in_turn(self) -> None:
        while True:
            time.sleep(self._after_s)
            with self._lock:
                items, self._items = self._items, []
                if not items:
                    self._thread = None
                    atexit.unregister(self.flush)
                    return
            self._try(items)
