"""The strategies as the training page lists them: champion, last training, what trains now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from admin.listing import Shown, shown_strategies
from mlops.domain.records import Kind

if TYPE_CHECKING:
    from admin.request_context import RequestContext
    from mlops.ledger.queries.models import ModelKey, TrainedLine
    from mlops.ledger.queries.strategy_status import OpenRun

KINDS = (Kind.TRAIN, Kind.RETRAIN, Kind.PIPELINE)
"""Of the runs that may train."""
Show = Literal["", "no champion", "running"]


@dataclass(frozen=True, kw_only=True)
class TrainableLine:
    """A strategy that can be trained."""

    strategy: str
    key: ModelKey
    open_runs: tuple[OpenRun, ...]
    newest: TrainedLine | None = None
    """Its last training; looked up for those that are shown."""


SORTS: Mapping[str, Callable[[TrainableLine], Any]] = {
    "strategy": lambda line: line.strategy,
    "champion": lambda line: line.key.as_of,
    "trained": lambda line: line.key.trained_at,
}
SHOWS: Mapping[str, Callable[[TrainableLine], bool]] = {
    "": lambda _: True,
    "no champion": lambda line: line.key.version is None,
    "running": lambda line: bool(line.open_runs),
}


def open_trainings(context: RequestContext) -> list[OpenRun]:
    """Runs that wait or work, of the kinds that may train."""
    return [run for run in context.ledger.open_runs() if run.kind in KINDS]


def trainable(
    context: RequestContext,
    open_runs: Sequence[OpenRun],
    *,
    show: Show,
    tag: str,
    **listed: Any,  # noqa: ANN401 -- as in `shown`
) -> Shown[TrainableLine]:
    """A page of the strategies that can be trained."""
    names = list(context.services.strategies)
    keys = context.ledger.model_keys(names)
    running: dict[str, list[OpenRun]] = defaultdict(list)
    for run in open_runs:
        running[run.strategy].append(run)
    lines = (TrainableLine(strategy=name, key=keys[name], open_runs=tuple(running[name])) for name in names)
    return shown_strategies(context, lines, keep=SHOWS[show], tag=tag, sorts=SORTS, **listed)


def with_trainings(context: RequestContext, listed: Shown[TrainableLine]) -> Shown[TrainableLine]:
    """The same page, each with its last training."""
    models = context.ledger.model_lines([line.strategy for line in listed.rows])
    return replace(listed, rows=tuple(replace(line, newest=models[line.strategy].newest) for line in listed.rows))
