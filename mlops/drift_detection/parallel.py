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
    """Results in the items' order, worked out by other threads a few items before they are asked for.

    For work that is one long numpy call: the caller's own Python then runs beside it. `each` would have the
    threads wait for each other's Python instead, up to 5 ms at a time.
    """
    n = min(usable_cores(), _MOST_THREADS)
    if n == 1 or len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(max_workers=n, thread_name_prefix="drift") as pool:
        waiting = deque(pool.submit(work, item) for item in items[: n + 1])
        for item in [*items[n + 1 :], None]:
            yield waiting.popleft().result()
            if item is not None:
                waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
