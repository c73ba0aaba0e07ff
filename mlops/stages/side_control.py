"""The `TrainingControl` of a training beside the main one: a fold, the random split, a command's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.domain.ports import Progress, TrainingControl


class SideControl:
    """One training of several: it stops with the main one, and keeps no checkpoint, which would be taken for that
    one's.
    """

    def __init__(self, main: TrainingControl, *, number: int, total: int, unit: str) -> None:
        """number: from 0, of `total` trainings of the same length."""
        self._main, self._number, self._total, self._unit = main, number, total, unit

    def report(self, progress: Progress) -> None:
        """Progress of all together."""
        done = self._number * progress.total + progress.done
        self._main.report(
            replace(progress, done=done, total=self._total * progress.total, unit=self._unit, left_s=None)
        )

    def check(self) -> None:
        """Raise what stops the main training."""
        self._main.check()

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Do nothing: no checkpoint is kept."""

    def load_checkpoint(self) -> None:
        """Return None: there is nothing to resume from."""
