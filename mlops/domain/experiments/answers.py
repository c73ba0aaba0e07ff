"""How versions answered, counted by the processes that answer; what the guardrails are of. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.domain.experiments.records import Experiment
    from mlops.domain.promotion.records import Champion

LATENCY_BOUNDS_MS = tuple(2.0 ** (place / 2) for place in range(-16, 29))
"""Upper bounds of the buckets of a latency, from 4 µs to 16 s, each 1.41 times the one before; one bucket is beyond."""


@dataclass(frozen=True, kw_only=True)
class ServingState:
    """What a router follows: who is champion, and the experiment that runs against it; both of one instant."""

    champion: Champion
    experiment: Experiment | None


@dataclass(frozen=True, kw_only=True)
class AnswerCount:
    """Answers that a version gave in a minute, as far as one process has counted them.

    Cumulative for its writer and minute: a later row of the same stands for all of the earlier, and is written over it.
    """

    strategy: str
    version: str
    model_sha256: str
    variant: str
    """`champion` or `challenger`"""
    minute: datetime
    """Begin, aware"""
    writer: str
    """An id of the process"""
    n: int
    """Rows that it was asked about, those with an error among them"""
    n_errors: int
    """Rows that it could not answer"""
    n_positive: int
    """Answers of 0.5 and more"""
    n_missing_rows: int
    """Rows of which at least one of the version's features was missing"""
    latency_ms: tuple[int, ...]
    """(46,) calls by the bucket of the time that the version itself took, one entry a call however many rows it had;
    some of a shadow's calls, all of others"""


def latency_bucket(ms: float) -> int:
    """Give the place of a latency among the 46 buckets."""
    return bisect_left(LATENCY_BOUNDS_MS, ms)


def latency_quantile(counts: Iterable[Sequence[int]], share: float) -> float | None:
    """Give the latency, ms, below which this share of the calls lay, of any number of `latency_ms` together.

    Within its bucket the share is taken to grow evenly with the logarithm, so the error is below a bucket's width, a
    factor of 1.41. None without a call.
    """
    totals = [sum(column) for column in zip(*counts, strict=True)]
    wanted, before = share * sum(totals), 0
    for place, n in enumerate(totals):
        if n and before + n >= wanted:
            return float(2.0 ** ((place - 17 + (wanted - before) / n) / 2))
        before += n
    return None
