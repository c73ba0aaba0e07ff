"""Asks the challenger of a shadow after the caller has its answer: in the background, recorded, never returned.

What waits is taken 20 times a second and answered many rows at once, so that callers hardly share the interpreter with
it. One row of each time is asked alone, for the latency that is counted: processor time of this thread, since it waits
behind the callers by design. What is beyond the bound is dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import date
from itertools import groupby
from sys import getsizeof
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import structlog

from mlops.domain.errors import PredictionLogFull
from mlops.domain.live.rows import row_digests
from mlops.serving.engines import ask_one

if TYPE_CHECKING:
    from mlops.domain.live.rows import Floats
    from mlops.serving.answer_counter import AnswerCounter
    from mlops.serving.model import Recorder, ServedModel

log = structlog.get_logger(__name__)

LIMIT_BYTES = 32 * 1024 * 1024
"""Of what waits: 100,000 rows of 45 features, or 4,500 rows by name."""
_EVERY_S = 0.05
_NAMED_BYTES = 128
"""Of a row's ticker, date and place"""
_VALUE_BYTES = 112
"""Of a number and its name in a row by name, beside the mapping's own. Its caller does not wait for it to be read."""


class _Asked(NamedTuple):
    model: ServedModel
    rows: Floats | dict[str, Any]
    """(n, f) prepared, or one row by name that is still to be read"""
    tickers: Sequence[str]
    dates: Sequence[date]
    """n of each, or none: what is not kept"""
    n: int
    n_bytes: int


class Shadow:
    """The queue of one router and its thread, which starts with the first row."""

    def __init__(self, recorder: Recorder, counter: AnswerCounter, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._recorder, self._counter, self._limit_bytes = recorder, counter, limit_bytes
        self._waiting: deque[_Asked] = deque()
        self._n_bytes, self._is_closed = 0, False
        self._lock = threading.Lock()
        self._due, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()
        """Errors that are in the log"""
        self.n_dropped = 0
        """Rows that were not asked, or whose answer was not kept"""

    def offer(
        self,
        model: ServedModel,
        rows: Floats | dict[str, Any],
        tickers: Sequence[str] | None,
        dates: Sequence[date] | None,
    ) -> None:
        """Have the challenger asked later; rows are the queue's own from now on. Waits for nothing."""
        if isinstance(rows, dict):
            n, n_bytes = 1, getsizeof(rows) + _VALUE_BYTES * len(rows)
        else:
            n, n_bytes = len(rows), rows.nbytes
        n_bytes += _NAMED_BYTES * n
        if tickers is None or dates is None:
            tickers = dates = ()
        with self._lock:
            if self._is_closed or self._n_bytes + n_bytes > self._limit_bytes:
                self.n_dropped += n
                return
            self._n_bytes += n_bytes
            self._waiting.append(_Asked(model, rows, tickers, dates, n, n_bytes))
            is_first = len(self._waiting) == 1
        if is_first:
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._ask_for_ever, name="acis-shadow", daemon=True)
                self._thread.start()
        self._due.set()

    def close(self) -> None:
        """Ask what waits, within some seconds, and end."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        self._closing.set()
        self._due.set()
        if thread is not None:
            thread.join(timeout=5.0)

    def _ask_for_ever(self) -> None:
        while not self._closing.is_set():
            self._due.wait()
            self._closing.wait(_EVERY_S)
            self._due.clear()
            self._ask()
        self._ask()  # what came since

    def _ask(self) -> None:
        with self._lock:
            asked, self._waiting = self._waiting, deque()
        for _, same in groupby(asked, key=lambda one: id(one.model)):
            batch = list(same)
            self._answer(batch[:1], is_timed=True)
            self._answer(batch[1:])
            with self._lock:
                self._n_bytes -= sum(one.n_bytes for one in batch)

    def _answer(self, batch: Sequence[_Asked], *, is_timed: bool = False) -> None:
        """Answer, record and count calls of one model; timed: by the first row."""
        if not batch:
            return
        model = batch[0].model
        took_ns = None
        try:
            read = [_read(one) for one in batch]
            rows = read[0] if len(read) == 1 else np.concatenate(read)
            if is_timed and len(rows):
                _, took_ns = ask_one(model.predictor, rows[:1], clock=time.thread_time_ns, again=True)
            probability = model.predictor.probabilities(rows)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, it is the challenger's
            self._refused(batch, exc)
            return
        self._counter.count(
            model,
            len(rows),
            n_positive=int(np.count_nonzero(probability >= 0.5)),
            n_missing=int(np.count_nonzero(np.isnan(rows).any(axis=1))),
            took_ns=took_ns,
        )
        tickers = [ticker for one in batch for ticker in one.tickers]
        dates = [day for one in batch for day in one.dates]
        if not tickers:
            return
        kept = np.repeat([len(one.tickers) > 0 for one in batch], [one.n for one in batch])
        try:
            self._recorder.record(model, tickers, dates, probability[kept], row_digests(rows[kept]))
        except Exception as exc:  # the edge of this thread: nothing of a shadow ends anything
            self.n_dropped += len(tickers)
            if not isinstance(exc, PredictionLogFull):  # of which the callers are told
                log.exception("serving.shadow_failed", error=str(exc))

    def _refused(self, batch: Sequence[_Asked], exc: Exception) -> None:
        """Ask one by one where one of several calls cannot be answered, else count it."""
        if len(batch) > 1:
            for one in batch:
                self._answer([one])
            return
        model, n = batch[0].model, batch[0].n
        self._counter.count(model, n, n_errors=n)
        if str(exc) not in self._said and len(self._said) < 100:
            self._said.add(str(exc))
            log.warning("serving.challenger_failed", version=model.version, error=str(exc), next="it is counted")


def _read(asked: _Asked) -> Floats:
    """(n, f) rows as the challenger reads them. Raises InvalidRows."""
    if not isinstance(asked.rows, dict):
        return asked.rows
    slot = asked.model.predictor.take()
    try:
        slot.fill(asked.model.reader.values(asked.rows), asked.model.features)
        return slot.row.copy()
    finally:
        asked.model.predictor.give(slot)
