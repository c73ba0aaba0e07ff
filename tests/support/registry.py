"""A model registry in memory; the contract battery in tests/contracts/registry runs on it too."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from mlops.domain.errors import (
    InvalidStage,
    ModelNotFound,
    UnrecordedModelFile,
    UnusableModelFile,
    UnusableProfile,
    VersionNotFound,
)
from mlops.domain.ports import (
    DIGEST_TAG,
    PROFILE_ARTIFACT,
    PROFILE_TAG,
    RUN_TAG,
    UNKEPT,
    UNKNOWN,
    Evidence,
    FailedTraining,
    KeptModel,
    LoggedByRun,
    ModelRegistry,
    ModelVersion,
    OpenRegistryRun,
    RegistryCensus,
    RegistryRun,
    ReportRecord,
    RunStart,
    TrainedModel,
    TrainingFacts,
    expect,
)
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.training.judged_twin import TWIN_ARTIFACT
from mlops.registry.registry import RESTORED_TAG

STAGES = ("None", "Staging", "Production", "Archived")
ALIASES = {"Production": "champion", "Staging": "challenger"}


def file_of(model: Any) -> bytes:
    """The model file; empty for what is no model of XGBoost."""
    return bytes(model.get_booster().save_raw("ubj")) if hasattr(model, "get_booster") else b""


def sha256_of(content: bytes) -> str:
    """In hex."""
    return hashlib.sha256(content).hexdigest()


def loaded(registry: ModelRegistry, name: str, version: str) -> Any:
    """The version's classifier, with whatever digest its file has."""
    return registry.load_classifier(name, version, sha256=sha256_of(registry.model_file(name, version)))


