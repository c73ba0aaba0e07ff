"""Finished drift checks in a ledger, with as much of a report as its short form is read from."""

from __future__ import annotations

from datetime import date
from typing import Any

from mlops.domain.records import Kind, RunState, StageOutcome
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import granted, request_for


def short_report(
    verdict: str = "stable", *, share: float = 0.1, p_value: float | None = 0.02, rule: str = "calibrated"
) -> dict[str, Any]:
    """Of a check with 400 earlier shifts."""
    return {
        "timestamp": "2026-03-02T03:00:00",
        "summary": {"drift_detected": verdict == "drifted"},
        "verdict": {
            "verdict": verdict,
            "rule": rule,
            "raw": {"verdict": "drifted" if share >= 0.3 else "stable", "share": share, "alert_share": 0.3},
        },
        "calibration": {"p_value": p_value, "alpha": 0.05, "n_placements": 400},
    }


def checked(ledger: SqlLedger, strategy: str, as_of: date, verdict: str = "stable", **report: Any) -> str:
    """The run of a finished check."""
    accepted = ledger.accept(request_for(strategy, Kind.CHECK))
    outcome = StageOutcome(
        result={"verdict": verdict, "as_of": as_of.isoformat()},
        run_state=RunState.SUCCEEDED,
        as_of=as_of,
        drift_report=short_report(verdict, **report),
    )
    ledger.finish(granted(ledger, accepted.run_id), outcome)
    return accepted.run_id
