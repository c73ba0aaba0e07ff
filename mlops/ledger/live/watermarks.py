"""How far each strategy's features have come, and which date's are late; the reconciler writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import literal, select, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.records import Kind
from mlops.ledger import tables
from mlops.ledger.columns import columns_of, mapped, now
from mlops.ledger.engine import Repository
from mlops.ledger.timetable import skipped_run

_mark = tables.watermark.c


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """A strategy's features as they were seen last."""

    strategy: str
    newest: date | None
    """Newest complete date."""
    late_date: date | None
    """The date whose features should be there and are not; None: there is none."""
    late_words: str | None
    late_since: datetime | None
    seen_at: datetime


class Watermarks(Repository):
    """One row a strategy."""

    def watermarks(self) -> dict[str, Watermark]:
        """By strategy; those that were never looked at are not there."""
        with self.database.reading() as connection:
            rows = connection.execute(select(*columns_of(Watermark, _mark)).order_by(_mark.strategy)).all()
        return {row.strategy: mapped(Watermark, row) for row in rows}

    def late_features(self) -> list[Watermark]:
        """Strategies whose features are late, the longest first."""
        late = [mark for mark in self.watermarks().values() if mark.late_since is not None]
        return sorted(late, key=lambda mark: (mark.late_since, mark.strategy))

    def note_newest(self, strategy: str, newest: date) -> date | None:
        """A date's features are complete; the date that was late and is late no more, if any."""
        with self.database.transaction("ledger.note_newest") as connection:
            before = connection.execute(select(_mark.late_date).where(_mark.strategy == strategy)).one_or_none()
            came: date | None = before.late_date if before and before.late_date and before.late_date <= newest else None
            ended: dict[str, Any] = {"late_date": None, "late_words": None, "late_since": None} if came else {}
            noting = insert(tables.watermark).values(strategy=strategy, newest=newest, seen_at=now())
            connection.execute(
                noting.on_conflict_do_update(
                    index_elements=[_mark.strategy], set_={"newest": newest, "seen_at": now(), **ended}
                )
            )
        return came

    def note_late(self, strategy: str, day: date, words: str) -> bool:
        """A date's features should be there and are not; False where that was said before."""
        values = {"late_date": day, "late_words": words, "late_since": now(), "seen_at": now()}
        noting = insert(tables.watermark).values(strategy=strategy, **values)
        with self.database.statement("ledger.note_late") as connection:
            noted = connection.execute(
                noting.on_conflict_do_update(
                    index_elements=[_mark.strategy],
                    set_=values,
                    where=_mark.late_date.is_distinct_from(literal(day)),
                ).returning(_mark.strategy)
            ).one_or_none()
        return noted is not None

    def not_late(self, strategies: Sequence[str]) -> list[str]:
        """Take back what is said of strategies that nobody waits for any more; those of which something was."""
        ended = {"late_date": None, "late_words": None, "late_since": None}
        taking_back = update(tables.watermark).where(_mark.strategy.in_(list(strategies)), _mark.late_date.is_not(None))
        with self.database.statement("ledger.not_late") as connection:
            return list(connection.scalars(taking_back.values(ended).returning(_mark.strategy)))

    def dates_missed(self, strategy: str, kind: Kind, days: Sequence[date], *, note: str) -> None:
        """Each becomes a run in state `skipped`, unless a run has that slot."""
        if not days:
            return
        with self.database.transaction("ledger.dates_missed") as connection:
            skipping = insert(tables.run).values(created_at=now(), finished_at=now())
            connection.execute(
                skipping.on_conflict_do_nothing(),
                [{**skipped_run(strategy, kind, day.isoformat(), note), "as_of": day} for day in days],
            )
