"""Scores of days and what is said beside them, written with the end of the stage that found them.

Append-only: a day's newest row is what is known of it now, and an outcome that was restated is another row with the
time at which it became known. `mlops.ledger.queries.live` reads them.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from mlops.domain.records import Grant, LiveFindings
from mlops.ledger import tables
from mlops.ledger.columns import now

_score = tables.live_score.c


def store_live_findings(connection: Connection, grant: Grant, found: LiveFindings, *, as_of: date | None) -> None:
    """In the transaction that ends the stage, which the grant fences: of the days those that say something new."""
    if as_of is None:
        raise ValueError(f"the scoring of run {grant.run_id} names no date as of which it was made")
    known = _known_digests(connection, grant, first=min((day.as_of for day in found.days), default=as_of))
    fresh = [
        {
            "namespace": grant.namespace,
            "strategy": grant.strategy,
            "version": day.version,
            "model_sha256": day.model_sha256,
            "variant": day.variant,
            "as_of": day.as_of,
            "n_predictions": day.n_predictions,
            "n_labelled": day.n_labelled,
            "score": day.score,
            "digest": day.digest,
            "run_id": grant.run_id,
        }
        for day in found.days
        if known.get((day.version, day.model_sha256, day.variant, day.as_of)) != day.digest
    ]
    if fresh:
        connection.execute(insert(tables.live_score).values(known_at=now()), fresh)
    connection.execute(
        insert(tables.live_report).values(
            run_id=grant.run_id,
            namespace=grant.namespace,
            strategy=grant.strategy,
            as_of=as_of,
            document=found.document,
            created_at=now(),
        )
    )


def _known_digests(connection: Connection, grant: Grant, *, first: date) -> dict[tuple[str, str, str, date], str]:
    """The digest of the newest row of each version, model, variant and day."""
    key = (_score.version, _score.model_sha256, _score.variant, _score.as_of)
    newest = (
        select(*key, _score.digest)
        .ext(distinct_on(*key))
        .where(_score.namespace == grant.namespace, _score.strategy == grant.strategy, _score.as_of >= first)
        .order_by(*key, _score.id.desc())
    )
    return {(row.version, row.model_sha256, row.variant, row.as_of): row.digest for row in connection.execute(newest)}
