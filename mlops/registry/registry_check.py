"""Check that the registry holds what the ledger decided about: the same bytes, made by the same runs.

A registry whose database was lost, or restored from an older backup, has no champion, or gives its number to another
model. Neither is a decision of a person: the champion stands, and promotions of the strategy stop until somebody has
restored it or has said that the registry is the true one. Called by the promote stage, the reconciler and the doctor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import ModelNotFound, VersionNotFound
from mlops.domain.ports import SEQ_TAG, expect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import Ledger, ModelRegistry, ModelVersion
    from mlops.domain.promotion.records import Champion, ModelIdentity

log = structlog.get_logger(__name__)


def champion_in(versions: Sequence[ModelVersion], champion: Champion) -> ModelVersion | None:
    """The champion among a model's versions; None where its number is not there, or is another model's."""
    return next((item for item in versions if champion.is_version(item.version, item.identity)), None)


def is_identified(version: ModelVersion, champion: Champion) -> bool:
    """Whether more than its number says that the version is the champion.

    One that an earlier version of this system promoted may have no digest in the ledger: then it has to bear the seq
    that was written with its promotion. Of a promotion that is not shown yet this says nothing.
    """
    seq = version.tags.get(SEQ_TAG, "")
    return champion.identity.sha256 is not None or (seq.isdecimal() and int(seq) >= champion.seq)


def _champion_in_registry(registry: ModelRegistry, strategy: Strategy, champion: Champion) -> ModelVersion:
    """The champion's version. Raises ModelNotFound, VersionNotFound: it is gone, or the number is another model's."""
    return expect(registry.version(strategy.model_name, str(champion.version)), champion.identity)


def missing_words(strategy: Strategy, champion: Champion) -> str:
    """Describe a champion that the registry does not have."""
    return (
        f"champion {champion.version} of {strategy.name!r} ({champion.identity}) is not in the registry; it stays the "
        f"champion, and nothing is promoted: bring it back with `acis registry restore {strategy.name}`, or say that "
        f"it is gone for good with `acis registry accept {strategy.name}`"
    )


def note_missing(ledger: Ledger, strategy: Strategy, champion: Champion) -> None:
    """Open the finding that the champion is not in the registry; the log says it once."""
    words = missing_words(strategy, champion)
    if ledger.note_registry_finding(strategy.name, "champion_missing", f"seq {champion.seq}", words):
        log.warning("registry.champion_missing", strategy=strategy.name, version=champion.version, action=words)


def note_reuse(ledger: Ledger, strategy: Strategy, version: str, identity: ModelIdentity) -> None:
    """Open a finding where the ledger knows another model by the version's number."""
    others = [known for known in ledger.known_models(strategy.name, version) if not known.may_be(identity)]
    if not others:
        return
    words = (
        f"version {version} of {strategy.name!r} is a model ({identity}) that the ledger knows another one "
        f"({others[0]}) by the number of: the registry was made anew, or restored from a backup; nothing is promoted "
        f"until a person says that it is the true one, with `acis registry accept {strategy.name}`"
    )
    key = f"{version} {identity.made_by} {(identity.sha256 or '')[:16]}"
    if ledger.note_registry_finding(strategy.name, "number_reused", key, words):
        log.warning("registry.number_reused", strategy=strategy.name, version=version, action=words)


def is_there(registry: ModelRegistry, strategy: Strategy, champion: Champion) -> bool:
    """Whether the registry has the champion."""
    try:
        _champion_in_registry(registry, strategy, champion)
    except (ModelNotFound, VersionNotFound):
        return False
    return True


def stops(ledger: Ledger, strategy: Strategy) -> tuple[str, ...]:
    """Reasons why nothing of the strategy may be promoted now; empty where it may."""
    return tuple(finding.words for finding in ledger.registry_findings(strategy.name))
