"""Champions' models outside of the registry, so that a registry that was lost can be given them again.

The promote stage and the reconciler keep a champion's model file with its tags, metrics, parameters, drift profile
and judged twin in the checkpoints' store, under the digest of its bytes and the run that made it; the reconciler a
running experiment's challenger's too. `acis registry restore` reads them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

from mlops.domain.errors import (
    CheckpointsUnavailable,
    ModelNotFound,
    RegistryError,
    RegistryUnavailable,
    VersionNotFound,
)
from mlops.domain.ports import PROFILE_TAG, KeptModel
from mlops.domain.promotion.records import ModelIdentity, PromotionDecision
from mlops.domain.training.fingerprint import evidence_digest
from mlops.domain.training.judged_twin import TWIN_ARTIFACT, TWIN_TAG
from mlops.registry.projection import project
from mlops.registry.registry_check import champion_in, is_identified

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import ModelVersion
    from mlops.domain.promotion.records import Champion
    from mlops.registry.services import RegistryServices

log = structlog.get_logger(__name__)

MODEL, PROFILE, FACTS = "model.ubj", "drift_profile.arrow", "version.json"
KEPT_FORMER = 5
"""So many former champions of a strategy are kept beside the champion; older ones go with the hourly housekeeping."""


def key_of(identity: ModelIdentity) -> str:
    """Name of a model's folder in the store."""
    return f"{identity.sha256}-{identity.made_by}"


class Keeper:
    """Keeps champions' models; remembers which ones are kept."""

    def __init__(self) -> None:
        self._kept: set[str] = set()

    def keep(self, services: RegistryServices, champion: Champion, version: ModelVersion) -> None:
        """Keep the champion's model. One that cannot be kept now is tried again by the next call."""
        identity = champion.identity
        if identity.sha256 is None or identity.made_by is None or key_of(identity) in self._kept:
            return
        try:
            if services.checkpoints.kept_model(key_of(identity), FACTS) is None:
                keep_model(services, services.registry.version(version.name, version.version), identity)
        except (CheckpointsUnavailable, RegistryError, RegistryUnavailable) as exc:
            log.warning(
                "registry.champion_not_kept",
                strategy=champion.strategy,
                version=version.version,
                error=str(exc),
                action="none: tried again in a minute; set ACIS_CHECKPOINT_URL to a place that can be written",
            )
            return
        self._kept.add(key_of(identity))


def keep_before_promotion(services: RegistryServices, decided: PromotionDecision) -> None:
    """Keep the model before it can be the champion, so that a registry that is lost from then on can be given it again.

    A store that cannot be written does not hold the decision up: the reconciler tries again.
    Raises ModelNotFound, VersionNotFound: what the registry has lost is no champion.
    """
    identity = decided.identity
    if identity.sha256 is None or identity.made_by is None:
        return  # the reconciler finds out what it is
    try:
        if services.checkpoints.kept_model(key_of(identity), FACTS) is None:
            keep_model(services, services.registry.version(decided.model_name, decided.version), identity)
    except (ModelNotFound, VersionNotFound):
        raise
    except (CheckpointsUnavailable, RegistryError) as exc:
        log.warning(
            "promote.not_kept", version=decided.version, error=str(exc), action="none: the reconciler tries again"
        )


def keep_model(services: RegistryServices, version: ModelVersion, identity: ModelIdentity) -> None:
    """Keep a version's model. Raises CheckpointsUnavailable, RegistryError: it holds other bytes than it should."""
    model = services.registry.model_file(version.name, version.version)
    _verified(model, identity.sha256, f"version {version.version} of {version.name!r}")
    files = {MODEL: model}
    if PROFILE_TAG in version.tags:
        try:
            files[PROFILE] = services.registry.drift_profile(version.name, version.version)
        except RegistryError as exc:
            log.warning("registry.profile_not_kept", model=version.name, version=version.version, error=str(exc))
    twin = services.ledger.training_facts(identity)[0].get(TWIN_TAG)
    if twin is not None:
        try:
            files[TWIN_ARTIFACT] = services.registry.twin_file(version, expected_sha256=twin)
        except RegistryError as exc:
            log.warning("registry.twin_not_kept", model=version.name, version=version.version, error=str(exc))
    try:
        params = dict(services.registry.training_facts(version).params)
    except RegistryError as exc:  # its run was deleted; the model is there
        log.warning("registry.params_not_kept", model=version.name, version=version.version, error=str(exc))
        params = {}
    facts = {
        "model_name": version.name,
        "version": version.version,
        "tags": dict(version.tags),
        "metrics": dict(version.metrics),
        "params": params,
    }
    # Last: who finds it finds the others.
    files[FACTS] = json.dumps(facts, indent=1).encode()
    services.checkpoints.keep_model(key_of(identity), files)
    log.info("registry.champion_kept", model=version.name, version=version.version, sha256=identity.sha256)


def kept(services: RegistryServices, identity: ModelIdentity) -> KeptModel | None:
    """Return what was kept of a model; None where nothing, or not its bytes. Raises CheckpointsUnavailable."""
    store, key = services.checkpoints, key_of(identity)
    facts, model = store.kept_model(key, FACTS), store.kept_model(key, MODEL)
    if facts is None or model is None or hashlib.sha256(model).hexdigest() != identity.sha256:
        return None
    profile, twin = store.kept_model(key, PROFILE), store.kept_model(key, TWIN_ARTIFACT)
    return KeptModel(**json.loads(facts), model=model, profile=profile, twin=twin)


