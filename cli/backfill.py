"""`acis backfill`: drift checks over past dates, beside the live loop."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from mlops.domain.policies import Rule
from mlops.runs.command_line import AsJson, command, run_option

if TYPE_CHECKING:
    from datetime import date

    from rich.table import Table

    from lab.backfill import DateChecked

# ---- Ctrl-C that lets a command finish what it is at


class _Interruption:
    """Context manager: the first Ctrl-C makes it true, a second one interrupts as ever."""

    def __init__(self, words: str) -> None:
        self._words = words
        self._came = False
        self._before: Any = None

    def __bool__(self) -> bool:
        return self._came

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from mlops.reporting.terminal import err

        err.print(self._words)


_DAY = ["%Y-%m-%d"]


@command
def backfill(
    strategies: Annotated[list[str], typer.Argument(help="Strategies of the strategies file.")],
    start: Annotated[datetime, typer.Option("--from", formats=_DAY, help="First date.")],
    end: Annotated[datetime | None, typer.Option("--to", formats=_DAY, help="Last date; default: the newest.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Check each n-th trading date.")] = 5,
    rule: Annotated[Rule | None, run_option("drift_rule")] = None,
    namespace: Annotated[str, typer.Option(help="Where the ledger keeps them; never `live`.")] = "backfill",
    json: AsJson = False,
) -> int:
    """Check past dates for drift, beside the live loop: nothing is trained or promoted. Give it again to go on.

    A date that is done is skipped, a date that fails is reported and stops nothing. Exit code 1 where one failed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lab.backfill import backfill as backfill_of
    from lab.backfill import backfill_dates, checked_namespace
    from mlops.reporting.terminal import FINDING, OK, err, out, print_json
    from tasks.services import connect

    services = connect()
    name = checked_namespace(namespace)
    known = [services.strategies[strategy] for strategy in dict.fromkeys(strategies)]
    last = end.date() if end else None
    days: dict[str, list[date]] = {
        strategy.name: backfill_dates(services.source, strategy, start=start.date(), end=last, every=every)
        for strategy in known
    }
    found: dict[str, list[DateChecked]] = {strategy: [] for strategy in days}
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with (
        _Interruption("Stops after this date; Ctrl-C again: at once.") as interrupted,
        Progress(*columns, console=err, transient=True, disable=json or not err.is_terminal) as progress,
    ):
        for strategy, wanted in days.items():
            bar = progress.add_task(strategy, total=len(wanted))
            for result in backfill_of(
                services,
                strategy,
                wanted,
                namespace=name,
                drift_rule=rule,
                is_stopped=lambda: bool(interrupted),
            ):
                found[strategy].append(result)
                progress.update(bar, advance=1, description=f"{strategy} {result.as_of}")
                if result.error:
                    err.print(f"{strategy} {result.as_of}: {result.error}", style="red", markup=False)
            if interrupted or any(result.state == "stopped" for result in found[strategy]):
                break
    is_whole = all(len(found[strategy]) == len(wanted) for strategy, wanted in days.items())
    if json:
        print_json({"namespace": name, "complete": is_whole, "dates": found})
    else:
        out.print(_table(days, found))
        out.print(f"Each check: acis drift-history STRATEGY --namespace {name}", markup=False)
    if not is_whole:
        err.print("Stopped; what is done is kept. Give the same command again to go on.")
        return 130 if interrupted else FINDING
    return FINDING if any(result.error for results in found.values() for result in results) else OK


def _table(days: Mapping[str, Sequence[date]], found: Mapping[str, Sequence[DateChecked]]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("strategy", "dates", "checked", "done before", "drifted", "raw", "insufficient", "failed", "left"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    for strategy, wanted in days.items():
        results = found[strategy]
        counts = (
            len(wanted),
            sum(result.state == "checked" for result in results),
            sum(result.state == "done before" for result in results),
            sum(result.verdict == "drifted" for result in results),
            sum(result.raw_verdict == "drifted" for result in results),
            sum(result.verdict == "insufficient" for result in results),
            sum(result.state in ("failed", "stopped") for result in results),
            len(wanted) - len(results),
        )
        table.add_row(strategy, *(str(count) for count in counts))
    return table
