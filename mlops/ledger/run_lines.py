"""A run as a line of a list: the columns that it is read from, and the line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from mlops.domain.records import Kind, RunState
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow

_run = tables.run.c


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A run in a list."""

    run_id: str
    strategy: str
    kind: Kind
    state: RunState
    as_of: date | None
    reason: str
    requested_by: str
    created_at: datetime
    finished_at: datetime | None
    version: str | None
    verdict: str | None
    error: str | None


def run_line_columns() -> tuple[Any, ...]:
    """What a `RunLine` is read from; no policy, no result and no outcome as a whole."""
    return (
        _run.run_id,
        _run.strategy,
        _run.kind,
        _run.state,
        _run.as_of,
        _run.reason,
        _run.requested_by,
        _run.created_at,
        _run.finished_at,
        *outcome_columns(),
    )


def outcome_columns() -> tuple[Any, ...]:
    """What came of a run, in short: `version`, `verdict`, `error`."""
    return (
        _run.outcome["version"].as_string().label("version"),
        _run.outcome[("stages", "drift", "verdict")].as_string().label("verdict"),
        _run.outcome["error"].as_string().label("error"),
    )


def run_line(row: AnyRow) -> RunLine:
    """A row with those columns."""
    return RunLine(**{**dict(row._mapping), "kind": Kind(row.kind), "state": RunState(row.state)})  # noqa: SLF001 -- its name
