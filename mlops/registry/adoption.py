"""Adoption of the champion that the registry shows into the ledger.

Called by the repair for changes made by hand, and by the stages where the ledger knows no champion yet: a new
ledger on a registry that has one would else promote without a comparison. What the ledger has refused, or trained and
not judged, is never taken: a change made in MLflow must not bypass the gates.
"""

from __future__ import annotations

import hashlib
from datetime import date
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import ChampionMoved, ModelNotFound, UnusableModelFile
from mlops.domain.ports import RUN_TAG
from mlops.domain.records import LIVE, Champion, ModelIdentity, PromotionDecision
from mlops.domain.training.fingerprint import evidence_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import Ledger, ModelRegistry, ModelVersion
    from mlops.domain.records import Promotion

log = structlog.get_logger(__name__)


def adopt_first(ledger: Ledger, registry: ModelRegistry, strategy: Strategy) -> Champion:
    """Return the live champion; one that the registry shows is adopted where the ledger has never decided anything.

    Nothing is written to the registry; the reconciler shows the decision. Raises LedgerUnavailable,
    RegistryUnavailable, RegistryError.
    """
    champion = ledger.champion(strategy.name, namespace=LIVE)
    if champion.seq > 0:
        return champion
    shown = shown_champion(registry, strategy.model_name, champion)
    if shown is None:
        return champion
    version = registry.version(strategy.model_name, shown)
    if not may_be_adopted(ledger, registry, strategy, version):
        return champion
    adopt(ledger, strategy, champion, version)
    return ledger.champion(strategy.name, namespace=LIVE)


def identity_by_bytes(registry: ModelRegistry, version: ModelVersion) -> ModelIdentity:
    """Identity of a version, with the digest of its model file as it is stored.

    Raises UnusableModelFile where it is gone, or is not the one that was logged.
    """
    sha256 = hashlib.sha256(registry.model_file(version.name, version.version)).hexdigest()
    identity = ModelIdentity(sha256=sha256, made_by=version.identity.made_by)
    if not identity.may_be(version.identity):
        message = (
            f"the model file of version {version.version} of {version.name!r} has sha256 {sha256[:12]}…, logged was "
            f"{str(version.identity.sha256)[:12]}…: it was changed after it was logged; train again"
        )
        raise UnusableModelFile(message)
    return identity


def may_be_adopted(ledger: Ledger, registry: ModelRegistry, strategy: Strategy, version: ModelVersion) -> bool:
    """Whether the ledger has judged that very model and did not refuse it, or meets the strategy for the first time.

    Nothing may while something is wrong with the registry, since what such a finding holds in Staging has passed no
    decision, nor before the registry was looked through where the ledger was set back.
    """
    if ledger.registry_findings(strategy.name) or ledger.forgotten().registry_since is not None:
        return False
    try:
        identity = identity_by_bytes(registry, version)
    except UnusableModelFile:
        return False
    judged = ledger.newest_decision(strategy.name, version.version, identity, judged=True)
    if judged is not None:
        return judged.decision != "refuse"
    former = ledger.former_champions(strategy.name)
    if any(item.identity.may_be(identity) and item.version == version.version for item in former):
        return True
    if ledger.promotions(strategy.name, limit=1) or ledger.known_models(strategy.name, version.version):
        return False
    return not _is_forgotten(ledger, version)


def _is_forgotten(ledger: Ledger, version: ModelVersion) -> bool:
    """Whether a run of this ledger made the version, of which it knows no training: it was set back in time since.

    The run itself may be known, if it was accepted before that time. A ledger that is new beside an old registry finds
    versions of unknown runs too, but they are older than itself.
    """
    return RUN_TAG in version.tags and version.created_at > ledger.identity().made_at


def adopt(ledger: Ledger, strategy: Strategy, champion: Champion, version: ModelVersion | None) -> Promotion | None:
    """Record a champion that was set by hand, None for no version; None where the champion moved meanwhile."""
    shown = version.version if version is not None else None
    evidence = {"kind": "manual", "from": champion.version, "to": shown}
    number = shown or champion.version
    if number is None:
        return None
    if ledger.is_quarantined("version", f"{strategy.model_name}/{number}"):
        log.warning("registry.quarantined", strategy=strategy.name, version=number, action="see `acis quarantine`")
        return None
    identity = version.identity if version is not None else champion.identity
    decision = PromotionDecision(
        decision="manual",
        version=number,
        model_name=strategy.model_name,
        reasons=("changed by hand in the model registry",),
        evidence={**evidence, "model_sha256": identity.sha256},
        evidence_digest=evidence_digest({**evidence, "model_sha256": identity.sha256}),
        actor="mlflow",
        target_stage="Production" if shown else "Archived",
        expected_seq=champion.seq,
        as_of=place_as_of(champion, version) if version is not None else champion.as_of,
        identity=identity,
        trained_as_of=trained_as_of(version) if version is not None else champion.trained_as_of,
    )
    try:
        promotion = ledger.record_transition(strategy.name, decision)
    except ChampionMoved:
        return None
    log.warning("registry.adopted", strategy=strategy.name, version=shown, was=champion.version)
    return promotion


def place_as_of(champion: Champion, version: ModelVersion) -> date | None:
    """Date of the champion's place once a version was put there by hand: the later of both, never an earlier one."""
    return max((day for day in (champion.as_of, trained_as_of(version)) if day is not None), default=None)


def trained_as_of(version: ModelVersion) -> date | None:
    """The date as of which a version was trained; None for one that another tool registered."""
    try:
        return date.fromisoformat(version.tags.get("training_date", ""))
    except ValueError:
        return None


def shown_champion(registry: ModelRegistry, model_name: str, champion: Champion) -> str | None:
    """Version that the registry shows as champion, whether the alias or the stage was moved by hand."""
    try:
        versions = registry.versions(model_name)
    except ModelNotFound:
        return None
    return shown_in(versions, champion)


def shown_in(versions: Sequence[ModelVersion], champion: Champion) -> str | None:
    """Version that is shown as champion among a model's versions."""
    aliased = next((item.version for item in versions if "champion" in item.aliases), None)
    staged = [item.version for item in versions if item.stage == "Production"]
    if aliased != champion.version:
        return aliased or (staged[0] if staged else None)
    moved = [version for version in staged if version != champion.version]
    if moved:
        return moved[0]
    return aliased if staged or aliased is None else None
