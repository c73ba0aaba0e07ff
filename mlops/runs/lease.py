"""Keeps a lease alive while its stage works, and tells the stage when it must stop.

One daemon thread per stage, in the process that executes it, on a database connection of its own. Boosting
and SQL release the interpreter lock, so renewals go on during native code. The stage asks through
`check()` (stop now?) and `check_before_write()` (may I still touch something outside?).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import structlog

from mlops.domain.errors import LeaseLost, StageCancelled, TemporaryError
from mlops.domain.ports import Ledger, Progress
from mlops.domain.records import Grant
from mlops.runs.checkpoints import StageCheckpoints

log = structlog.get_logger(__name__)

#: A holder without a confirmed renewal for this share of the lease makes no external write (45 s of 60 s):
#: nobody else can hold the lease before it has run out, whatever the clocks do.
_WRITE_WITHIN = 0.75
#: Progress is sent at most this often; each is one small UPDATE.
PROGRESS_EVERY_S = 1.0

OnProgress = Callable[[Progress], None]
"""Called with each progress that a stage reports."""


class Drained(TemporaryError):
    """The worker is shutting down; the stage goes back to the queue."""


def suspended_too() -> float:
    """Seconds on a clock that goes on while the machine sleeps; `time.monotonic` where there is none."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds leases."""

    worker: str
    """Its name; in the ledger with the stage."""
    lease_s: float
    renew_s: float
    is_draining: Callable[[], bool] = lambda: False
    """Whether it was asked to end; asked once a boosting round, so it is cheap."""


class LeaseKeeper:
    """Context manager around a stage's work; also the `TrainingControl` of a trainer."""

    def __init__(
        self,
        ledger: Ledger,
        grant: Grant,
        holder: Holder,
        *,
        monotonic: Callable[[], float] = suspended_too,
        asked_at: float | None = None,
        on_progress: OnProgress | None = None,
        checkpoints: StageCheckpoints | None = None,
    ) -> None:
        """asked_at: by `monotonic`, before the claim was sent; None: just now.

        on_progress: told at each report, in the thread that reports; must be quick and must not raise.

        checkpoints: where those of this stage are; None: nothing is kept.
        """
        self._ledger = ledger
        self._grant = grant
        self._holder = holder
        self._monotonic = monotonic
        self._on_progress = on_progress
        self._checkpoints = checkpoints
        self._confirmed_at = monotonic() if asked_at is None else asked_at
        self._progress: dict[str, Any] | None = None
        self._is_committed = False
        self._stop_with: TemporaryError | LeaseLost | StageCancelled | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{grant.run_id[:8]}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, Drained) and self._checkpoints is not None:
                # The last border, which may be younger than what was kept.
                self._checkpoints.flush()
        finally:
            self._closed.set()
            self._thread.join(timeout=self._holder.renew_s)

    # -- what a trainer asks and tells

    def report(self, progress: Progress) -> None:
        """Tell how far the stage is; the thread sends the newest within a second."""
        self._progress = {key: value for key, value in asdict(progress).items() if value is not None}
        if self._on_progress is not None:
            self._on_progress(progress)

    def check(self) -> None:
        """Raise StageCancelled, LeaseLost or Drained when the stage must stop now."""
        if self._stop_with is not None and not (self._is_committed and isinstance(self._stop_with, StageCancelled)):
            raise self._stop_with
        if self._holder.is_draining():
            raise Drained

    def committed(self) -> None:
        """The ledger holds what the stage decided: from here on a cancellation comes too late."""
        self._is_committed = True

    def check_before_write(self) -> None:
        """Like `check`, and raise LeaseLost when the lease was not confirmed lately enough to be sure of it."""
        self.check()
        silent_s = self._monotonic() - self._confirmed_at
        if silent_s > self._holder.lease_s * _WRITE_WITHIN:
            message = f"the lease of {self._grant.run_id} was last confirmed {silent_s:.0f} s ago; nothing is written"
            raise LeaseLost(message)

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Keep what a later grant of this stage may resume from. Raises LeaseLost."""
        if self._checkpoints is not None:
            self._checkpoints.save(name, payload)

    def load_checkpoint(self) -> tuple[str, bytes] | None:
        """Load what an earlier grant of this stage kept last."""
        return None if self._checkpoints is None else self._checkpoints.load()

    # -- the thread

    def _keep(self) -> None:
        sent: dict[str, Any] | None = None
        while not self._closed.wait(PROGRESS_EVERY_S):
            due = self._monotonic() - self._confirmed_at >= self._holder.renew_s
            if due or self._progress != sent:
                sent = self._progress
                if not self._renew(sent):
                    return

    def _renew(self, progress: dict[str, Any] | None) -> bool:
        asked_at = self._monotonic()
        try:
            renewal = self._ledger.renew(self._grant, progress=progress, worker=self._holder.worker)
        except LeaseLost as exc:
            self._stop_with = exc
            return False
        except TemporaryError as exc:
            log.warning("lease.renewal_failed", run_id=self._grant.run_id, stage=self._grant.stage, error=str(exc))
            return True
        except Exception:
            # The edge of a thread: without it the lease runs out, though the ledger may answer again in a second.
            log.exception("lease.renewal_crashed", run_id=self._grant.run_id, stage=self._grant.stage)
            return True
        self._confirmed_at = asked_at
        if renewal.cancel:
            self._stop_with = StageCancelled(f"run {self._grant.run_id} was cancelled")
        elif renewal.drain:
            self._stop_with = Drained()
        return True
