"""What the commands show: lines as stages end, progress while they run, errors without a traceback.

Results go to standard output, everything else to standard error, so `--json` can be piped.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from config.settings import SettingsError, load_settings
from mlops.domain.errors import AcisError, VolumeFull
from mlops.domain.records import Accepted, RunView, StageState, StageView
from mlops.reporting.narrative import stage_lines
from mlops.volumes import in_words, says_full

#: Exit codes of every command.
OK, FINDING, ERROR = 0, 1, 2

#: A terminal breaks a long line in the middle of a word, so there lines are wrapped here; a file gets them whole.
out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class StageDisplay:
    """Prints a stage's lines when it ends, and a progress line while it runs."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._printed: set[tuple[str, str]] = set()
        self._waits: dict[tuple[str, str], str] = {}
        self._progress: Progress | None = None
        self._tasks: dict[tuple[str, str], Any] = {}

    def accepted(self, accepted: Accepted) -> None:
        """Say so when the run was there already."""
        if not accepted.created:
            err.print(f"A run is active already; following it. Run ID: {accepted.run_id}")

    def stage(self, view: RunView, stage: StageView) -> None:
        """A stage changed."""
        key = (view.run_id, stage.stage.value)
        if stage.state in (StageState.QUEUED, StageState.RUNNING):
            self._show_progress(view, stage, key)
            return
        if key in self._printed:
            return
        self._printed.add(key)
        self._end(key)
        if not self._quiet:
            for line in stage_lines(view.strategy, view.kind, stage):
                out.print(line, markup=False)

    def _show_progress(self, view: RunView, stage: StageView, key: tuple[str, str]) -> None:
        waits_for = stage.error if stage.not_before is not None else None
        if self._progress is None:
            if waits_for and self._waits.get(key) != waits_for:  # once, and not each time that it is tried again
                self._waits[key] = waits_for
                err.print(f"{view.strategy}: {stage.stage} waits: {waits_for}", markup=False)
            return
        words = f"{view.strategy}: {stage.stage} {stage.state}"
        if waits_for:
            words += f" (waits: {waits_for})"
        done = stage.progress or {}
        if done:
            words += f" {done.get('done', 0)} of {done.get('total', '?')} {done.get('unit', '')}".rstrip()
        if done.get("left_s") is not None:
            words += f", {time_left(done['left_s'])} left"
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(words, total=done.get("total"))
        self._progress.update(
            self._tasks[key], description=words, completed=done.get("done", 0), total=done.get("total")
        )

    def _end(self, key: tuple[str, str]) -> None:
        if self._progress is not None and key in self._tasks:
            self._progress.remove_task(self._tasks.pop(key))

    @contextmanager
    def live(self) -> Iterator[StageDisplay]:
        """Show progress on standard error while the block runs; only on a terminal."""
        if not err.is_terminal:
            yield self
            return
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        ) as progress:
            self._progress = progress
            yield self
        self._progress = None


def short_run_id(run_id: str) -> str:
    """An id as lists show it: the first eight characters of a UUID, every other one whole. Commands take both."""
    return run_id[:8] if _UUID.fullmatch(run_id) else run_id


def time_left(seconds: float) -> str:
    """`45 s`, `3 min`, `1 h 10 min`: rounded up, as an estimate deserves."""
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def print_json(value: object) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(as_json(value), indent=2, allow_nan=False) + "\n")


def as_json(value: object) -> Any:  # noqa: ANN401 -- JSON is any
    """Dataclasses, dates and enums as plain JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value


def guarded(command: Callable[[], int]) -> int:
    """Run a command's body: expected errors become one line and exit code 2, defects keep their traceback."""
    try:
        return _without_full_volumes(command)
    except (AcisError, SettingsError) as exc:
        err.print(f"Error: {exc}", style="red", markup=False)
        return ERROR
    except KeyboardInterrupt:
        err.print("Interrupted; what was accepted goes on or is failed by the reconciler.")
        return 130


def _without_full_volumes(command: Callable[[], int]) -> int:
    """The command's exit code. Raises VolumeFull, in words, for any error that comes of a volume without room."""
    try:
        return command()
    except AcisError:
        raise
    except Exception as exc:
        if not says_full(exc):
            raise
        raise VolumeFull(in_words(exc, [load_settings().var_dir, Path.cwd()])) from exc
