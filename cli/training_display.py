"""How a command shows trainings that it runs by itself, without a run in the ledger, and tables of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

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


@contextmanager
def training_bars() -> Iterator[Bars]:
    """Bars with a count and the time that is left, on standard error until the block ends."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from mlops.reporting.terminal import err

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        yield bars


def print_lines(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown, as the documentation holds it; whole, however wide."""
    lines = [title, "", f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    typer.echo("\n".join([*lines, ""]))
