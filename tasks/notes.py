"""Notes to the ledger that may wait: what was done together with others costs one write in place of many."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

#: A note waits at most so long; well below the 5 s after which the reconciler misses one.
AFTER_S = 1.0


class Notes(Generic[Item]):
    """Collects items, and writes them together a moment later from a thread of its own.

    A process that dies before loses them, so only what is harmless to do again may be noted so. One that ends as it
    should writes them first.
    """

    def __init__(self, write: Callable[[list[Item]], None], *, after_s: float = AFTER_S) -> None:
        """write: must not raise. after_s: 0: each item at once, in the thread that adds it."""
        self._write, self._after_s = write, after_s
        self._items: list[Item] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, item: Item) -> None:
        """Note it."""
        if not self._after_s:
            self._write([item])
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
            self._write(items)

    def _write_in_turn(self) -> None:
        while True:
            time.sleep(self._after_s)
            with self._lock:
                items, self._items = self._items, []
                if not items:
                    self._thread = None
                    atexit.unregister(self.flush)
                    return
            self._write(items)
