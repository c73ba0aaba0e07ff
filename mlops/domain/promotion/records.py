"""The champion and the decisions about it, as the ledger keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """What a model is known by, beside its version's number: a registry that was made anew counts from 1 again."""

    sha256: str | None = None
    """Of the model file's bytes; None: not recorded, by an earlier version of this system."""
    made_by: str | None = None
    """The ledger's run that trained it; the registry's run where another tool registered it."""

    def may_be(self, other: ModelIdentity) -> bool:
        """False where something is known of both and differs."""
        pairs = ((self.sha256, other.sha256), (self.made_by, other.made_by))
        return all(ours is None or theirs is None or ours == theirs for ours, theirs in pairs)

    def __str__(self) -> str:
        return f"sha256 {(self.sha256 or 'not recorded')[:12]}, made by run {self.made_by or 'not recorded'}"


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The version in production, as the ledger has it."""

    namespace: str
    strategy: str
    version: str | None
    """None: the model was taken out of production and nothing replaced it."""
    seq: int
    """Grows with each change; the compare-and-swap key. 0 where there never was one."""
    as_of: date | None
    """Date of the place: a run dated earlier does not promote. A rollback does not set it back."""
    promotion_id: int | None
    identity: ModelIdentity = ModelIdentity()
    trained_as_of: date | None = None
    """The version's own date; None: not recorded."""

    def is_version(self, version: str, identity: ModelIdentity) -> bool:
        """Whether that version is this champion: the number, the bytes and the run."""
        return self.version == version and self.identity.may_be(identity)


@dataclass(frozen=True, kw_only=True)
class PromotionDecision:
    """A decision about a version, with its evidence, to be written before the registry is touched."""

    decision: str
    """`promote`, `refuse`, `keep`, `inconclusive`, `await_approval`, `override`, `rollback`, `manual`, `transition`,
    `restore`."""
    version: str
    model_name: str
    reasons: tuple[str, ...]
    evidence: dict[str, Any]
    evidence_digest: str
    actor: str
    target_stage: str
    """Registry stage that the version goes to: Production, Staging, Archived or None."""
    expected_seq: int
    """`Champion.seq` that the comparison was made with."""
    as_of: date | None = None
    identity: ModelIdentity = ModelIdentity()
    """Of the version's model."""
    trained_as_of: date | None = None
    """The version's own date."""


@dataclass(frozen=True, kw_only=True)
class EarlierDecision:
    """What later decisions of the strategy need of one."""

    version: str
    champion: str | None
    """The version that it was compared with."""
    decision: str
    day: date
    """As of which it was made."""
    model_sha256: str | None
    rows: str | None
    """Digest of the rows that both were scored on."""
    predictions: str | None
    """Digest of what the version said of them."""
    metric: str | None
    margin: float | None
    level: float | None
    """Probability with which it could replace an equally good champion; None where no budget was kept."""
    spends: float
    """Of the year's budget."""
    missed: tuple[str, ...]
    """Gates that the champion missed on those rows."""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A committed row of `mlops_promotion`."""

    id: int
    run_id: str | None
    namespace: str
    strategy: str
    model_name: str
    version: str
    decision: str
    reasons: tuple[str, ...]
    evidence: dict[str, Any]
    evidence_digest: str
    actor: str
    target_stage: str
    seq: int
    """The champion's seq after this decision."""
    previous_version: str | None
    created_at: datetime
    projected_at: datetime | None
    """When the registry was seen to agree; None: still to be projected."""
    identity: ModelIdentity = ModelIdentity()
    trained_as_of: date | None = None
    """The version's own date; None: not recorded."""
    as_of: date | None = None
    """As of which it was decided; of a rollback, the date of the champion that it replaced."""
