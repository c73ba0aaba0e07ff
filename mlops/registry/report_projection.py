"""Makes the registry show the drift reports of the ledger: the JSON, the page, the figures of each check.

Outside the check, which neither waits for MLflow nor fails with it: the ledger is the outbox, and the reconciler
empties it (`UnloggedReports`). A train stage, which needs MLflow anyway, logs its own run's report first, so that the
trained version can name it. Safe to repeat, and two at once: the ledger notes the first, the other one's is deleted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from mlops.domain.errors import (
    AcisError,
    DataError,
    PermanentError,
    RegistryError,
    ReportNotFound,
    TemporaryError,
)
from mlops.domain.ports import ReportRecord
from mlops.domain.records import LIVE
from mlops.registry.notes import table
from mlops.reporting.report_files import page_of

if TYPE_CHECKING:
    from mlops.domain.ports import Ledger, ModelRegistry
    from mlops.domain.records import StoredReport
    from mlops.registry.services import RegistryServices

log = structlog.get_logger(__name__)

#: On a training's run and version: the run of the drift check that it followed.
REPORT_TAG = "acis.drift_report_run"
#: One step's time: a long queue, after MLflow was away, does not keep promotions from being shown.
_STEP_S = 20.0
#: A report that was refused is tried again after this: what MLflow holds, or how it is set up, may have changed.
_REFUSED_S = 3600.0
#: Tags are short: MLflow cuts values at 5,000 characters.
_MAX_TAG = 1000


def project_report(ledger: Ledger, registry: ModelRegistry, run_id: str) -> str | None:
    """Log a run's report where it is not logged yet, and return the registry's run; None for a replay's.

    Raises ReportNotFound, RegistryUnavailable, RegistryError, LedgerUnavailable, DataError for a report that cannot
    be shown.
    """
    stored = ledger.stored_report(run_id)
    if stored.registry_run_id is not None or stored.namespace != LIVE:
        return stored.registry_run_id
    shown = registry.log_report(_record(ledger, stored))
    if not ledger.report_logged(run_id, registry_run_id=shown.run_id, url=shown.url):
        first = ledger.stored_report(run_id).registry_run_id
        if first is not None and first != shown.run_id:
            registry.drop_report(shown.run_id)
        return first
    log.info("report.logged", run_id=run_id, strategy=stored.strategy, mlflow_run_id=shown.run_id)
    return shown.run_id


def report_tags(ledger: Ledger, registry: ModelRegistry, run_id: str) -> dict[str, str]:
    """Return the tag that names a training's drift report; none where there is none, or it cannot be logged now.

    A model is fitted by then: no server that is away for a moment may cost it.
    """
    try:
        shown = project_report(ledger, registry, run_id)
    except ReportNotFound:
        return {}
    except (TemporaryError, RegistryError, DataError) as exc:
        log.warning("report.not_logged", run_id=run_id, error=str(exc), next="the reconciler tries it again")
        return {}
    return {REPORT_TAG: shown} if shown else {}


class UnloggedReports:
    """Empties the ledger's list of reports; those that the registry refused wait for a while."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._refused_until: dict[str, float] = {}

    def step(self, services: RegistryServices) -> int:
        """Log what is not logged yet and return how many; the rest is tried again. Raises LedgerUnavailable."""
        if services.settings.mlflow_tracking_uri is None:
            return 0
        n_logged = 0
        began = self._monotonic()
        until = began + _STEP_S
        self._refused_until = {run_id: then for run_id, then in self._refused_until.items() if then > began}
        for run_id in services.ledger.unlogged_reports(limit=50 + len(self._refused_until)):
            if run_id in self._refused_until:
                continue
            if self._monotonic() > until:
                break
            try:
                project_report(services.ledger, services.registry, run_id)
            except TemporaryError as exc:
                log.warning("report.waits", run_id=run_id, error=str(exc), action="look at MLflow; it is tried again")
                break
            except PermanentError as exc:
                self._refused_until[run_id] = began + _REFUSED_S
                log.warning("report.not_logged", run_id=run_id, error=str(exc), action=f"acis report {run_id} --html")
            else:
                n_logged += 1
        return n_logged


def _record(ledger: Ledger, stored: StoredReport) -> ReportRecord:
    try:
        return _report_record(stored, page_of(ledger, stored.run_id))
    except AcisError:
        raise
    except Exception as exc:  # of whatever version the document is: one that is lame must not hold up the others
        message = f"the report of run {stored.run_id} cannot be shown: {type(exc).__name__}: {exc}"
        raise DataError(message) from exc


def _report_record(stored: StoredReport, page: str) -> ReportRecord:
    """Return what the registry logs of a check."""
    document, as_of = stored.document, str(stored.as_of or "")
    verdict, summary = document.get("verdict") or {}, document["summary"]
    said = verdict.get("verdict") or ("drifted" if summary["drift_detected"] else "stable")
    return ReportRecord(
        ledger_run_id=stored.run_id,
        strategy=stored.strategy,
        run_name=f"{stored.strategy} {as_of} {said}",
        params={"alert_threshold": summary["alert_threshold"], "rule": verdict.get("rule", "raw")},
        metrics=_metrics(document),
        tags={
            "strategy": stored.strategy,
            "as_of": as_of,
            "verdict": said,
            "reason": str(verdict.get("reason", ""))[:_MAX_TAG],
            "acis.kind": "drift_report",
        },
        note=_note(stored, said),
        files={"drift_report.json": json.dumps(document, indent=1), "drift_report.html": page},
    )


def _note(stored: StoredReport, said: str) -> str:
    """Describe the check for MLflow's pages."""
    document = stored.document
    verdict, windows = document.get("verdict") or {}, document.get("windows") or {}
    rows = [
        (name, windows[name].get("start", ""), windows[name].get("end", ""), f"{document[count]:,}")
        for name, count in (("reference", "n_samples_reference"), ("current", "n_samples_current"))
        if isinstance(windows.get(name), Mapping)
    ]
    parts = [
        f"**{stored.strategy}**, drift check as of {stored.as_of}: **{said}**",
        str(verdict.get("reason", ""))[:_MAX_TAG],
        table(("", "from", "to", "rows"), *rows) if rows else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _metrics(document: Mapping[str, Any]) -> dict[str, float]:
    summary, calibration = document["summary"], document.get("calibration") or {}
    calibrated = (document.get("verdict") or {}).get("calibrated") or {}
    found = {
        "drift_ratio": summary["drift_ratio"],
        "drift_detected": summary["drift_detected"],
        "drifted_features_ks": summary["drifted_features_ks"],
        "drifted_features_psi": summary["drifted_features_psi"],
        "n_features": document["n_features"],
        "n_samples_reference": document["n_samples_reference"],
        "n_samples_current": document["n_samples_current"],
        "n_findings": len(document.get("findings") or ()),
        "p_value": calibrated.get("p_value", calibration.get("p_value")),
        "statistic": calibration.get("statistic"),
        "critical": calibration.get("critical"),
    }
    return {name: float(value) for name, value in found.items() if value is not None}
