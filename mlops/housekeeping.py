"""Takes away what is old, so that nothing grows without bound; the settings `keep_*_days` say what is old.

Called by the reconciler once an hour, and by `acis housekeeping`. Safe to repeat, and beside another's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import CheckpointsUnavailable
from mlops.registry.kept_models import tidy_models

if TYPE_CHECKING:
    from mlops.bootstrap import Services

log = structlog.get_logger(__name__)

#: A worker is shown as gone for so long.
_UNSEEN_DAYS = 7.0
#: What whoever serves has answered, by the minute.
_ANSWER_DAYS = 30.0
#: Batches of one call: a ledger of years is emptied in portions.
_BATCHES = 20


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """How many of each were taken away."""

    runs: int = 0
    reports: int = 0
    report_files: int = 0
    live_reports: int = 0
    """What old scorings said."""
    checkpoints: int = 0
    models: int = 0
    """Former champions' model files."""
    studies: int = 0
    workers: int = 0
    prediction_months: int = 0
    answer_counts: int = 0


def tidy(services: Services) -> Tidied:
    """Raises LedgerUnavailable; checkpoints that do not answer wait for the next time."""
    settings, ledger = services.settings, services.ledger
    report_days = settings.keep_reports_days
    _all(ledger.fill_check_columns)
    _all(ledger.keep_model_files)  # before the runs that say it go
    predictions = ledger.purge_predictions(older_than_days=settings.keep_predictions_days)
    tidied = Tidied(
        # Reports first: a run goes once its report is gone.
        reports=_all(lambda: ledger.purge_reports(older_than_days=report_days)) if report_days is not None else 0,
        report_files=0 if report_days is None else _old_report_files(services, days=report_days),
        runs=_all(lambda: ledger.purge_runs(older_than_days=settings.keep_runs_days)),
        live_reports=_all(lambda: ledger.purge_live_reports(older_than_days=settings.keep_runs_days)),
        checkpoints=_checkpoints(services),
        models=_models(services),
        studies=_studies(services),
        workers=ledger.purge_workers(unseen_days=_UNSEEN_DAYS),
        prediction_months=len(predictions.partitions),
        answer_counts=_all(lambda: ledger.purge_answers(older_than_days=_ANSWER_DAYS)),
    )
    if tidied != Tidied():
        log.info("housekeeping.done", **{name: n for name, n in vars(tidied).items() if n})
    return tidied


def _all(batch: Callable[[], int]) -> int:
    total = 0
    for _ in range(_BATCHES):
        n = batch()
        total += n
        if n == 0:
            break
    return total


def _checkpoints(services: Services) -> int:
    """Of runs that ended; of runs that this ledger does not know, which may be another's, only once they are old."""
    keep_days = services.settings.keep_dead_days
    try:
        newest = services.checkpoints.newest()
        unknown = services.ledger.unknown_runs(list(newest))
        oldest = services.ledger.now() - timedelta(days=keep_days)
        kept = {run_id for run_id in unknown if newest[run_id] > oldest}
        gone = services.ledger.never_resumed([one for one in newest if one not in kept], dead_for_days=keep_days)
        for run_id in gone:
            services.checkpoints.delete_run(run_id)
    except CheckpointsUnavailable as exc:
        log.warning("housekeeping.checkpoints_wait", error=str(exc))
        return 0
    return len(gone)


def _models(services: Services) -> int:
    """Of former champions; the newest few of each strategy are kept."""
    try:
        return tidy_models(services)
    except CheckpointsUnavailable as exc:
        log.warning("housekeeping.models_wait", error=str(exc))
        return 0


def _studies(services: Services) -> int:
    """Of runs that did not end well; a training deletes its own."""
    gone = services.ledger.never_resumed(services.studies.names(), dead_for_days=services.settings.keep_dead_days)
    for run_id in gone:
        services.studies.delete(run_id)
    return len(gone)


def _old_report_files(services: Services, *, days: float) -> int:
    """Not those of another ledger, which has a time of its own for them."""
    from mlops.reporting.report_files import is_anothers  # noqa: PLC0415 -- loads what draws pages, for a rare setting

    folder, owner = services.settings.report_dir, services.ledger.identity().ledger_id
    oldest = time.time() - days * 86_400
    n_removed = 0
    # Pages first: whose they are stands in the report beside them.
    for path in [*folder.glob("drift_report_*.html"), *folder.glob("drift_report_*.json")]:
        try:
            if path.stat().st_mtime < oldest and not is_anothers(path.with_suffix(".json"), owner):
                path.unlink()
                n_removed += 1
        except OSError as exc:
            # Somebody else's file in a shared temporary folder, or gone meanwhile.
            log.info("housekeeping.file_left", path=str(path), error=str(exc))
    return n_removed
