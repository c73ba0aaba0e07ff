"""What happens now, told to every open page the moment it happens: server-sent events.

Progress and ends come from Redis' channels (`tasks.progress`); what changes in the ledger without being told
there (a stage begins, is given back, a run is cancelled) is looked up once a second, while somebody looks on.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from mlops.domain.errors import AcisError
from tasks.progress import ProgressFeed, RunUpdate

if TYPE_CHECKING:
    from mlops.bootstrap import Services
    from mlops.ledger.queries.strategy_status import OpenRun

log = structlog.get_logger(__name__)

LOOK_S = 1.0
_BEAT_S = 15.0
"""A comment is sent so often: proxies close a connection on which nothing comes."""
_LASTS_S = 600.0
"""Then the stream ends and the browser opens another, which asks again who it is."""
MOST_LISTENERS = 200
MOST_OF_A_USER, MOST_OF_A_SESSION = 24, 12
"""Pages that one person, and one browser or token of theirs, may keep open with a stream."""
MOST_WAITING = 500
"""Events of one listener who does not read; then its stream ends, and it begins anew."""


@dataclass(eq=False)
class Listener:
    """One open page."""

    loop: asyncio.AbstractEventLoop
    user: str = ""
    session: str = ""
    queue: asyncio.Queue[dict[str, Any] | None] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))

    def put(self, event: dict[str, Any]) -> None:
        """In the loop's own thread."""
        if not self.queue.full():
            self.queue.put_nowait(event)


class EventStreams:
    """Who looks on, and what they are told. One a process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._listeners: set[Listener] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._feed = ProgressFeed(services.settings, self.told)
        self._watcher = threading.Thread(target=self._watch, name="event-watcher", daemon=True)
        self._seen: dict[str, tuple[Any, ...]] | None = None

    def start(self) -> None:
        """With the application."""
        self._feed.start()
        self._watcher.start()

    def stop(self) -> None:
        """Every stream ends."""
        self._stop.set()
        self._wake.set()
        self._feed.stop()
        self._tell({"type": "bye"})

    @property
    def n_listeners(self) -> int:
        """Open pages."""
        return len(self._listeners)

    def told(self, told: RunUpdate) -> None:
        """A worker said something of a run."""
        if told.progress is None:
            self._tell({"type": "changed", "run_id": told.run_id})
        else:
            self._tell({"type": "progress", "run_id": told.run_id, **told.progress})

    def why_not(self, user: str, session: str) -> str | None:
        """Why this person cannot have another stream; None where they can."""
        with self._lock:
            of_user = sum(one.user == user for one in self._listeners)
            of_session = sum(one.session == session for one in self._listeners)
        if of_user >= MOST_OF_A_USER or of_session >= MOST_OF_A_SESSION:
            return f"you have {of_user} pages open already ({of_session} in this browser); close some"
        return None

    async def stream(self, user: str = "", session: str = "") -> AsyncIterator[bytes]:
        """Events of one page, as `text/event-stream`; none where the person has too many since they were asked for."""
        listener = Listener(asyncio.get_running_loop(), user, session)
        if user and self.why_not(user, session):
            yield b"retry: 30000\n\n"
            return
        with self._lock:
            self._listeners.add(listener)
        self._wake.set()
        until = listener.loop.time() + _LASTS_S
        try:
            yield b"retry: 2000\n\n"
            while not self._stop.is_set() and listener.loop.time() < until and not listener.queue.full():
                try:
                    event = await asyncio.wait_for(listener.queue.get(), timeout=_BEAT_S)
                except TimeoutError:
                    yield b": beat\n\n"
                    continue
                yield f"data: {json.dumps(event, default=str)}\n\n".encode()
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def _tell(self, event: dict[str, Any]) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            # A loop that was closed has no pages any more.
            if not listener.loop.is_closed():
                listener.loop.call_soon_threadsafe(listener.put, event)

    # ---- the ledger, looked at

    def _watch(self) -> None:
        while not self._stop.is_set():
            if not self._listeners:
                self._seen = None
                self._wake.wait()
                self._wake.clear()
                continue
            try:
                self._look()
            except AcisError as exc:
                log.info("admin.events_blind", error=str(exc), next="it looks again")
            self._stop.wait(LOOK_S)

    def _look(self) -> None:
        now = {run.run_id: run for run in self._services.ledger.open_runs()}
        marks = {run_id: _mark(run) for run_id, run in now.items()}
        before, self._seen = marks if self._seen is None else self._seen, marks
        for run_id, mark in marks.items():
            if before.get(run_id) != mark:
                self._tell({"type": "changed", "run_id": run_id})
            progress = now[run_id].progress
            if progress and not self._feed.is_connected:
                self._tell({"type": "progress", "run_id": run_id, "stage": now[run_id].stage, **progress})
        for run_id in before.keys() - marks.keys():
            self._tell({"type": "changed", "run_id": run_id})


def _mark(run: OpenRun) -> tuple[Any, ...]:
    return run.state, run.stage, run.stage_state, run.attempt, run.worker, run.cancel_requested
