"""A model's versions: what the ledger trained, decided and holds for approval, beside what MLflow shows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from admin.registry_view import Seen
    from admin.request_context import RequestContext
    from mlops.domain.ports import ModelVersion
    from mlops.ledger.queries.models import TrainedLine

PRODUCTION, ARCHIVED = "Production", "Archived"
LATELY = timedelta(minutes=2)
"""So soon MLflow shows what was decided, or somebody changed it there by hand."""


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One version."""

    version: str
    trained: TrainedLine | None
    """None: no run of the ledger trained it; it was registered in another way."""
    decided: str | None
    """Stage by the ledger's newest decision about it; None: nobody has decided."""
    registry: ModelVersion | None
    """None: MLflow was not asked yet, or does not have it."""
    is_champion: bool

    @property
    def stage(self) -> str | None:
        """As MLflow shows it, or as it will, by the ledger; None: neither says anything."""
        return self.registry.stage if self.registry else self.decided

    @property
    def aliases(self) -> tuple[str, ...]:
        """As MLflow shows them; while it does not answer, the champion's by the ledger."""
        if self.registry:
            return self.registry.aliases
        return ("champion",) if self.is_champion else ()

    @property
    def differs(self) -> bool:
        """MLflow does not show what was decided: it will within seconds, or somebody changed it there by hand."""
        return self.registry is not None and self.decided is not None and self.registry.stage != self.decided

    def is_behind(self, now: datetime, decided_at: datetime | None) -> bool:
        """MLflow will show it in a moment: it was trained, or decided about, just now."""
        lately = [at for at in (self.created_at, decided_at) if at is not None and now - at < LATELY]
        return bool(lately) and (self.differs or self.registry is None)

    @property
    def created_at(self) -> datetime | None:
        """When it was trained, or registered."""
        if self.trained:
            return self.trained.trained_at
        return self.registry.created_at if self.registry else None

    @property
    def metrics(self) -> Mapping[str, float]:
        """On the dates that its training held out."""
        return self.trained.metrics if self.trained else {}


def in_registry(seen: Seen, model_name: str) -> dict[str, ModelVersion]:
    """MLflow's versions of a model at the last look that succeeded, newest first."""
    found = seen.census.versions if seen.census else ()
    return {one.version: one for one in found if one.name == model_name}


def version_rows(
    trained: Sequence[TrainedLine],
    decided: Mapping[str, str],
    registry: Mapping[str, ModelVersion],
    champion: str | None,
    *,
    made_by: str | None = None,
    others: Iterable[str] = (),
) -> list[VersionRow]:
    """In the order of `trained`, then `others`, which no run trained.

    made_by : the run that made the champion; a registry that was made anew gives a number a second time
    """
    rows = [_trained_row(line, decided, registry, champion, made_by) for line in trained]
    known = {row.version for row in rows}
    return rows + [
        VersionRow(
            version=version,
            trained=None,
            decided=stage_of(version, decided, champion),
            registry=registry.get(version),
            is_champion=version == champion,
        )
        for version in others
        if version not in known
    ]


def _trained_row(
    line: TrainedLine,
    decided: Mapping[str, str],
    registry: Mapping[str, ModelVersion],
    champion: str | None,
    made_by: str | None,
) -> VersionRow:
    shown = registry.get(line.version)
    is_other = shown is not None and shown.tags.get("acis.run_id", line.run_id) != line.run_id
    is_champion = line.version == champion and made_by in (None, line.run_id)
    # Of two models with one number, the decisions that are listed by number are the newer one's.
    is_namesake = is_other or (line.version == champion and not is_champion)
    return VersionRow(
        version=line.version,
        trained=line,
        decided=None if is_namesake else stage_of(line.version, decided, champion),
        registry=None if is_other else shown,
        is_champion=is_champion,
    )


def stage_of(version: str, decided: Mapping[str, str], champion: str | None) -> str | None:
    """What the ledger wants shown: one champion in Production, those before it in Archived."""
    if version == champion:
        return PRODUCTION
    found = decided.get(version)
    return ARCHIVED if found == PRODUCTION else found


def awaiting(context: RequestContext, strategy: str) -> list[dict[str, Any]]:
    """What of a strategy waits for a person's answer, with the evidence that the answer is bound to."""
    found = []
    for one in context.ledger.awaiting(strategy=strategy):
        promotion = context.ledger.promotion_of(one.run_id)
        evidence = promotion.evidence if promotion else {}
        found.append(
            {
                "run_id": one.run_id,
                "version": one.version,
                "created_at": one.created_at,
                "reasons": one.reasons,
                "digest": one.evidence_digest,
                "gates": evidence.get("gates") or [],
                "test": evidence.get("test"),
                "champion": (evidence.get("champion") or {}).get("version"),
            }
        )
    return found
