"""When a stage's message is sent, and sent again; the columns `publish_no`, `published_at`, `ring_at`.

A publication is handed out by the transaction that made the stage due. It is sent at once by whoever got it;
where `published` does not confirm that within 5 s, the reconciler hands out the next number.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column

from mlops.domain.records import Executor, Publication, Stage
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, after, now

UNCONFIRMED_S = 5.0
"""A publication that was handed out and not confirmed for so long is handed out again."""
LOST_AFTER_S = 60.0
"""A confirmed message may be missed from its queue after so long; doubles with each repetition."""
LOST_AFTER_MAX_S = 900.0
"""15 min: the longest wait between two repetitions."""

_stage = tables.stage.c
OF_PUBLICATION: tuple[Column[Any], ...] = (
    _stage.run_id, _stage.stage, _stage.strategy, _stage.device, _stage.executor, _stage.deadline_s,
    _stage.publish_no, _stage.claimed_task_id, _stage.parent_task_id, _stage.token, _stage.ring_backoff_s,
)  # fmt: skip
"""What `publication_of` reads."""


def handed_out() -> dict[str, Any]:
    """Columns of a stage whose next message the caller will send."""
    return {"published_at": None, "ring_at": after(UNCONFIRMED_S), "not_before": None}


def to_be_rung() -> dict[str, Any]:
    """Columns of a stage whose next message the reconciler sends, now."""
    return {"published_at": None, "ring_at": now(), "not_before": None}


def to_be_rung_after(delay_s: float) -> dict[str, Any]:
    """Columns of a stage whose next message the reconciler sends, after a delay."""
    return {"published_at": None, "ring_at": after(delay_s), "not_before": after(delay_s)}


def publication_of(row: AnyRow) -> Publication | None:
    """The message of a queued stage, or None for an inline run, which nobody rings. row : has `OF_PUBLICATION`"""
    if row.executor == Executor.INLINE:
        return None
    return Publication(
        run_id=row.run_id,
        stage=Stage(row.stage),
        publish_no=row.publish_no,
        strategy=row.strategy,
        device=row.device,
        previous_task_id=row.claimed_task_id or row.parent_task_id,
        deadline_s=row.deadline_s,
        # It was claimed before, or was in the queue before: both are older than what waits there.
        keeps_its_place=row.token > 0 or row.ring_backoff_s > LOST_AFTER_S,
    )
