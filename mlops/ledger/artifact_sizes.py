"""How many bytes the registry's runs hold, measured once each; kept, so that nothing is measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from mlops.ledger import tables
from mlops.ledger.columns import now
from mlops.ledger.repository import LedgerPart

_size = tables.artifact_size.c


class ArtifactSizes(LedgerPart):
    """Written by whoever walks the registry, outside any request."""

    def unmeasured(self, registry_run_ids: Sequence[str]) -> list[str]:
        """Those of the runs whose size is not known, in their order."""
        with self.database.reading() as connection:
            known = set(
                connection.scalars(
                    select(_size.registry_run_id).where(_size.registry_run_id.in_(list(registry_run_ids)))
                )
            )
        return [run_id for run_id in registry_run_ids if run_id not in known]

    def measured(self, sizes: Mapping[str, tuple[int, datetime]]) -> None:
        """Bytes and start of runs."""
        if not sizes:
            return
        rows = [
            {"registry_run_id": run_id, "bytes": size, "started_at": started_at, "measured_at": now()}
            for run_id, (size, started_at) in sizes.items()
        ]
        with self.database.transaction("ledger.measured") as connection:
            for row in rows:
                insertion = insert(tables.artifact_size).values(row)
                connection.execute(
                    insertion.on_conflict_do_update(
                        index_elements=[_size.registry_run_id],
                        set_={"bytes": row["bytes"], "measured_at": now()},
                    )
                )

    def bytes_by_month(self) -> dict[str, int]:
        """`2026-11` → bytes of the runs that began in it, oldest first."""
        month = func.to_char(_size.started_at, "YYYY-MM")
        query = select(month.label("month"), func.sum(_size.bytes).label("total")).group_by(month).order_by(month)
        with self.database.reading() as connection:
            return {row.month: int(row.total) for row in connection.execute(query)}
