"""Progress of trainings that a command runs by itself, without a run in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from mlops.domain.ports import Progress


class ShownTraining:
    """The `TrainingControl` of one line of a progress display; Ctrl-C stops by itself, and nothing is kept."""

    def __init__(self, bars: Bars, line: TaskID) -> None:
        self._bars, self._line = bars, line

    def report(self, progress: Progress) -> None:
        """Show it."""
        self._bars.update(self._line, completed=progress.done, total=progress.total)

    def check(self) -> None:
        """There is no lease to lose."""

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Nothing is kept."""

    def load_checkpoint(self) -> None:
        """Nothing to resume from."""
