"""A drift check as a run in MLflow, beside the trainings: an experiment per strategy, its page as an artifact.

Behind `registry`, which gives it the gateway.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.addresses import MLFLOW_VIEW
from mlops.domain.errors import RegistryError
from mlops.domain.ports import RegistryRun
from mlops.registry.failures import gone_is_temporary
from mlops.registry.notes import NOTE_TAG, checks_note

if TYPE_CHECKING:
    from mlops.domain.ports import ReportRecord
    from mlops.registry.gateway import Gateway

RUN_TAG = "acis.run_id"
_PREFIX = "acis-drift-"


def experiment_of_checks(strategy: str) -> str:
    """Name of the experiment that holds a strategy's drift checks."""
    return f"{_PREFIX}{strategy}"


def is_of_checks(experiment: str) -> bool:
    """Whether an experiment of this name holds drift checks."""
    return experiment.startswith(_PREFIX)


def log_report(gateway: Gateway, report: ReportRecord, *, note: str) -> RegistryRun:
    """Log the check's run, described by `note`; a finished one that is there is returned instead.

    An attempt that died in between leaves a run in state RUNNING, which the next one takes up.
    """
    if "'" in report.ledger_run_id:
        message = f"run id {report.ledger_run_id!r} cannot be searched for; it holds a quote"
        raise RegistryError(message)
    experiment = gateway.experiment_id(experiment_of_checks(report.strategy), note=checks_note(report.strategy))
    found = gateway.runs([experiment], f"tags.`{RUN_TAG}` = '{report.ledger_run_id}'")
    run_id = next((run.run_id for run in found if run.status == "FINISHED"), None)
    if run_id is None:
        begun = next((run.run_id for run in found), None)
        tags = {**report.tags, RUN_TAG: report.ledger_run_id, NOTE_TAG: note}
        run_id = begun or gateway.create_run(experiment, report.run_name, tags)
        with gone_is_temporary(f"the report of run {report.ledger_run_id}"):
            gateway.log(run_id, params=report.params, metrics=report.metrics)
            with tempfile.TemporaryDirectory(prefix="acis-report-") as folder:
                for name, text in report.files.items():
                    Path(folder, name).write_text(text, encoding="utf-8")
                gateway.upload(run_id, {name: Path(folder, name) for name in report.files})
            gateway.end_run(run_id, "FINISHED")
    return RegistryRun(run_id=run_id, url=_url(gateway.shown_uri, experiment, run_id))


def _url(shown_uri: str, experiment: str, run_id: str) -> str | None:
    if not shown_uri.startswith(("http://", "https://")):
        return None
    return f"{shown_uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}?{MLFLOW_VIEW}"
