"""Calls for features, on all cores; pure. numpy's sorts and sums let go of the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: More threads than this wait for memory, not for a core.
_MOST_THREADS = 8


def each(work: Callable[[Item], Result], items: Sequence[Item], *, threads: int | None = None) -> list[Result]:
    """`work` of each item, in the items' order. The first error is raised."""
    n = min(threads or usable_cores(), len(items), _MOST_THREADS)
    if n <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=n, thread_name_prefix="drift") as pool:
        return list(pool.map(work, items))


def shared_out(items: Sequence[Item], *, at_most: int) -> list[Sequence[Item]]:
    """The items in batches of about one size, as many for each core."""
    if not items:
        return []
    n_batches = -(-len(items) // at_most)
    threads = min(usable_cores(), _MOST_THREADS)
    size = -(-len(items) // (-(-n_batches // threads) * threads))
    return [items[start : start + size] for start in range(0, len(items), size)]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
