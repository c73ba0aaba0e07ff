"""An answer that is kept for a while, however many pages ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """One asks, and those who come meanwhile wait for that answer."""

    def __init__(self, ask: Callable[[], Value], *, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._held: tuple[float, Value] | None = None

    def get(self) -> Value:
        """The answer, no older than it may be."""
        with self._lock:
            if self._held is None or self._clock() - self._held[0] >= self._keep_s:
                self._held = (self._clock(), self._ask())
            return self._held[1]
