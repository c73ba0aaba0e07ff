"""A run as a line of a list: the columns that it is read from, and the line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement

from mlops.domain.records import Kind, RunState
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, columns_of, mapped

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


def run_line_columns() -> list[ColumnElement[Any]]:
    """What a `RunLine` is read from; no policy, no result and no outcome as a whole."""
    return columns_of(RunLine, _run, **outcome_columns())


def outcome_columns() -> dict[str, ColumnElement[Any]]:
    """What came of a run, in short."""
    return {
        "version": _run.outcome["version"].as_string(),
        "verdict": _run.outcome[("stages", "drift", "verdict")].as_string(),
        "error": _run.outcome["error"].as_string(),
    }


def run_line(row: AnyRow) -> RunLine:
    """A row with those columns."""
    return mapped(RunLine, row, kind=Kind(row.kind), state=RunState(row.state))
