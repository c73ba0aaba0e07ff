"""The strategies as the training page lists them: champion, last training, what trains now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from admin.listing import Shown, shown
from mlops.ledger.records import Kind

if TYPE_CHECKING:
    from admin.visit import Visit
    from mlops.ledger.model_list import ModelLine, TrainedLine
    from mlops.ledger.standings import OpenRun

KINDS = (Kind.TRAIN, Kind.RETRAIN, Kind.PIPELINE)
"""Of the runs that may train."""
Show = Literal["", "no champion", "running"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A strategy that can be trained."""

    strategy: str
    model: ModelLine
    open_runs: tuple[OpenRun, ...]

    @property
    def newest(self) -> TrainedLine | None:
        """Its last training."""
        return self.model.newest

    @property
    def champion_as_of(self) -> date | None:
        """The champion's age counts from here."""
        return self.model.as_of

    @property
    def trained_at(self) -> datetime | None:
        """When it was trained last."""
        return self.newest.trained_at if self.newest else None


SORTS: Mapping[str, Callable[[Line], Any]] = {
    "strategy": lambda line: line.strategy,
    "champion": lambda line: line.champion_as_of,
    "trained": lambda line: line.trained_at,
    "took": lambda line: line.newest.run_s if line.newest else None,
}
SHOWS: Mapping[str, Callable[[Line], bool]] = {
    "": lambda _: True,
    "no champion": lambda line: line.model.version is None,
    "running": lambda line: bool(line.open_runs),
}


def open_trainings(visit: Visit) -> list[OpenRun]:
    """Runs that wait or work, of the kinds that may train."""
    return [run for run in visit.ledger.open_runs() if run.kind in KINDS]


def trainable(
    visit: Visit, open_runs: Sequence[OpenRun], *, q: str, show: Show, sort: str = "", page: int = 1, **size: int
) -> Shown[Line]:
    """A page of them; size : `n_rows`, where another than the usual"""
    names = list(visit.services.strategies)
    models = visit.ledger.model_lines(names)
    running: dict[str, list[OpenRun]] = defaultdict(list)
    for run in open_runs:
        running[run.strategy].append(run)
    lines = (Line(strategy=name, model=models[name], open_runs=tuple(running[name])) for name in names)
    found = (line for line in lines if SHOWS[show](line))
    return shown(found, q=q, sort=sort, page=page, text=lambda line: line.strategy, sorts=SORTS, **size)
