"""What a drift report says in short, as columns beside it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops.domain.drift.history import check_record


def check_columns(document: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of `mlops_drift_report`; None where the report does not say."""
    record = check_record(document)
    verdict, calibration = document.get("verdict") or {}, document.get("calibration") or {}
    return {
        "verdict": record.verdict,
        "rule": record.rule,
        "raw_verdict": record.raw_verdict,
        "share": record.share,
        "alert_share": (verdict.get("raw") or {}).get("alert_share"),
        "p_value": record.p_value,
        "alpha": calibration.get("alpha"),
        "n_placements": calibration.get("n_placements"),
    }