@dataclass
class FakeRegistry:
    """Implements `mlops.domain.ports.ModelRegistry`."""

    now: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    running: list[str] = field(default_factory=list)
    """Ledger run ids of attempts that still say RUNNING; a test may add one."""
    closed: dict[str, str] = field(default_factory=dict)
    """Why runs were closed one by one"""
    failures: list[FailedTraining] = field(default_factory=list)
    profiles: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """Content of each version's drift profile; a test may take one away or change it."""
    reports: dict[str, ReportRecord] = field(default_factory=dict)
    """Logged drift checks, by the registry's run"""
    params: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """Logged parameters of each version"""
    twins: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """Model file of each version's judged twin; a test may take one away or change it."""
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    """Model file of each version; a test may take one away or change it."""
    recorded: Callable[[ModelVersion], None] = lambda _: None
    """Has the ledger record the file of a version that is logged without a run of the ledger."""
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _models: dict[str, list[ModelVersion]] = field(default_factory=dict)
    _loaded: dict[tuple[str, str], Any] = field(default_factory=dict)

    def log_training(
        self,
        trained: TrainedModel,
        *,
        before_write: Callable[[], None] = lambda: None,
        evidence: Evidence = UNKEPT,
    ) -> ModelVersion:
        evidence.note(sha256_of(file_of(trained.model)))
        found = self.find_by_ledger_run(trained.model_name, trained.ledger_run_id, evidence=evidence)
        if found is not None:
            return found
        before_write()
        self.close_stale_runs(trained.ledger_run_id, reason="taken over by another attempt")
        versions = self._models.setdefault(trained.model_name, [])
        number = str(len(versions) + 1)
        versions.append(
            ModelVersion(
                name=trained.model_name,
                version=number,
                stage="None",
                aliases=(),
                run_id=f"run-of-{trained.ledger_run_id}",
                tags={**trained.tags, RUN_TAG: trained.ledger_run_id, DIGEST_TAG: sha256_of(file_of(trained.model))},
                metrics=dict(trained.metrics),
                created_at=self.now + timedelta(seconds=len(versions)),
            )
        )
        self.params[trained.model_name, number] = {name: str(value) for name, value in trained.params.items()}
        self._loaded[trained.model_name, number] = trained.model
        self.files[trained.model_name, number] = file_of(trained.model)
        if PROFILE_ARTIFACT in trained.artifacts:
            self.profiles[trained.model_name, number] = trained.artifacts[PROFILE_ARTIFACT].read_bytes()
        if TWIN_ARTIFACT in trained.artifacts:
            self.twins[trained.model_name, number] = trained.artifacts[TWIN_ARTIFACT].read_bytes()
        if evidence is UNKEPT:
            self.recorded(versions[-1])
        return versions[-1]

    def log_failure(self, failed: FailedTraining) -> None:
        self.failures.append(failed)

    def find_by_ledger_run(
        self, model_name: str, ledger_run_id: str, *, evidence: Evidence = UNKEPT
    ) -> ModelVersion | None:
        known = evidence.known()
        for item in self._models.get(model_name, []):
            file = self.files.get((model_name, item.version), b"")
            if item.tags["acis.run_id"] == ledger_run_id and (known is None or sha256_of(file) in known):
                return item
        return None

    def version(self, model_name: str, version: str) -> ModelVersion:
        if model_name not in self._models:
            raise ModelNotFound(f"model {model_name!r} has no version; train it first")
        for item in self._models[model_name]:
            if item.version == version:
                return item
        raise VersionNotFound(f"model {model_name!r} has no version {version!r}")

    def versions(self, model_name: str) -> list[ModelVersion]:
        return self._models.get(model_name, [])[::-1]

    def load_classifier(self, model_name: str, version: str, *, sha256: str | None) -> Any:
        if sha256_of(self.model_file(model_name, version)) != sha256:
            raise UnrecordedModelFile(f"version {version} has another digest than {sha256}; it was changed")
        return self._loaded[model_name, version]

    def model_file(self, model_name: str, version: str) -> bytes:
        self.version(model_name, version)
        if (model_name, version) not in self.files:
            raise UnusableModelFile(f"model file of version {version} is gone")
        return self.files[model_name, version]

    def twin_file(self, version: ModelVersion, *, expected_sha256: str) -> bytes:
        content = self.twins.get((version.name, version.version))
        if content is None:
            raise UnusableModelFile(f"judged_twin.ubj of version {version.version} is gone")
        if sha256_of(content) != expected_sha256:
            raise UnusableModelFile("it was changed and is not used")
        return content

    def register_again(self, model_name: str, identity: ModelIdentity, kept: KeptModel | None) -> ModelVersion | None:
        there = [found for found in self.versions(model_name) if found.identity == identity]
        if there or kept is None:
            return there[-1] if there else None
        if sha256_of(kept.model) != identity.sha256:
            raise UnusableModelFile("it was changed after it was kept")
        versions = self._models.setdefault(model_name, [])
        number = str(len(versions) + 1)
        marks = {RUN_TAG: identity.made_by or "", DIGEST_TAG: identity.sha256 or "", RESTORED_TAG: kept.version}
        versions.append(
            ModelVersion(
                name=model_name,
                version=number,
                stage="None",
                aliases=(),
                run_id=f"restored-{number}",
                tags={**kept.tags, **marks},
                metrics=dict(kept.metrics),
                created_at=self.now + timedelta(seconds=len(versions)),
            )
        )
        import xgboost as xgb

        classifier = xgb.XGBClassifier()
        classifier.load_model(bytearray(kept.model))
        self._loaded[model_name, number] = classifier
        self.files[model_name, number] = kept.model
        self.params[model_name, number] = dict(kept.params)
        if kept.profile is not None:
            self.profiles[model_name, number] = kept.profile
        if kept.twin is not None:
            self.twins[model_name, number] = kept.twin
        return versions[-1]

    def forget(self, model_name: str) -> None:
        """A database that was made anew: the next version is number 1 again."""
        self._models.pop(model_name, None)
        for kept in (self.files, self.twins, self.profiles, self.params, self._loaded):
            for key in [key for key in kept if key[0] == model_name]:
                del kept[key]  # type: ignore[attr-defined]

    def drift_profile(self, model_name: str, version: str) -> bytes:
        found = self.version(model_name, version)
        content = self.profiles.get((model_name, version))
        if PROFILE_TAG not in found.tags:
            raise UnusableProfile(f"version {version} carries no drift profile")
        if content is None:
            raise UnusableProfile("drift_profile.arrow is gone")
        if hashlib.sha256(content).hexdigest() != found.tags[PROFILE_TAG]:
            raise UnusableProfile("its digest is not the one that was logged; it was changed")
        return content

    def training_facts(self, version: ModelVersion) -> TrainingFacts:
        found = self.version(version.name, version.version)
        return TrainingFacts(params=self.params.get((found.name, found.version), {}), importance={})

    def check_artifacts(self) -> None:
        """They lie in memory."""

    def census(self) -> RegistryCensus:
        versions = [replace(item, metrics={}) for name in sorted(self._models) for item in self.versions(name)]
        return RegistryCensus(experiments=("Default",), models=tuple(sorted(self._models)), versions=tuple(versions))

    def ended_runs(self, *, page: str | None = None) -> tuple[list[RunStart], str | None]:
        found = [item for versions in self._models.values() for item in versions if item.run_id]
        newest = sorted(found, key=lambda item: item.created_at, reverse=True)
        return [RunStart(run_id=str(item.run_id), started_at=item.created_at) for item in newest], None

    def artifact_bytes(self, run_id: str) -> int:
        return 1000

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
        if stage not in STAGES:
            raise InvalidStage(f"stage {stage!r} is not known; one of: {', '.join(STAGES)}")
        expect(self.version(model_name, version), identity)
        alias = ALIASES.get(stage)
        self._models[model_name] = [
            self._placed(item, stage, alias, {**tags, "acis.seq": str(seq)})
            if item.version == version
            else self._displaced(item, alias)
            for item in self._models[model_name]
        ]

    def log_report(self, report: ReportRecord) -> RegistryRun:
        found = next(
            (run_id for run_id, item in self.reports.items() if item.ledger_run_id == report.ledger_run_id), None
        )
        run_id = found or f"report-{next(self._numbers)}"
        self.reports.setdefault(run_id, report)
        return RegistryRun(run_id=run_id, url=None)

    def drop_report(self, run_id: str) -> None:
        self.reports.pop(run_id, None)

    def logged_runs(self, *, page: str | None = None) -> tuple[list[LoggedByRun], str | None]:
        reports = [
            LoggedByRun(ledger_run_id=report.ledger_run_id, kind="report", name=run_id, at=self.now)
            for run_id, report in self.reports.items()
        ]
        trainings = [
            LoggedByRun(
                ledger_run_id=item.tags["acis.run_id"], kind="training", name=str(item.run_id), at=item.created_at
            )
            for item in self._all()
            if RESTORED_TAG not in item.tags
        ]
        return reports[::-1] + trainings, None

    def logged_versions(self, *, page: str | None = None) -> tuple[list[LoggedByRun], str | None]:
        return [
            LoggedByRun(
                ledger_run_id=item.tags["acis.run_id"],
                kind="version",
                name=item.version,
                model_name=item.name,
                at=item.created_at,
            )
            for item in self._all()
            if item.stage == "None"
        ], None

    def is_logged(self, logged: LoggedByRun) -> bool:
        lists = (self.logged_runs()[0], [replace(item, model_name="") for item in self.logged_versions()[0]])
        return any(
            (item.kind, item.name, item.ledger_run_id) == (logged.kind, logged.name, logged.ledger_run_id)
            for listed in lists
            for item in listed
        )

    def drop(self, logged: LoggedByRun) -> None:
        self.reports.pop(logged.name, None)
        versions = self._models.get(logged.model_name, [])
        self._models[logged.model_name] = [item for item in versions if item.version != logged.name]

    def _all(self) -> list[ModelVersion]:
        return [item for name in self._models for item in self.versions(name)]

    def close_stale_runs(self, ledger_run_id: str, *, reason: str) -> int:
        count = self.running.count(ledger_run_id)
        self.running = [item for item in self.running if item != ledger_run_id]
        return count

    def open_runs(self) -> list[OpenRegistryRun]:
        return [OpenRegistryRun(run_id=f"open-{item}", ledger_run_id=item) for item in self.running]

    def close_run(self, run_id: str, *, reason: str) -> None:
        self.running = [item for item in self.running if f"open-{item}" != run_id]
        self.closed[run_id] = reason

    def set_tags(self, model_name: str, version: str, tags: Mapping[str, str]) -> None:
        """All tags of a version in place of those it has."""
        self._models[model_name] = [
            replace(item, tags=dict(tags)) if item.version == version else item for item in self._models[model_name]
        ]

    def set_by_hand(self, model_name: str, version: str, *, stage: str, aliases: tuple[str, ...]) -> None:
        """What a person does in the registry's own pages."""
        self._models[model_name] = [
            replace(item, stage=stage, aliases=aliases)
            if item.version == version
            else replace(item, aliases=tuple(alias for alias in item.aliases if alias not in aliases))
            for item in self._models[model_name]
        ]

    @staticmethod
    def _placed(item: ModelVersion, stage: str, alias: str | None, tags: Mapping[str, str]) -> ModelVersion:
        return replace(item, stage=stage, aliases=(alias,) if alias else (), tags={**item.tags, **tags})

    @staticmethod
    def _displaced(item: ModelVersion, alias: str | None) -> ModelVersion:
        stage = "Archived" if alias == "champion" and item.stage == "Production" else item.stage
        return replace(item, stage=stage, aliases=tuple(other for other in item.aliases if other != alias))


class Kept(Evidence):
    """What a ledger keeps of one run."""

    def __init__(self) -> None:
        self.digests: set[str] = set()

    def note(self, sha256: str) -> None:
        self.digests.add(sha256)

    def known(self) -> frozenset[str]:
        return frozenset(self.digests)
