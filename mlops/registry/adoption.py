"""Adoption of a version that somebody made champion in the registry's own pages; called by the repair.

Only what the ledger has judged and did not refuse is taken, by the digest of the file that lies there now: a change
made in MLflow must not bypass the gates. `identity_by_bytes` is how every decision finds out what a version is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from mlops.domain.errors import (
    ChampionMoved,
    ConfigurationError,
    InvalidTransition,
    ModelNotFound,
    RunNotFound,
    UnrecordedModelFile,
    UnusableModelFile,
    VersionNotFound,
)
from mlops.domain.policies import strategy_of_model
from mlops.domain.ports import RUN_TAG, UNKNOWN
from mlops.domain.records import Champion, ModelIdentity, PromotionDecision, Stage
from mlops.domain.training.fingerprint import evidence_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import Ledger, ModelRegistry, ModelVersion
    from mlops.domain.records import Promotion

_LEAST_REASON = 3
"""Characters"""


def identity_by_bytes(ledger: Ledger, registry: ModelRegistry, version: ModelVersion) -> ModelIdentity:
    """Identity of a version whose model file, as it is stored now, has the digest that the ledger recorded.

    Raises UnusableModelFile where the file is gone, is another, or nothing is recorded of it; LedgerUnavailable.
    """
    content = registry.model_file(version.name, version.version)
    known = ledger.recorded_model(version.name, version.version)
    recorded = known.sha256
    sha256 = hashlib.sha256(content).hexdigest()
    what = f"version {version.version} of {version.name!r}"
    if recorded is None:
        message = (
            f"{what} was to be used with the digest that the ledger has of its model file; the ledger has none, and "
            f"the file has sha256 {sha256[:12]}…: it was registered past this system, or before digests were kept. "
            f"Train again, or look at it and say what it is with `acis registry record "
            f"{strategy_of_model(version.name)} {version.version} --reason …`"
        )
        raise UnrecordedModelFile(message)
    if sha256 != recorded:
        message = (
            f"the model file of {what} has sha256 {sha256[:12]}…, the ledger has {recorded[:12]}…: it was changed "
            f"after it was logged; train again"
        )
        raise UnrecordedModelFile(message)
    return ModelIdentity(sha256=sha256, made_by=known.made_by or version.identity.made_by)


def as_recorded(ledger: Ledger, version: ModelVersion) -> ModelVersion:
    """The version with the tags and metrics that the ledger has of its training, in place of the registry's.

    One that no run of the ledger trained is what the registry says that it is, and was recorded by a person.
    """
    tags, metrics = ledger.training_facts(ledger.recorded_model(version.name, version.version))
    return replace(version, tags={**version.tags, **tags}, metrics=metrics) if tags else version


def record_version(
    ledger: Ledger, registry: ModelRegistry, strategy: Strategy, version: str, *, actor: str, reason: str
) -> ModelIdentity:
    """Record, audited, what a person says of a version that no training here registered: its file as it lies there now.

    Raises ConfigurationError without a reason, InvalidTransition where the ledger knows another file by that number,
    or the version carries the id of a run of the ledger that made another file, and what the registry raises.
    """
    if len(reason.strip()) < _LEAST_REASON:
        raise ConfigurationError("a model file is recorded with its reason; give --reason")
    found = registry.version(strategy.model_name, version)
    sha256 = hashlib.sha256(registry.model_file(found.name, found.version)).hexdigest()
    identity = ModelIdentity(sha256=sha256, made_by=found.identity.made_by)
    others = [one for one in ledger.known_models(strategy.name, version) if one.sha256 not in (None, sha256)]
    known = ledger.recorded_model(found.name, found.version)
    recorded = known.sha256
    if others and recorded not in (None, sha256):
        raise InvalidTransition(
            f"the file of version {version} of {strategy.name!r} has sha256 {sha256[:12]}…, and the ledger has "
            f"{str(recorded)[:12]}…: it was changed, and is not recorded; train again, or say with "
            f"`acis registry accept {strategy.name}` that the registry was made anew"
        )
    if known != identity and not _may_have_made(ledger, identity):
        raise InvalidTransition(
            f"version {version} of {strategy.name!r} carries the id of run {identity.made_by}, which did not make its "
            f"file (sha256 {sha256[:12]}…), and is not recorded as that run's; train again, or take its tag "
            f"{RUN_TAG} away in MLflow and record it as what it is"
        )
    ledger.record_model_file(found.name, version, identity, actor=actor, reason=reason)
    identity = ledger.recorded_model(found.name, version)
    champion = ledger.champion(strategy.name)
    if champion.version == version and champion.identity.sha256 is None and champion.promotion_id is not None:
        ledger.identify(champion.promotion_id, identity)
    return identity


def _may_have_made(ledger: Ledger, identity: ModelIdentity) -> bool:
    """Whether nothing that the ledger has of a run speaks against it: the tag that names it is anybody's.

    A run of another tool has nothing here, and a training of an earlier version of this system kept no digest.
    """
    if identity.made_by is None:
        return True
    noted = ledger.noted_model_files(identity.made_by)
    if noted:
        return identity.sha256 in noted
    try:
        stages = ledger.run(identity.made_by).stages
    except RunNotFound:
        return True
    trained = next((one.result for one in stages if one.stage == Stage.TRAIN and one.result), None)
    return trained is not None and trained.get("model_sha256") in (None, identity.sha256)


def judgement_on(ledger: Ledger, registry: ModelRegistry, strategy: Strategy, version: ModelVersion) -> Judgement:
    """What the ledger has decided about the file that lies there now, in words; whether it may be the champion.

    Nothing may while something is wrong with the registry, since what such a finding holds in Staging has passed no
    decision, nor before the registry was looked through where the ledger was set back.
    """
    try:
        identity = identity_by_bytes(ledger, registry, version)
    except (UnusableModelFile, ModelNotFound, VersionNotFound) as exc:
        return Judgement(may_be_champion=False, words=str(exc))
    if ledger.is_quarantined("version", f"{strategy.model_name}/{version.version}"):
        return Judgement(may_be_champion=False, words="it is in quarantine, see `acis quarantine`")
    judged = ledger.newest_decision(strategy.name, version.version, identity, judged=True)
    if judged is None or judged.identity.sha256 != identity.sha256:
        return Judgement(may_be_champion=False, words="it was never judged")
    if judged.decision == "refuse":
        return Judgement(may_be_champion=False, words=f"it was refused: {'; '.join(judged.reasons)}")
    if ledger.registry_findings(strategy.name) or ledger.forgotten().registry_since is not None:
        return Judgement(may_be_champion=False, words="something is wrong with the registry, see `acis registry`")
    return Judgement(
        may_be_champion=True, words=f"it was judged ({judged.decision}) and not refused", identity=identity
    )


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the ledger has decided about a version."""

    may_be_champion: bool
    words: str
    identity: ModelIdentity = UNKNOWN
    """By the bytes of its file, where it may be the champion"""


