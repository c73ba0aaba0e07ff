"""Counts what a process answered, by version, variant and minute, for the guardrails of the ledger."""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import structlog

from mlops.domain.experiments.records import LATENCY_BOUNDS_MS, AnswerCount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops.serving.model import ServedModel

log = structlog.get_logger(__name__)

_KEPT_MINUTES = 60
"""While the ledger takes nothing; what is older is forgotten, with a line in the log."""
_BOUNDS_NS = tuple(bound * 1e6 for bound in LATENCY_BOUNDS_MS)


class NotLoaded(NamedTuple):
    """A challenger that is to answer and is not loaded, as its answers would be counted."""

    strategy: str
    version: str
    sha256: str
    variant: str = "challenger"


class _Tally:
    __slots__ = ("is_written", "latency", "model", "n", "n_errors", "n_missing", "n_positive")

    def __init__(self, model: ServedModel | NotLoaded) -> None:
        self.model = model
        self.n = self.n_errors = self.n_positive = self.n_missing = 0
        self.latency = [0] * (len(_BOUNDS_NS) + 1)
        self.is_written = False


class AnswerCounter:
    """Counts of one router; safe to use from several threads, which wait for each other's additions alone."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._writer, self._lock = clock, uuid.uuid4().hex, threading.Lock()
        self._tallies: dict[tuple[int, str, str, str], _Tally] = {}
        self.n_left_out = 0
        """Rows that a version was not asked about, for no fault of its own"""

    def count(
        self,
        model: ServedModel | NotLoaded,
        n: int,
        *,
        n_errors: int = 0,
        n_positive: int = 0,
        n_missing: int = 0,
        took_ns: int | None = None,
    ) -> None:
        """Add a call of n rows; took_ns: of one of them, asked alone; None: not timed.

        A part of a frame is the quicker the smaller the version's share is, so that parts say nothing of two versions.
        """
        key = int(self._clock()) // 60, model.version, model.sha256, model.variant
        with self._lock:
            tally = self._tallies.get(key)
            if tally is None:
                tally = self._tallies[key] = _Tally(model)
            tally.n += n
            tally.n_errors += n_errors
            tally.n_positive += n_positive
            tally.n_missing += n_missing
            if took_ns is not None:
                tally.latency[bisect_left(_BOUNDS_NS, took_ns)] += 1
            tally.is_written = False

    def leave_out(self, n: int) -> None:
        """Add n rows to those that are in no count of a version."""
        with self._lock:
            self.n_left_out += n

    def flush(self, write: Callable[[Sequence[AnswerCount]], object]) -> None:
        """Write what has changed since the last time; what `write` raises leaves it to be written again."""
        now = int(self._clock()) // 60
        with self._lock:
            changed = [(key, tally) for key, tally in self._tallies.items() if not tally.is_written]
            rows = [self._row(key[0], tally) for key, tally in changed]
            for _, tally in changed:
                tally.is_written = True
        try:
            if rows:
                write(rows)
        except BaseException:
            with self._lock:
                for _, tally in changed:
                    tally.is_written = False
            self._forget(now - _KEPT_MINUTES)
            raise
        with self._lock:
            for key in [key for key, tally in self._tallies.items() if tally.is_written and key[0] < now]:
                del self._tallies[key]

    def _forget(self, before: int) -> None:
        with self._lock:
            old = [key for key in self._tallies if key[0] < before]
            n = sum(self._tallies.pop(key).n for key in old)
        if n:
            log.warning("serving.counts_forgotten", n=n, next="answers of an hour ago are in no guardrail")

    def _row(self, minute: int, tally: _Tally) -> AnswerCount:
        return AnswerCount(
            strategy=tally.model.strategy,
            version=tally.model.version,
            model_sha256=tally.model.sha256,
            variant=tally.model.variant,
            minute=datetime.fromtimestamp(minute * 60, UTC),
            writer=self._writer,
            n=tally.n,
            n_errors=tally.n_errors,
            n_positive=tally.n_positive,
            n_missing_rows=tally.n_missing,
            latency_ms=tuple(tally.latency),
        )
