"""Where models and their versions live."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mlops.domain.errors import VersionNotFound
from mlops.domain.promotion.records import ModelIdentity

if TYPE_CHECKING:
    import xgboost as xgb


#: Tags of a version: the ledger's run that trained it, the SHA-256 of its model file, the champion's seq when it was
#: last placed.
RUN_TAG, DIGEST_TAG, SEQ_TAG = "acis.run_id", "acis.model_sha256", "acis.seq"


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A version in the model registry."""

    name: str
    version: str
    stage: str
    """None, Staging, Production or Archived."""
    aliases: tuple[str, ...]
    run_id: str | None
    """The registry's own run, not the ledger's."""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    created_at: datetime
    source: str = ""

    @property
    def identity(self) -> ModelIdentity:
        """What its tags say that it is, by which it is found; whether it is, its file's bytes say, and the ledger."""
        return ModelIdentity(sha256=self.tags.get(DIGEST_TAG), made_by=self.tags.get(RUN_TAG) or self.run_id)


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One parameter set that a tuning tried."""

    number: int
    """From 1."""
    params: Mapping[str, Any]
    value: float | None
    """Of the metric that is tuned, the mean over all folds; None where the trial was pruned."""
    so_far: tuple[float, ...]
    """That mean after each fold but the last."""
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """All that is logged of one training."""

    ledger_run_id: str
    strategy: str
    model_name: str
    run_name: str
    model: Any
    """An XGBClassifier."""
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    features: tuple[str, ...]
    example: Any
    """A small pandas frame, float32/float64 columns in the order of `features`."""
    predictions: Any
    """Output of the model for `example`, for the signature."""
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    """Files to log: artifact folder (may be '') + '/' + file name → local file."""
    dataset: Any = None
    """A pandas frame of some of the data set's rows, which gives its schema, or None."""
    dataset_rows: int = 0
    """How many rows the data set has."""
    dataset_name: str = ""
    trials: tuple[TrialRecord, ...] = ()
    """Logged as runs of their own below this one."""
    trials_metric: str = ""
    note: str = ""
    """What it was trained on and how it was judged, in markdown: the description of its run and of its version."""
    model_note: str = ""
    """The description of the registered model, where it has none."""


@dataclass(frozen=True, kw_only=True)
class KeptModel:
    """All of a version that is needed to register it again."""

    model_name: str
    version: str
    """Its number when it was kept."""
    model: bytes
    """The model file."""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    profile: bytes | None = None
    """The drift profile of its training; None where it has none."""
    twin: bytes | None = None
    """The model file of its judged twin; None where it has none."""


@dataclass(frozen=True, kw_only=True)
class FailedTraining:
    """What is known of a training that failed."""

    ledger_run_id: str
    run_name: str
    reason: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ReportRecord:
    """All that is logged of one drift check."""

    ledger_run_id: str
    strategy: str
    run_name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Mapping[str, str]
    """Artifact name → text"""
    note: str = ""
    """What was found, in markdown: the description of its run."""


@dataclass(frozen=True, kw_only=True)
class RegistryRun:
    """A run in the registry's own pages."""

    run_id: str
    url: str | None
    """Where a browser finds it; None where the registry has no pages."""


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What a version's training logged beside its metrics."""

    params: Mapping[str, str]
    importance: Mapping[str, float]
    """Share of the total gain by feature, the largest first; empty where it was not logged."""


@dataclass(frozen=True, kw_only=True)
class RegistryCensus:
    """All that the registry holds, by names and numbers."""

    experiments: tuple[str, ...]
    models: tuple[str, ...]
    versions: tuple[ModelVersion, ...]
    """Without metrics, newest first within a model."""


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """A run of the registry, and when it began."""

    run_id: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class OpenRegistryRun:
    """A run of the registry that says RUNNING."""

    run_id: str
    ledger_run_id: str


@dataclass(frozen=True, kw_only=True)
class LoggedByRun:
    """Something in the registry that carries the id of a run of the ledger, and is complete."""

    ledger_run_id: str
    kind: Literal["report", "training", "version"]
    """The first two are runs of the registry."""
    name: str
    """Of the registry's run, or the version's number"""
    model_name: str = ""
    """Of a version."""
    at: datetime
    """When the run ended, or the version was made"""


#: Name of the drift profile among a version's artifacts, and of the tag that holds its SHA-256.
PROFILE_ARTIFACT, PROFILE_TAG = "drift_profile.arrow", "acis.profile_sha256"
XGBOOST_TAG = "xgboost_version"
"""Tag of a version: the release of XGBoost that trained it; another one gives other trees from the same rows."""
TRIALS_TAG = "tuning_trials"
"""Tag of a version: how many parameter sets its training tried."""


UNKNOWN = ModelIdentity()


class Evidence(Protocol):
    """What the ledger keeps of the model files that the attempts of one run made."""

    def note(self, sha256: str) -> None:
        """Keep the digest of a file, before it leaves this process. Raises where the caller may not write any more."""
        ...

    def known(self) -> frozenset[str] | None:
        """Digests that were kept; None: nothing is kept, and whatever carries the run's id is taken for its."""
        ...


class _Unkept:
    """For a registry without a ledger beside it."""

    def note(self, sha256: str) -> None:
        """Keep nothing."""

    def known(self) -> frozenset[str] | None:
        """Know nothing."""


UNKEPT: Evidence = _Unkept()


