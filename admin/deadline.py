"""A question to a server that may hang, answered in time or refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from mlops.domain.errors import RegistryUnavailable

Value = TypeVar("Value")

_AT_ONCE = threading.BoundedSemaphore(8)
"""Questions that hang hold a thread each until their own time is over; no more than these."""


def within(seconds: float, ask: Callable[[], Value]) -> Value:
    """What `ask` returns or raises. Raises RegistryUnavailable where it takes longer; it then ends by itself."""
    slots = _AT_ONCE  # what was taken is given back, whoever puts another in its place
    if not slots.acquire(blocking=False):
        raise RegistryUnavailable("MLflow does not answer, and several questions wait for it; try again in a minute")
    answer: Future[Value] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as exc:  # noqa: BLE001 -- raised where it is waited for
            answer.set_exception(exc)
        finally:
            slots.release()

    # A daemon, so that one that hangs does not hold up the end of the process.
    threading.Thread(target=work, name="within", daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError as exc:
        if answer.done():
            raise
        message = f"MLflow does not answer within {seconds:.0f} s; nothing was done, so try again when it does"
        raise RegistryUnavailable(message) from exc
