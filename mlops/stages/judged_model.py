"""The model that a version was judged by: its twin beside it, or the version itself where it was not refitted.

Called by promotion, which compares judged models alone, by incremental trainings and by the score stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import UnrecordedModelFile, UnusableModelFile
from mlops.domain.training.judged_twin import TWIN_TAG, judged_of

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops.domain.ports import Ledger, ModelRegistry, ModelVersion
    from mlops.domain.promotion.records import ModelIdentity

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class JudgedModel:
    """A classifier that may be scored on the dates that it held out, and on those after them."""

    classifier: xgb.XGBClassifier
    itself: xgb.XGBClassifier
    """The version; the same where that was judged itself"""
    twin_sha256: str | None
    """None: it is the version itself"""
    train_end: date | None
    """Last date that it was trained on; None where the version does not say"""
    finding: str | None = None
    """Why it is the version itself although that was refitted"""


def twin_digest(ledger: Ledger, identity: ModelIdentity) -> str | None:
    """SHA-256 of a model's judged twin by the result of its training; None where the ledger has none.

    identity : by the bytes of the model's file, as the ledger recorded them
    """
    return None if identity.sha256 is None else ledger.training_facts(identity)[0].get(TWIN_TAG)


def twin_file(ledger: Ledger, registry: ModelRegistry, version: ModelVersion, identity: ModelIdentity) -> bytes | None:
    """The twin's model file, with the digest that the ledger has; None for a version that was judged itself.

    identity : see `twin_digest`
    Raises UnusableModelFile where it is gone or not the one that was judged, or the version says that it has one and
    the ledger knows nothing of its training; RegistryUnavailable.
    """
    digest = twin_digest(ledger, identity)
    if digest is not None:
        return registry.twin_file(version, expected_sha256=digest)
    if TWIN_TAG in version.tags and not ledger.training_facts(identity)[0]:
        message = (
            f"version {version.version} of {version.name!r} says that its judged twin has sha256 "
            f"{version.tags[TWIN_TAG][:12]}…, and the ledger has no digest of one: what judged it is not known; "
            f"train again"
        )
        raise UnrecordedModelFile(message)
    return None


def load_judged(ledger: Ledger, registry: ModelRegistry, version: ModelVersion, identity: ModelIdentity) -> JudgedModel:
    """The judged model of a version; a refit whose twin cannot be had stands for itself, from its own last date on.

    So a twin that somebody took away makes no version easier to beat: dates that the refit knows are not compared.
    identity : what the ledger knows the version by; its file and its twin's are taken with that digest alone
    Raises what loading a version raises.
    """
    from mlops.registry.model_file import classifier_of  # noqa: PLC0415 -- loads XGBoost, after the fork

    itself = registry.load_classifier(version.name, version.version, sha256=identity.sha256)
    tags = {**version.tags, **ledger.training_facts(identity)[0]}
    of_itself = judged_of({name: value for name, value in tags.items() if name != TWIN_TAG}).train_end
    digest = twin_digest(ledger, identity)
    try:
        content = twin_file(ledger, registry, version, identity)
        if content is None:
            return JudgedModel(classifier=itself, itself=itself, twin_sha256=None, train_end=of_itself)
        name = f"of the twin of version {version.version}"
        twin = classifier_of(content, name=name, expected_sha256=digest, n_jobs=itself.n_jobs)
    except UnusableModelFile as exc:
        log.warning("twin.not_usable", model=version.name, version=version.version, error=str(exc), next="the refit")
        why = f"the judged twin of version {version.version} cannot be used ({exc}), so the refit stands for it"
        return JudgedModel(classifier=itself, itself=itself, twin_sha256=None, train_end=of_itself, finding=why)
    return JudgedModel(classifier=twin, itself=itself, twin_sha256=digest, train_end=judged_of(tags).train_end)
