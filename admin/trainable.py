"""The strategies as the training page lists them: champion, last training, what trains now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from admin.listing import Shown, shown_strategies
from mlops.domain.records import Kind

if TYPE_CHECKING:
    from admin.request_context import Visit
    from mlops.ledger.queries.models import ModelKey, TrainedLine
    from mlops.ledger.queries.strategy_status import OpenRun

KINDS = (Kind.TRAIN, Kind.RETRAIN, Kind.PIPELINE)
"""Of the runs that may train."""
Show = Literal["", "no champion", "running"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A strategy that can be trained."""

    strategy: str
    key: ModelKey
    open_runs: tuple[OpenRun, ...]
    newest: TrainedLine | None = None
    """Its last training; looked up for those that are shown."""


SORTS: Mapping[str, Callable[[Line], Any]] = {
    "strategy": lambda line: line.strategy,
    "champion": lambda line: line.key.as_of,
    "trained": lambda line: line.key.trained_at,
}
SHOWS: Mapping[str, Callable[[Line], bool]] = {
    "": lambda _: True,
    "no champion": lambda line: line.key.version is None,
    "running": lambda line: bool(line.open_runs),
}


def open_trainings(visit: Visit) -> list[OpenRun]:
    """Runs that wait or work, of the kinds that may train."""
    return [run for run in visit.ledger.open_runs() if run.kind in KINDS]


def trainable(
    visit: Visit,
    open_runs: Sequence[OpenRun],
    *,
    show: Show,
    tag: str,
    **listed: Any,  # noqa: ANN401 -- as in `shown`
) -> Shown[Line]:
    """A page of the strategies that can be trained."""
    names = list(visit.services.strategies)
    keys = visit.ledger.model_keys(names)
    running: dict[str, list[OpenRun]] = defaultdict(list)
    for run in open_runs:
        running[run.strategy].append(run)
    lines = (Line(strategy=name, key=keys[name], open_runs=tuple(running[name])) for name in names)
    return shown_strategies(visit, lines, keep=SHOWS[show], tag=tag, sorts=SORTS, **listed)


def with_trainings(visit: Visit, listed: Shown[Line]) -> Shown[Line]:
    """The same page, each with its last training."""
    models = visit.ledger.model_lines([line.strategy for line in listed.rows])
    return replace(listed, rows=tuple(replace(line, newest=models[line.strategy].newest) for line in listed.rows))
