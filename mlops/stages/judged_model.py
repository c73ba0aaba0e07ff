"""The model that a version was judged by: its twin beside it, or the version itself where it was not refitted.

Called by promotion, which compares judged models alone, by incremental trainings and by the score stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import UnusableModelFile
from mlops.domain.training.judged_twin import TWIN_TAG, judged_of
from mlops.registry.model_file import classifier_of

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops.domain.ports import ModelRegistry, ModelVersion
    from mlops.domain.records import ModelIdentity

log = structlog.get_logger(__name__)

TrainingFactsOf = Callable[["ModelIdentity"], tuple[Mapping[str, str], Mapping[str, float]]]
"""`Ledger.training_facts`"""


def nothing_known(_: ModelIdentity) -> tuple[Mapping[str, str], Mapping[str, float]]:
    """Stand in for a ledger that knows no training, so that a version's own tags are believed."""
    return {}, {}


@dataclass(frozen=True, kw_only=True)
class JudgedModel:
    """A classifier that may be scored on the dates that it held out, and on those after them."""

    classifier: xgb.XGBClassifier
    twin_sha256: str | None
    """None: it is the version itself"""
    train_end: date | None
    """Last date that it was trained on; None where the version does not say"""
    finding: str | None = None
    """Why it is the version itself although that was refitted"""


def twin_digest(version: ModelVersion, facts: TrainingFactsOf) -> str | None:
    """SHA-256 of a version's twin: by the ledger where that knows its training, else by the version's own tags.

    None: the version has no twin.
    """
    known, _ = facts(version.identity)
    return known.get(TWIN_TAG) if known else version.tags.get(TWIN_TAG)


def twin_file(registry: ModelRegistry, version: ModelVersion, *, facts: TrainingFactsOf) -> bytes | None:
    """The twin's model file; None for a version without one.

    Raises UnusableModelFile where it is gone or not the one that was judged, RegistryUnavailable.
    """
    digest = twin_digest(version, facts)
    return None if digest is None else registry.twin_file(version, expected_sha256=digest)


def load_judged(
    registry: ModelRegistry, version: ModelVersion, *, facts: TrainingFactsOf = nothing_known
) -> JudgedModel:
    """The judged model of a version; a refit whose twin cannot be had stands for itself, from its own last date on.

    So a twin that somebody took away makes no version easier to beat: dates that the refit knows are not compared.
    Raises what loading a version raises.
    """
    digest = twin_digest(version, facts)
    itself = judged_of({name: value for name, value in version.tags.items() if name != TWIN_TAG})
    classifier = registry.load_classifier(version.name, version.version)
    if digest is None:
        return JudgedModel(classifier=classifier, twin_sha256=None, train_end=itself.train_end)
    try:
        twin = classifier_of(
            registry.twin_file(version, expected_sha256=digest),
            name=f"of the twin of version {version.version}",
            expected_sha256=digest,
            n_jobs=classifier.n_jobs,
        )
    except UnusableModelFile as exc:
        log.warning("twin.not_usable", model=version.name, version=version.version, error=str(exc), next="the refit")
        why = f"the judged twin of version {version.version} cannot be used ({exc}), so the refit stands for it"
        return JudgedModel(classifier=classifier, twin_sha256=None, train_end=itself.train_end, finding=why)
    return JudgedModel(classifier=twin, twin_sha256=digest, train_end=judged_of(version.tags).train_end)
