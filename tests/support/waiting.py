"""Waiting for a fact, with a deadline; nothing in the tests is waited for by time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def wait_for(fact: Callable[[], object], what: str, *, within_s: float = 10.0, every_s: float = 0.1) -> float:
    """Seconds until the fact holds; fails with `what` after the deadline."""
    began = time.monotonic()
    while not fact():
        waited_s = time.monotonic() - began
        assert waited_s < within_s, f"not within {within_s:.0f} s: {what}"
        threading.Event().wait(every_s)
    return time.monotonic() - began