def tidy_models(services: RegistryServices) -> int:
    """Delete former champions' models but the newest few of each strategy, and return how many. Other ledgers' stay.

    A challenger's goes once its experiment has ended. Raises CheckpointsUnavailable.
    """
    known, wanted = services.ledger.champions_identities(keep_former=KEPT_FORMER)
    gone = [key for key in services.checkpoints.kept_models() if key in {key_of(one) for one in known - wanted}]
    for key in gone:
        services.checkpoints.drop_model(key)
    return len(gone)


# -- restoring


@dataclass(frozen=True, kw_only=True)
class Restored:
    """Result of restoring a strategy's champion."""

    strategy: str
    version: str | None
    """The champion's number now; None: there is no champion."""
    was: str | None
    """Version number before."""
    state: Literal["there", "shown", "restored", "gone", "none"]
    """there: nothing to do; shown: stage and alias were set again; gone: nobody holds its bytes; none: no champion."""
    words: str


def restore(
    services: RegistryServices, strategy: Strategy, *, actor: str, reason: str, folders: Sequence[Path] = ()
) -> Restored:
    """Make the registry show the ledger's champion again, registering it anew where its version is gone.

    folders : where MLflow's artifacts may still lie; a model file is taken by its digest alone
    Raises LedgerUnavailable, RegistryUnavailable, CheckpointsUnavailable, ChampionMoved.
    """
    champion = services.ledger.champion(strategy.name)
    if champion.version is None:
        return Restored(strategy=strategy.name, version=None, was=None, state="none", words="has no champion")
    versions = services.registry.versions(strategy.model_name)
    there = champion_in(versions, champion)
    if there is not None and is_identified(there, champion):
        return _shown(services, strategy, champion, there)
    identity = champion.identity
    if identity.sha256 is None:
        return _gone(strategy, champion, "the ledger does not know the digest of its bytes")
    found = kept(services, identity) or _in_folders(services, strategy, champion, folders)
    version = services.registry.register_again(strategy.model_name, identity, found)
    if version is None:
        return _gone(strategy, champion, f"nobody holds its model file ({identity})")
    decision = _decision(strategy, champion, version, actor=actor, reason=reason)
    promotion = services.ledger.record_transition(strategy.name, decision)
    services.ledger.record_model_file(strategy.model_name, version.version, identity, actor=actor, reason=reason)
    project(promotion, services.registry, services.ledger)
    services.ledger.accept_registry(strategy.name, actor=actor, reason=f"champion restored: {reason}")
    words = f"champion {champion.version} is version {version.version} of the registry now ({identity})"
    return Restored(
        strategy=strategy.name, version=version.version, was=champion.version, state="restored", words=words
    )


def _shown(services: RegistryServices, strategy: Strategy, champion: Champion, there: ModelVersion) -> Restored:
    services.ledger.champion_seen(strategy.name)
    is_shown = there.stage == "Production" and "champion" in there.aliases
    if not is_shown:
        services.registry.apply_stage(
            strategy.model_name, there.version, "Production", seq=champion.seq, tags={}, identity=champion.identity
        )
    words = f"version {there.version} is there" + ("" if is_shown else ", and is shown as champion again")
    state: Literal["there", "shown"] = "there" if is_shown else "shown"
    return Restored(strategy=strategy.name, version=there.version, was=there.version, state=state, words=words)


def _gone(strategy: Strategy, champion: Champion, why: str) -> Restored:
    words = (
        f"champion {champion.version} is gone: {why}; say so with `acis registry accept {strategy.name} --reason …`, "
        f"and the next version that passes its gates takes the place"
    )
    return Restored(strategy=strategy.name, version=champion.version, was=champion.version, state="gone", words=words)


def _decision(
    strategy: Strategy, champion: Champion, version: ModelVersion, *, actor: str, reason: str
) -> PromotionDecision:
    """The champion under its new number; it is the very model, so no gate is passed by."""
    evidence = {
        "kind": "restore",
        "from": champion.version,
        "to": version.version,
        "model_sha256": champion.identity.sha256,
        "made_by": champion.identity.made_by,
        "reason": reason,
    }
    return PromotionDecision(
        decision="restore",
        version=version.version,
        model_name=strategy.model_name,
        reasons=(f"restored to the registry, which had lost it as version {champion.version}: {reason}",),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor=actor,
        target_stage="Production",
        expected_seq=champion.seq,
        as_of=champion.as_of,
        identity=champion.identity,
        trained_as_of=champion.trained_as_of,
    )


def _in_folders(
    services: RegistryServices, strategy: Strategy, champion: Champion, folders: Sequence[Path]
) -> KeptModel | None:
    """The model file, found by its digest below the folders, with what the ledger knows of its training."""
    for folder in folders:
        for path in folder.rglob(MODEL):
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == champion.identity.sha256:
                tags, metrics = services.ledger.training_facts(champion.identity)
                name, number = strategy.model_name, str(champion.version)
                return KeptModel(
                    model_name=name,
                    version=number,
                    model=content,
                    tags=tags,
                    metrics=metrics,
                    params={},
                    twin=_twin_in(folders, tags.get(TWIN_TAG)),
                )
    return None


def _twin_in(folders: Sequence[Path], sha256: str | None) -> bytes | None:
    """The judged twin's model file, found by its digest."""
    for place in (path for folder in folders for path in folder.rglob(TWIN_ARTIFACT)):
        content = place.read_bytes()
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
    return None


def _verified(model: bytes, sha256: str | None, what: str) -> None:
    found = hashlib.sha256(model).hexdigest()
    if found != sha256:
        raise RegistryError(f"{what} holds a model file with sha256 {found[:12]}…, judged was {str(sha256)[:12]}…")
