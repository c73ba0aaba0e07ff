"""Several ledgers that act at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from mlops.ledger.ledger import SqlLedger

T = TypeVar("T")


def at_once(ledgers: list[SqlLedger], act: Callable[[SqlLedger], T]) -> list[T]:
    """What each got when all acted at the same moment."""
    start = Barrier(len(ledgers), timeout=30)

    def wait_and_act(ledger: SqlLedger) -> T:
        ledger.now()  # the connection is there before the start
        start.wait()
        return act(ledger)

    with ThreadPoolExecutor(len(ledgers)) as pool:
        return list(pool.map(wait_and_act, ledgers))
