"""How the worker's main process treats a message: when it acknowledges, and what it does when a child dies.

A stage's message is acknowledged as soon as a child has it: what dies then is found by its lease, and a
reset connection cannot deliver a running training twice. A start message is acknowledged when its run is
in the ledger, because until then nothing else knows of it.
"""

from __future__ import annotations

from typing import Any

import structlog
from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # the stubs lack it
from billiard.exceptions import WorkerLostError
from celery import current_app
from celery.worker.request import Request

from tasks.memory import KilledForMemory

log = structlog.get_logger(__name__)

#: As billiard writes it.
SIGKILL_WORDS = "signal 9"
_killed_for_memory = KilledForMemory()


class StageRequest(Request):
    """A message of one of the three stage tasks."""

    # The base class has slots.
    n_killed_before = 0

    def on_accepted(self, pid: Any, time_accepted: Any) -> None:  # noqa: ANN401 -- the base class's signature
        """A child has taken it."""
        super().on_accepted(pid, time_accepted)
        self.n_killed_before = _killed_for_memory.n_killed()
        if "run_id" in self.kwargs:
            self.acknowledge()

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 -- the base class's signature
        """A task failed, or its child died: then somebody must give the lease back."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):  # as billiard wraps it
            error = error.exc
        if isinstance(error, WorkerLostError) and "run_id" in self.kwargs:
            cause = str(error)
            if SIGKILL_WORDS in cause:
                cause = f"{cause}; {_killed_for_memory.reason(self.n_killed_before)}"
            self._report_lost_child(cause)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _report_lost_child(self, cause: str) -> None:
        # The main process forks children later, so it keeps away from the database: a control worker does it.
        try:
            current_app.send_task(
                "stage.lost",
                kwargs={"run_id": self.kwargs["run_id"], "task": self.name, "task_id": self.id, "cause": cause},
                queue="control",
                ignore_result=True,
                retry=False,
            )
        except Exception:
            log.exception("stage.lost_not_reported", run_id=self.kwargs["run_id"], next="its lease runs out")