class ModelRegistry(Protocol):
    """Where models and their versions live. Raises RegistryUnavailable when it does not answer."""

    def log_training(
        self,
        trained: TrainedModel,
        *,
        before_write: Callable[[], None] = lambda: None,
        evidence: Evidence = UNKEPT,
    ) -> ModelVersion:
        """Log and register, once per `ledger_run_id` however often it is called, and by whomever.

        before_write: called before each write; raises where the caller may not write any more.
        evidence: told the model file's digest before the file is written anywhere
        """
        ...

    def log_failure(self, failed: FailedTraining) -> None:
        """Log an attempt that ended before there was a model, as a run that FAILED with the reason."""
        ...

    def find_by_ledger_run(
        self, model_name: str, ledger_run_id: str, *, evidence: Evidence = UNKEPT
    ) -> ModelVersion | None:
        """The version that a ledger run registered, or None. One that carries its id with another file is not it."""
        ...

    def version(self, model_name: str, version: str) -> ModelVersion:
        """Raises ModelNotFound, VersionNotFound."""
        ...

    def versions(self, model_name: str) -> list[ModelVersion]:
        """All versions, newest first; empty where there is no such model."""
        ...

    def load_classifier(self, model_name: str, version: str, *, sha256: str | None) -> xgb.XGBClassifier:
        """The version as an XGBClassifier. Raises UnusableModelFile where its file has not the ledger's digest.

        sha256 : what the ledger has recorded of the version; None: nothing, so it is not loaded
        """
        ...

    def model_file(self, model_name: str, version: str) -> bytes:
        """The version's model file as it lies there, whatever was logged about it.

        Raises ModelNotFound, VersionNotFound; UnusableModelFile where it is gone.
        """
        ...

    def twin_file(self, version: ModelVersion, *, expected_sha256: str) -> bytes:
        """The model file of the judged twin that lies beside a refitted version.

        Raises UnusableModelFile where it is gone, or is not the one with that digest.
        """
        ...

    def register_again(self, model_name: str, identity: ModelIdentity, kept: KeptModel | None) -> ModelVersion | None:
        """A version of that model: the one that is there, else a new one of its training's run or of what was kept.

        None: nothing holds its bytes. Raises UnusableModelFile where what was kept are not the bytes.
        """
        ...

    def drift_profile(self, model_name: str, version: str) -> bytes:
        """The profile that the version was logged with, verified against its logged digest.

        Raises ModelNotFound, VersionNotFound; UnusableProfile: it has none, it is gone, or it was changed.
        """
        ...

    def training_facts(self, version: ModelVersion) -> TrainingFacts:
        """Parameters and importance of a version's training. Raises ModelNotFound where its run is gone."""
        ...

    def check_artifacts(self) -> None:
        """Write, list and remove a file of nobody's. Raises RegistryError where none can be kept."""
        ...

    def census(self) -> RegistryCensus:
        """Everything, in a few requests however many versions there are."""
        ...

    def ended_runs(self, *, page: str | None = None) -> tuple[list[RunStart], str | None]:
        """Runs that have ended, newest first, a thousand at a time, with what names the next page."""
        ...

    def artifact_bytes(self, run_id: str) -> int:
        """What a run's files and its model hold; some requests."""
        ...

    def apply_stage(
        self,
        model_name: str,
        version: str,
        stage: str,
        *,
        seq: int,
        tags: Mapping[str, str],
        identity: ModelIdentity = UNKNOWN,
    ) -> None:
        """Make stage and alias say that `version` is in `stage`; safe to repeat.

        Raises VersionNotFound, with nothing written, where that number is another model's by now.
        Production: stage first, then alias `champion`, then every other Production version to Archived.
        Staging: alias `challenger`. Archived, None: the aliases that point to it go.
        `tags` are written first, `seq` as tag `acis.seq`.
        """
        ...

    def log_report(self, report: ReportRecord) -> RegistryRun:
        """Log a drift check in the experiment of its strategy's, once per `ledger_run_id` unless two do so at once."""
        ...

    def drop_report(self, run_id: str) -> None:
        """Delete a run that `log_report` made beside another's; nothing where it is gone."""
        ...

    def logged_runs(self, *, page: str | None = None) -> tuple[list[LoggedByRun], str | None]:
        """Finished trainings and reports, newest first, a thousand at a time, with what names the next page."""
        ...

    def logged_versions(self, *, page: str | None = None) -> tuple[list[LoggedByRun], str | None]:
        """Versions that are in no stage and have no alias, in the same way."""
        ...

    def is_logged(self, logged: LoggedByRun) -> bool:
        """Whether the registry has it, of that run of the ledger."""
        ...

    def drop(self, logged: LoggedByRun) -> None:
        """Delete it, a training with the trials below it; nothing where it is gone."""
        ...

    def close_stale_runs(self, ledger_run_id: str, *, reason: str) -> int:
        """End as KILLED the registry's runs of this ledger run that still say RUNNING; how many."""
        ...

    def open_runs(self) -> list[OpenRegistryRun]:
        """What says RUNNING in our experiments, however old; some hundreds at most."""
        ...

    def close_run(self, run_id: str, *, reason: str) -> None:
        """End one as KILLED."""
        ...


def expect(found: ModelVersion, identity: ModelIdentity) -> ModelVersion:
    """The version, if it is that model. Raises VersionNotFound: the number is another model's by now."""
    if not found.identity.may_be(identity):
        message = (
            f"version {found.version} of {found.name!r} is another model in this registry ({found.identity}) than the "
            f"ledger knows by that number ({identity}); see `acis registry`"
        )
        raise VersionNotFound(message)
    return found
