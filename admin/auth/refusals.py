"""Refusals on record: the first of a kind at once, the same again counted and written together every few seconds.

A flood must neither fill the ledger nor wait for it: what is kept in memory, and written in an hour, is bounded.
"""

from __future__ import annotations

import json
import threading
from asyncio import wrap_future
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import structlog
from cachetools import TTLCache

from mlops.domain.errors import AcisError
from mlops.ledger.people.auditing import GROUPED_S

if TYPE_CHECKING:
    from mlops.bootstrap import Services

log = structlog.get_logger(__name__)

WRITTEN_EVERY_S = 5.0
MOST_LINES = 100
"""Of one actor's one action in an hour and process; what is refused beyond is counted in one line."""
MANY = "(many)"


class _Refusal(NamedTuple):
    actor: str
    action: str
    subject: str
    address: str | None
    detail: str
    """JSON: why, and values worth keeping."""


class RefusalRecord:
    """Writes refusals into the audit. One a process; safe to use from several threads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lines: TTLCache[tuple[str, str], set[_Refusal]] = TTLCache(maxsize=1000, ttl=GROUPED_S)
        """Which have a line, by actor and action."""
        self._again: Counter[_Refusal] = Counter()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="refusals")

    def note(self, actor: str, action: str, subject: str, *, address: str | None, **detail: object) -> None:
        """Write or count one; `refused` in detail says why. What cannot be put on record is refused all the same."""
        new = self._new(_refusal(actor, action, subject, address, detail))
        if new is not None:
            self._write(new, 1)

    async def note_soon(self, actor: str, action: str, subject: str, *, address: str | None, refused: str) -> None:
        """The same from the event loop. What is written takes a thread of its own: those of the pages are for pages."""
        new = self._new(_refusal(actor, action, subject, address, {"refused": refused}))
        if new is not None:
            await wrap_future(self._writer.submit(self._write, new, 1))

    def _new(self, refusal: _Refusal) -> _Refusal | None:
        """What is to be written at once; None where it is counted in a line that is there."""
        with self._lock:
            lines = self._lines.setdefault((refusal.actor, refusal.action), set())
            if refusal not in lines and len(lines) >= MOST_LINES:
                refusal = _one_of_many(refusal)
            if refusal in lines:
                self._count(refusal)
                return None
            lines.add(refusal)
            return refusal

    def write(self) -> None:
        """Write what was counted since the last time."""
        with self._lock:
            again, self._again = self._again, Counter()
            self._timer = None
        for refusal, times in again.items():
            self._write(refusal, times)

    def close(self) -> None:
        """Write what is left."""
        if self._timer is not None:
            self._timer.cancel()
        self.write()
        self._writer.shutdown(wait=False)

    def _count(self, refusal: _Refusal) -> None:
        self._again[refusal] += 1
        if self._timer is None:
            self._timer = threading.Timer(WRITTEN_EVERY_S, self.write)
            self._timer.daemon = True
            self._timer.start()

    def _write(self, refusal: _Refusal, times: int) -> None:
        actor, action, subject, address, detail = refusal
        try:
            self._services.ledger.audit_refusal(
                actor, action, subject, address=address, times=times, **json.loads(detail)
            )
        except AcisError as exc:
            log.warning("refusal.not_audited", actor=actor, action=action, times=times, error=str(exc))


def _one_of_many(refusal: _Refusal) -> _Refusal:
    """Without what there may be any number of; whose sign-in was tried is kept, since there are few users."""
    subject = refusal.subject if refusal.action.startswith("sign_in.") else MANY
    return _refusal(refusal.actor, refusal.action, subject, None, {"refused": "more of the kind"})


def _refusal(actor: str, action: str, subject: str, address: str | None, detail: Mapping[str, object]) -> _Refusal:
    return _Refusal(actor, action, subject[:255], address, json.dumps(detail, sort_keys=True, default=str))
