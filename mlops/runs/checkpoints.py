"""Checkpoints of one granted stage: kept in the store, named in the ledger, fenced by the token.

A stage that is taken over resumes from the named one. Called by `LeaseKeeper`, which is what a trainer sees.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import TemporaryError
from mlops.registry.checkpoint_store import Checkpoint, CheckpointStore

if TYPE_CHECKING:
    from mlops.domain.ports import Ledger
    from mlops.domain.records import Grant

log = structlog.get_logger(__name__)

#: Between two checkpoints. A save of a 5 MB booster takes some 10 ms, so a training loses 0.1 % to them.
EVERY_S = 10.0
#: After a save that failed the next one waits twice as long, up to this: a silent store may hold each up for 40 s.
LONGEST_PAUSE_S = 600.0


class StageCheckpoints:
    """Saves at most once in `every_s`, and keeps the newest in memory until then or until the stage must stop."""

    def __init__(
        self,
        store: CheckpointStore,
        ledger: Ledger,
        grant: Grant,
        *,
        every_s: float = EVERY_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._ledger, self._grant = store, ledger, grant
        self._every_s, self._monotonic = every_s, monotonic
        self._saved_at, self._pause_s = monotonic(), every_s
        self._pending: tuple[str, bytes] | None = None
        self._named = Checkpoint.from_json(grant.checkpoint)

    def save(self, name: str, payload: bytes) -> None:
        """Keep it when it is time to. Raises LeaseLost: somebody else holds the stage."""
        self._pending = (name, payload)
        if self._monotonic() - self._saved_at >= self._pause_s:
            self.flush()

    def flush(self) -> None:
        """Keep the newest now, whatever the time; nothing where it is kept already. Raises LeaseLost."""
        if self._pending is None:
            return
        (name, payload), before = self._pending, self._named
        try:
            written = self._store.write(self._grant.run_id, self._grant.token, name, payload)
            self._ledger.save_checkpoint(self._grant, written.to_json())
        except TemporaryError as exc:
            # The training is worth more than its checkpoint.
            log.warning("checkpoint.not_kept", run_id=self._grant.run_id, error=str(exc), next="tried at the next one")
            self._saved_at, self._pause_s = self._monotonic(), min(2 * self._pause_s, LONGEST_PAUSE_S)
            return
        self._pending, self._named = None, written
        self._saved_at, self._pause_s = self._monotonic(), self._every_s
        log.info("checkpoint.kept", checkpoint=name, bytes=len(payload))
        if before is not None and before.path != written.path:
            self._forget(lambda: self._store.delete(before))

    def load(self) -> tuple[str, bytes] | None:
        """Name and payload of what an earlier grant saved last; None where there is nothing usable."""
        if self._named is None:
            return None
        try:
            payload = self._store.read(self._named)
        except TemporaryError as exc:
            log.warning("checkpoint.not_read", run_id=self._grant.run_id, error=str(exc), next="begins anew")
            return None
        return None if payload is None else (self._named.name, payload)

    def forget(self) -> None:
        """The stage has come to its end: nothing will be resumed. What cannot be removed is removed by housekeeping."""
        if self._named is not None:
            self._forget(lambda: self._store.delete_run(self._grant.run_id))

    def _forget(self, work: Callable[[], None]) -> None:
        try:
            work()
        except TemporaryError as exc:
            log.info("checkpoint.not_removed", run_id=self._grant.run_id, error=str(exc), next="housekeeping does it")
