"""One call per feature, on both cores; pure. numpy's sorts and sums let go of the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
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


def ahead(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Results in the items' order, worked out by another thread while the caller uses the one before.

    For work that is one long numpy call; a few results wait at a time.
    """
    if usable_cores() == 1 or len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="drift") as pool:
        waiting = deque(pool.submit(work, item) for item in items[:2])
        for item in [*items[2:], None, None]:
            yield waiting.popleft().result()
            if item is not None:
                waiting.append(pool.submit(work, item))


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
