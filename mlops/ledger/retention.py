"""What is taken out of the ledger when it is old.

Promotions, experiments with their looks, audit and the policies' edits stay for ever.

Each call takes a bounded batch in a transaction of its own, so that no writer waits for it for long.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import and_, delete, exists, or_, select, tuple_

from mlops.domain.records import RunState
from mlops.domain.run_states import TERMINAL
from mlops.ledger import tables
from mlops.ledger.columns import after
from mlops.ledger.engine import Repository

_run = tables.run.c
_report = tables.drift_report.c
_live_report = tables.live_report.c

DAY_S = 86_400.0
BATCH = 500
"""Rows of one transaction."""
_BATCH_OF_COUNTS = 5000
"""Small ones, of which there is one a minute for each process that serves a version."""

has_report = exists().where(_report.run_id == _run.run_id)
_has_promotion = exists().where(tables.promotion.c.run_id == _run.run_id)
_trained_decided = exists().where(tables.promotion.c.made_by == _run.run_id)
"""What was measured of a model that was decided about stays: its gates are asked again by each later decision."""


class Retention(Repository):
    """Deletes; the reconciler calls it."""

    def purge_runs(self, *, older_than_days: float, limit: int = BATCH) -> int:
        """Runs that ended so long ago and left neither a drift report nor a promotion, with their stages; how many.

        Nor is one deleted whose model was decided about, by whichever run.
        """
        old = (
            select(_run.run_id)
            .where(_run.state.in_(TERMINAL), _run.finished_at < after(-older_than_days * DAY_S))
            .where(~has_report, ~_has_promotion, ~_trained_decided)
            .order_by(_run.finished_at)
            .limit(limit)
        )
        with self.database.transaction("ledger.purge_runs") as connection:
            return connection.execute(delete(tables.run).where(_run.run_id.in_(old))).rowcount

    def purge_reports(self, *, older_than_days: float, limit: int = BATCH) -> int:
        """Drift reports that are so old; how many. Their runs follow by `purge_runs`."""
        old = (
            select(_report.id)
            .where(_report.created_at < after(-older_than_days * DAY_S))
            .order_by(_report.id)
            .limit(limit)
        )
        with self.database.transaction("ledger.purge_reports") as connection:
            return connection.execute(delete(tables.drift_report).where(_report.id.in_(old))).rowcount

    def purge_live_reports(self, *, older_than_days: float, limit: int = BATCH) -> int:
        """What scorings said so long ago, but for each strategy's newest; how many. The days' scores stay for ever."""
        later = tables.live_report.alias("later")
        has_later = exists().where(
            later.c.namespace == _live_report.namespace,
            later.c.strategy == _live_report.strategy,
            later.c.id > _live_report.id,
        )
        old = (
            select(_live_report.id)
            .where(_live_report.created_at < after(-older_than_days * DAY_S), has_later)
            .order_by(_live_report.id)
            .limit(limit)
        )
        with self.database.transaction("ledger.purge_live_reports") as connection:
            return connection.execute(delete(tables.live_report).where(_live_report.id.in_(old))).rowcount

    def purge_answers(self, *, older_than_days: float, limit: int = _BATCH_OF_COUNTS) -> int:
        """Counts of answers of minutes that are so long ago; how many."""
        key = list(tables.answer_count.primary_key)
        minute = tables.answer_count.c.minute
        old = select(*key).where(minute < select(after(-older_than_days * DAY_S)).scalar_subquery()).limit(limit)
        with self.database.transaction("ledger.purge_answers") as connection:
            return connection.execute(delete(tables.answer_count).where(tuple_(*key).in_(old))).rowcount

    def purge_workers(self, *, unseen_days: float) -> int:
        """Workers that nobody has seen for so long; how many."""
        gone = tables.worker.c.seen_at < after(-unseen_days * DAY_S)
        with self.database.transaction("ledger.purge_workers") as connection:
            return connection.execute(delete(tables.worker).where(gone)).rowcount

    def unknown_runs(self, run_ids: Collection[str]) -> set[str]:
        """Those that are not in the ledger: removed long ago, or another ledger's."""
        if not run_ids:
            return set()
        with self.database.reading() as connection:
            return set(run_ids) - set(connection.scalars(select(_run.run_id).where(_run.run_id.in_(run_ids))))

    def never_resumed(self, run_ids: Collection[str], *, dead_for_days: float) -> list[str]:
        """Those of the runs that no worker will take up again: not known, ended, or dead for so long, ascending.

        A dead run can be brought back for a while, and then goes on where it was.
        """
        if not run_ids:
            return []
        is_revivable = and_(_run.state == RunState.DEAD, _run.finished_at >= after(-dead_for_days * DAY_S))
        kept = or_(_run.state.not_in(TERMINAL), is_revivable)
        query = select(_run.run_id).where(_run.run_id.in_(run_ids), kept)
        with self.database.reading() as connection:
            still = set(connection.scalars(query))
        return sorted(set(run_ids) - still)