def adopt(
    ledger: Ledger, strategy: Strategy, champion: Champion, version: ModelVersion, identity: ModelIdentity
) -> Promotion | None:
    """Record a champion that was set by hand; None where the champion moved meanwhile."""
    shown = version.version
    evidence = {"kind": "manual", "from": champion.version, "to": shown, "model_sha256": identity.sha256}
    decision = PromotionDecision(
        decision="manual",
        version=shown,
        model_name=strategy.model_name,
        reasons=("changed by hand in the model registry",),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor="mlflow",
        target_stage="Production",
        expected_seq=champion.seq,
        as_of=place_as_of(champion, version),
        identity=identity,
        trained_as_of=trained_as_of(version),
    )
    try:
        return ledger.record_transition(strategy.name, decision)
    except ChampionMoved:
        return None


def place_as_of(champion: Champion, version: ModelVersion) -> date | None:
    """Date of the champion's place once a version was put there by hand: the later of both, never an earlier one."""
    return max((day for day in (champion.as_of, trained_as_of(version)) if day is not None), default=None)


def trained_as_of(version: ModelVersion) -> date | None:
    """The date as of which a version was trained; None for one that another tool registered."""
    try:
        return date.fromisoformat(version.tags.get("training_date", ""))
    except ValueError:
        return None


def shown_instead(versions: Sequence[ModelVersion], champion: Champion) -> str | None:
    """Another version than the champion that alias or stage shows among a model's versions, whichever a hand moved."""
    aliased = [item.version for item in versions if "champion" in item.aliases]
    staged = [item.version for item in versions if item.stage == "Production"]
    return next((version for version in (*aliased, *staged) if version != champion.version), None)


def is_shown(versions: Sequence[ModelVersion], champion: Champion) -> bool:
    """Whether both alias and stage show the champion, or none where there is none."""
    if champion.version is None:
        return shown_instead(versions, champion) is None
    there = next((item for item in versions if item.version == champion.version), None)
    return there is not None and there.stage == "Production" and "champion" in there.aliases
