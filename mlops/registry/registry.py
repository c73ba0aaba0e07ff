"""The model registry in MLflow, as the stages use it.

MLflow keeps no promise that the stages could build on: a repeated call registers again, and stage and alias
are two writes without a lock. So each method reads first and reads again after it wrote, and can be repeated.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import (
    AcisError,
    ForeignRegistry,
    InvalidStage,
    ModelNotFound,
    RegistryError,
    RegistryUnavailable,
    UnusableModelFile,
    UnusableProfile,
    VersionNotFound,
)
from mlops.domain.ports import (
    DIGEST_TAG,
    PROFILE_ARTIFACT,
    PROFILE_TAG,
    RUN_TAG,
    SEQ_TAG,
    UNKEPT,
    UNKNOWN,
    Evidence,
    LoggedByRun,
    OpenRegistryRun,
    RegistryCensus,
    RunStart,
    TrainingFacts,
    expect,
)
from mlops.domain.training.importance import IMPORTANCE_ARTIFACT, read_importance
from mlops.domain.training.judged_twin import TWIN_ARTIFACT
from mlops.registry.entities import DECISION_TAG, IN_DECISION, packed
from mlops.registry.failures import gone_is_temporary
from mlops.registry.notes import NOTE_TAG, TRAININGS, decided, linked
from mlops.registry.report_runs import is_of_checks, log_report

if TYPE_CHECKING:
    import xgboost as xgb

    from mlops.domain.ports import FailedTraining, KeptModel, ModelVersion, RegistryRun, ReportRecord, TrainedModel
    from mlops.domain.promotion.records import ModelIdentity
    from mlops.domain.records import LedgerIdentity
    from mlops.registry.entities import LoggedRun
    from mlops.registry.gateway import Gateway

log = structlog.get_logger(__name__)

EXPERIMENT = "acis-ai-models"
STAGES = ("None", "Staging", "Production", "Archived")
CHAMPION, CHALLENGER = "champion", "challenger"
MODEL_TAG = "acis.model_id"
RESTORED_TAG = "acis.restored_from"
"""Tag of a version that was registered again: the number that it had."""
_FAILURE_TAG = "acis.failure"
#: By it MLflow's pages show a run below another.
PARENT_TAG = "mlflow.parentRunId"
#: Of a failure, in characters.
_MAX_REASON = 500
#: Passes until stage and alias agree; each further one means that somebody else wrote in between.
_PASSES = 10
#: Of the experiment: the ledger whose MLflow this is.
OWNER_TAG, OWNER_ADDRESS_TAG = "acis.ledger", "acis.ledger_address"
#: After this the tag is read again, a request of 10 ms: another server may answer at the address by then.
OWNER_KNOWN_S = 15.0


class MlflowRegistry:
    """`mlops.domain.ports.ModelRegistry`; the library is loaded on first use."""

    def __init__(
        self,
        tracking_uri: str,
        *,
        experiment: str = EXPERIMENT,
        n_jobs: int = 1,
        owner: Callable[[], LedgerIdentity] | None = None,
        admin_url: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """n_jobs: threads of the classifiers that are loaded, since MLflow does not keep that number.

        owner: the ledger that this MLflow must belong to, which the first that asks makes it. None: anybody's.
        admin_url: where people reach the admin page, for the links of descriptions.
        """
        self.tracking_uri = tracking_uri
        self._owner, self._monotonic = owner, monotonic
        self._admin_url = admin_url
        self._own_until = float("-inf")
        self._experiment_name = experiment
        self._n_jobs = n_jobs

    @property
    def _gateway(self) -> Gateway:
        """Return the gateway. Raises ForeignRegistry: another stack's server may answer, now or later."""
        if self._owner is not None and self._monotonic() >= self._own_until:
            self._check_owner(self._owner())
            self._own_until = self._monotonic() + OWNER_KNOWN_S
        return self._opened

    @property
    def gateway(self) -> Gateway:
        """Return the gateway for what the stages do not need. Raises ForeignRegistry."""
        return self._gateway

    @cached_property
    def _opened(self) -> Gateway:
        from mlops.registry.gateway import Gateway  # noqa: PLC0415 -- takes seconds

        return Gateway(self.tracking_uri)

    def _check_owner(self, ours: LedgerIdentity) -> None:
        mark = {OWNER_TAG: ours.ledger_id, OWNER_ADDRESS_TAG: ours.address}
        tags = self._opened.claim(self._experiment_name, mark, by=OWNER_TAG)
        if tags is None or tags.get(OWNER_TAG) == ours.ledger_id:
            return
        theirs = replace(
            ours, ledger_id=str(tags.get(OWNER_TAG)), address=tags.get(OWNER_ADDRESS_TAG, "at an unknown address")
        )
        raise ForeignRegistry(
            f"MLflow at {self._opened.shown_uri} belongs to {theirs}, and this is {ours}; nothing is read or written "
            f"there. Name this ledger's own MLflow in MLFLOW_TRACKING_URI; where the other ledger is gone for good, "
            f"delete the tag {OWNER_TAG} of experiment {self._experiment_name!r} in MLflow"
        )

    @property
    def _experiment(self) -> str:
        return self._gateway.experiment_id(self._experiment_name, note=TRAININGS)

    # -- training

    def log_training(
        self,
        trained: TrainedModel,
        *,
        before_write: Callable[[], None] = lambda: None,
        evidence: Evidence = UNKEPT,
    ) -> ModelVersion:
        """Log and register, once per ledger run: a repeated call takes up what the last one left.

        Nothing fences MLflow: a caller that slept in a request may make a second version, and takes it back.
        """
        # Known before it is looked for: of an attempt whose note is lost, the very bytes are recognized.
        evidence.note(self._gateway.digest_of(trained.model))
        found = self.find_by_ledger_run(trained.model_name, trained.ledger_run_id, evidence=evidence)
        if found is not None:
            return found
        left = self._finished_run(trained.ledger_run_id, evidence.known())
        with gone_is_temporary(f"the training of run {trained.ledger_run_id}") if left is None else nullcontext():
            if left is None:
                run_id, model_id, digest = self._logged(trained, before_write, evidence)
                note = self._linked(trained.note, trained.ledger_run_id)
                tags = {**trained.tags, RUN_TAG: trained.ledger_run_id, MODEL_TAG: model_id, DIGEST_TAG: digest}
            else:
                # Its model, so its words too: the attempt that finds it may have seen newer data.
                run_id, model_id = left.run_id, left.tags[MODEL_TAG]
                note = left.tags.get(NOTE_TAG, "")
                tags = {name: value for name, value in left.tags.items() if not name.startswith("mlflow.")}
            before_write()
            made = self._gateway.create_version(
                trained.model_name,
                model_id=model_id,
                run_id=run_id,
                tags=tags,
                note=note,
                model_note=trained.model_note,
            )
        registered = self.find_by_ledger_run(trained.model_name, trained.ledger_run_id, evidence=evidence)
        if registered is None:
            message = f"the version of run {trained.ledger_run_id} was made, but MLflow does not show it yet"
            raise RegistryUnavailable(message)
        if registered.version != made:
            log.warning("registry.second_version_dropped", model=trained.model_name, version=made)
            self._gateway.delete_version(trained.model_name, made)
        return registered

    def log_failure(self, failed: FailedTraining) -> None:
        """Log a run that FAILED; no version. Nothing says RUNNING while a model is fitted, so nothing is left so."""
        tags = {**failed.tags, RUN_TAG: failed.ledger_run_id, _FAILURE_TAG: failed.reason[:_MAX_REASON]}
        tags[NOTE_TAG] = self._linked(f"**The training failed.** {failed.reason[:_MAX_REASON]}", failed.ledger_run_id)
        run_id = self._gateway.create_run(self._experiment, failed.run_name, tags)
        try:
            self._gateway.log(run_id, params=failed.params)
        finally:
            self._gateway.end_run(run_id, "FAILED")

    def find_by_ledger_run(
        self, model_name: str, ledger_run_id: str, *, evidence: Evidence = UNKEPT
    ) -> ModelVersion | None:
        """Find the run's version: the oldest, should a retried request ever have made two.

        One that carries the run's id with a file that no attempt of the run made is somebody else's, and left alone.
        """
        found = self._gateway.versions(model_name, tag=(RUN_TAG, ledger_run_id))
        known = evidence.known() if found else None
        unanswered: RegistryUnavailable | None = None
        for item in reversed(found):
            try:
                if self._is_known(item, known):
                    return self._with_metrics([item])[0]
            except RegistryUnavailable as exc:  # it may be the run's, where none of the others is
                unanswered = exc
        if unanswered is not None:
            raise unanswered
        return None

    def _is_known(self, version: ModelVersion, known: frozenset[str] | None) -> bool:
        if known is None:
            return True
        try:
            sha256 = hashlib.sha256(self.model_file(version.name, version.version)).hexdigest()
        except RegistryError as exc:
            sha256 = f"cannot be read: {exc}"
        if sha256 not in known:
            log.warning(
                "registry.not_of_its_run",
                model=version.name,
                version=version.version,
                sha256=sha256,
                action="none: it is not taken for the run's; delete it in MLflow",
            )
        return sha256 in known

    def close_stale_runs(self, ledger_run_id: str, *, reason: str) -> int:
        """End as KILLED what still says RUNNING for this ledger run, and return how many."""
        stale = self._runs_of(ledger_run_id, "RUNNING")
        for run in stale:
            self.close_run(run.run_id, reason=reason)
        return len(stale)

    def open_runs(self) -> list[OpenRegistryRun]:
        """List open runs of trainings and of drift checks by the ledger's run; runs of others are not among them."""
        found = self._gateway.running(self._is_ours)
        return [
            OpenRegistryRun(run_id=run.run_id, ledger_run_id=run.tags[RUN_TAG]) for run in found if RUN_TAG in run.tags
        ]

    def close_run(self, run_id: str, *, reason: str) -> None:
        """End a run as KILLED."""
        self._gateway.log(run_id, tags={_FAILURE_TAG: reason})
        self._gateway.end_run(run_id, "KILLED")

    # -- drift checks

    def log_report(self, report: ReportRecord) -> RegistryRun:
        """Log a drift check in the experiment of its strategy's; a repeated call finds the first one's run."""
        return log_report(self._gateway, report, note=self._linked(report.note, report.ledger_run_id))

    def drop_report(self, run_id: str) -> None:
        """Delete a run that `log_report` made beside another's."""
        self._gateway.delete_run(run_id)

    # -- what was logged, by the ledger's runs

    def logged_runs(self, *, page: str | None = None) -> tuple[list[LoggedByRun], str | None]:
        """List finished trainings and reports, newest first, without trials, restored champions, and runs of others."""
        found, following = self._gateway.finished(self._is_ours, page)
        logged = [
            LoggedByRun(
                ledger_run_id=run.tags[RUN_TAG],
                kind="report" if is_of_checks(experiment) else "training",
                name=run.run_id,
                at=run.ended_at,
            )
            for experiment, run in found
            if RUN_TAG in run.tags and not {PARENT_TAG, RESTORED_TAG} & run.tags.keys() and run.ended_at is not None
        ]
        return logged, following

    def logged_versions(self, *, page: str | None = None) -> tuple[list[LoggedByRun], str | None]:
        """List versions in no stage, newest first; whoever drops one asks `is_logged` first."""
        found, following = self._gateway.newest_versions(page)
        logged = [
            LoggedByRun(
                ledger_run_id=item.tags[RUN_TAG],
                kind="version",
                name=item.version,
                model_name=item.name,
                at=item.created_at,
            )
            for item in found
            if RUN_TAG in item.tags and item.stage == "None"
        ]
        return logged, following

    def is_logged(self, logged: LoggedByRun) -> bool:
        """Whether MLflow has it, of that run of the ledger, and not in its bin."""
        try:
            if logged.kind == "version":
                return self._gateway.version(logged.model_name, logged.name).tags.get(RUN_TAG) == logged.ledger_run_id
            run = self._gateway.run(logged.name)
        except (ModelNotFound, VersionNotFound):
            return False
        return run.tags.get(RUN_TAG) == logged.ledger_run_id and not run.is_deleted

    def drop(self, logged: LoggedByRun) -> None:
        """Delete a run or version, a training with the trials below it; not a version that an alias names."""
        if logged.kind != "version":
            experiment = self._experiment
            for trial in self._gateway.runs([experiment], f"tags.`{PARENT_TAG}` = '{logged.name}'"):
                self._gateway.delete_run(trial.run_id)
            self._gateway.delete_run(logged.name)
            return
        with suppress(VersionNotFound):
            if not self._gateway.version(logged.model_name, logged.name).aliases:
                self._gateway.delete_version(logged.model_name, logged.name)

    # -- reading

    def version(self, model_name: str, version: str) -> ModelVersion:
        """Return a version. Raises ModelNotFound, VersionNotFound."""
        try:
            return self._with_metrics([self._gateway.version(model_name, version)])[0]
        except VersionNotFound:
            known = [item.version for item in self._gateway.versions(model_name)]
            if not known:
                message = f"model {model_name!r} has no version in MLflow at {self._gateway.shown_uri}; train it first"
                raise ModelNotFound(message) from None
            message = f"model {model_name!r} has no version {version!r}; it has {', '.join(known[:10])}"
            raise VersionNotFound(message) from None

    def versions(self, model_name: str) -> list[ModelVersion]:
        """List all versions, newest first; empty where there is no such model."""
        return self._with_metrics(self._gateway.versions(model_name))

    def load_classifier(self, model_name: str, version: str, *, sha256: str | None) -> xgb.XGBClassifier:
        """The version's XGBClassifier. Raises UnusableModelFile where its file has another digest than the ledger's."""
        from mlops.registry.model_file import classifier_of  # noqa: PLC0415 -- loads XGBoost

        content = self.model_file(model_name, version)
        name = f"of version {version} of {model_name!r}"
        return classifier_of(content, name=name, expected_sha256=sha256, n_jobs=self._n_jobs)

    def model_file(self, model_name: str, version: str) -> bytes:
        """The version's model file as it lies there. Raises UnusableModelFile where it is gone."""
        self.version(model_name, version)
        with tempfile.TemporaryDirectory(prefix="acis-load-") as folder:
            return self._gateway.download_model(model_name, version, folder).read_bytes()

    def twin_file(self, version: ModelVersion, *, expected_sha256: str) -> bytes:
        """The model file of a refitted version's judged twin. Raises UnusableModelFile."""
        what = f"{TWIN_ARTIFACT} of version {version.version} of {version.name!r}"
        if version.run_id is None:
            raise UnusableModelFile(f"{what} is gone: the version names no run")
        with tempfile.TemporaryDirectory(prefix="acis-twin-") as folder:
            try:
                content = self._gateway.download_artifact(version.run_id, TWIN_ARTIFACT, folder)
            except (UnusableProfile, ModelNotFound) as exc:
                raise UnusableModelFile(f"{what} is gone; train again") from exc
        found = hashlib.sha256(content).hexdigest()
        if found != expected_sha256:
            raise UnusableModelFile(
                f"{what} has digest {found[:12]}…, judged was {expected_sha256[:12]}…; it was changed and is not used"
            )
        return content

    def register_again(self, model_name: str, identity: ModelIdentity, kept: KeptModel | None) -> ModelVersion | None:
        """Register a model again: the version that is there, else a new one of its training's run or of what was kept.

        None: nothing holds its bytes. Safe to repeat; an interrupted call leaves a run that is closed as stale.
        """
        known = frozenset({str(identity.sha256)})
        for found in reversed(self.versions(model_name)):
            if found.identity == identity and self._is_known(found, known):
                return found
        logged = self._still_logged(identity)
        if logged is None and kept is not None:
            logged = self._logged_again(kept, identity)
        if logged is None:
            return None
        run_id, tags = logged
        marks = {RUN_TAG: identity.made_by or "", DIGEST_TAG: identity.sha256 or ""}
        tags = {name: value for name, value in tags.items() if not name.startswith("mlflow.")} | marks
        made = self._gateway.create_version(model_name, model_id=tags[MODEL_TAG], run_id=run_id, tags=tags)
        return self.version(model_name, made)

    def _still_logged(self, identity: ModelIdentity) -> tuple[str, dict[str, str]] | None:
        """Run and tags of the training, where MLflow still has the very bytes."""
        if identity.made_by is None:
            return None
        run = self._finished_run(identity.made_by, frozenset({str(identity.sha256)}))
        return None if run is None else (run.run_id, dict(run.tags))

    def _logged_again(self, kept: KeptModel, identity: ModelIdentity) -> tuple[str, dict[str, str]]:
        """Run and tags of a new run that holds what was kept. Raises UnusableModelFile."""
        from mlops.registry.model_file import read_classifier  # noqa: PLC0415 -- loads XGBoost

        with tempfile.TemporaryDirectory(prefix="acis-restore-") as folder:
            file = Path(folder, "model.ubj")
            file.write_bytes(kept.model)
            model = read_classifier(file, expected_sha256=identity.sha256, n_jobs=self._n_jobs)
            tags = {**kept.tags, RUN_TAG: identity.made_by or "", RESTORED_TAG: kept.version}
            tags = {name: value for name, value in tags.items() if name not in (MODEL_TAG, DIGEST_TAG)}
            run_id = self._gateway.create_run(self._experiment, f"{kept.model_name} restored", tags)
            try:
                self._gateway.log(run_id, params=kept.params)
                beside = {PROFILE_ARTIFACT: kept.profile, TWIN_ARTIFACT: kept.twin}
                files = {name: Path(folder, name) for name, content in beside.items() if content is not None}
                for name, place in files.items():
                    place.write_bytes(beside[name] or b"")
                if files:
                    self._gateway.upload(run_id, files)
                stored = self._gateway.store_model(model, run_id=run_id, name="model", file=kept.model)
                marks = {MODEL_TAG: stored.model_id, DIGEST_TAG: stored.sha256}
                self._gateway.log(run_id, metrics=kept.metrics, tags=marks, model_id=stored.model_id)
                self._gateway.end_run(run_id, "FINISHED")
            except BaseException as exc:
                self._fail(run_id, f"{type(exc).__name__}: {exc}")
                raise
        return run_id, {**tags, **marks}

    def drift_profile(self, model_name: str, version: str) -> bytes:
        """The profile that the version was logged with. Raises UnusableProfile."""
        found = self.version(model_name, version)
        expected = found.tags.get(PROFILE_TAG)
        if expected is None or found.run_id is None:
            message = (
                f"version {version} of {model_name!r} carries no drift profile: it was trained by an earlier version "
                f"of this system or registered elsewhere; retrain it, or use the trailing reference"
            )
            raise UnusableProfile(message)
        with tempfile.TemporaryDirectory(prefix="acis-profile-") as folder:
            content = self._gateway.download_artifact(found.run_id, PROFILE_ARTIFACT, folder)
        digest = hashlib.sha256(content).hexdigest()
        if digest != expected:
            message = (
                f"the drift profile of version {version} of {model_name!r} has digest {digest[:12]}…, logged was "
                f"{expected[:12]}…; it was changed after it was logged and is not used"
            )
            raise UnusableProfile(message)
        return content

    def training_facts(self, version: ModelVersion) -> TrainingFacts:
        """Parameters and importance of a version's training. Raises ModelNotFound where its run is gone."""
        if version.run_id is None:
            return TrainingFacts(params={}, importance={})
        params = self._gateway.run(version.run_id).params
        with tempfile.TemporaryDirectory(prefix="acis-importance-") as folder:
            try:
                content = self._gateway.download_artifact(version.run_id, IMPORTANCE_ARTIFACT, folder)
            except UnusableProfile:  # registered elsewhere
                return TrainingFacts(params=params, importance={})
        return TrainingFacts(params=params, importance=read_importance(content.decode()))

    def check_artifacts(self) -> None:
        """Write, list and remove a file. Raises RegistryUnavailable, RegistryError."""
        self._gateway.check_artifacts()

    # -- counting

    def census(self) -> RegistryCensus:
        """List everything, in a few requests however many versions there are."""
        return self._gateway.census()

    def ended_runs(self, *, page: str | None = None) -> tuple[list[RunStart], str | None]:
        """List runs that have ended, newest first, a thousand at a time, with the token of the next page."""
        return self._gateway.ended_runs(page)

    def artifact_bytes(self, run_id: str) -> int:
        """Sum the bytes of a run's files and of its model; some requests."""
        return self._gateway.artifact_bytes(run_id)

    # -- stages

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
        """Make stage and alias say that `version` is in `stage`; safe to repeat, and beside other writers.

        Tags, then the stage, then the alias; then until both agree the stages follow the alias, which is the
        truth. Every write is followed by a look of its writer, so the last writer leaves them agreeing.
        """
        if stage not in STAGES:
            message = f"stage {stage!r} is not known; one of: {', '.join(STAGES)}"
            raise InvalidStage(message)
        target = expect(self.version(model_name, version), identity)
        changed = {key for key, value in {**tags, SEQ_TAG: str(seq)}.items() if target.tags.get(key) != value}
        for key, value in packed({**tags, SEQ_TAG: str(seq)}).items():
            if key in changed or (key == DECISION_TAG and IN_DECISION & changed):
                self._gateway.set_tag(model_name, version, key, value)
        if target.stage != stage:
            self._gateway.set_stage(model_name, version, stage)
        if "acis.decision" in tags:
            self._gateway.rewrite_note(model_name, version, target.run_id, lambda note: decided(note, tags, stage))
        alias = {"Production": CHAMPION, "Staging": CHALLENGER}.get(stage)
        if alias and alias not in target.aliases:
            self._gateway.set_alias(model_name, alias, version)
        self._drop_aliases(target, keep=alias)
        if stage == "Production":
            self._settle(model_name)

    def _settle(self, model_name: str) -> None:
        for _ in range(_PASSES):
            versions = self._gateway.versions(model_name)
            champion = next((item for item in versions if CHAMPION in item.aliases), None)
            if champion is None:
                return  # taken out of production by a later decision
            wrong = [item for item in versions if item.stage == "Production" and item.version != champion.version]
            if champion.stage == "Production" and CHALLENGER not in champion.aliases and not wrong:
                return
            if champion.stage != "Production":
                self._gateway.set_stage(model_name, champion.version, "Production")
            self._drop_aliases(champion, keep=CHAMPION)
            for item in wrong:
                self._gateway.set_stage(model_name, item.version, "Archived")
        message = f"stage and alias of {model_name!r} did not agree after {_PASSES} passes; somebody else keeps writing"
        raise RegistryUnavailable(message)

    def _drop_aliases(self, version: ModelVersion, *, keep: str | None) -> None:
        for alias in {CHAMPION, CHALLENGER} & set(version.aliases) - {keep}:
            self._gateway.delete_alias(version.name, alias)

    # -- inside

    def _linked(self, note: str, ledger_run_id: str) -> str:
        return linked(note, self._admin_url, ledger_run_id)

    def _is_ours(self, experiment: str) -> bool:
        return experiment == self._experiment_name or is_of_checks(experiment)

    def _logged(
        self, trained: TrainedModel, before_write: Callable[[], None], evidence: Evidence
    ) -> tuple[str, str, str]:
        """Run, model and digest of a new run, which ends FINISHED with all its content, or FAILED with the reason."""
        before_write()
        self.close_stale_runs(trained.ledger_run_id, reason="taken over by another attempt")
        tags = {**trained.tags, RUN_TAG: trained.ledger_run_id}
        tags[NOTE_TAG] = self._linked(trained.note, trained.ledger_run_id)
        experiment = self._experiment
        run_id = self._gateway.create_run(experiment, trained.run_name, tags)
        try:
            self._gateway.log(run_id, params=trained.params)
            if trained.dataset is not None:
                digest = trained.tags.get("data_fingerprint", trained.ledger_run_id)
                self._gateway.log_dataset(
                    run_id, trained.dataset, name=trained.dataset_name, digest=digest, n_rows=trained.dataset_rows
                )
            before_write()
            self._gateway.upload(run_id, trained.artifacts)
            before_write()
            stored = self._gateway.store_model(
                trained.model,
                run_id=run_id,
                name="model",
                example=trained.example,
                predictions=trained.predictions,
                before_upload=evidence.note,
            )
            marks = {MODEL_TAG: stored.model_id, DIGEST_TAG: stored.sha256}
            self._gateway.log(run_id, metrics=trained.metrics, tags=marks, model_id=stored.model_id)
            before_write()
            self._log_trials(run_id, trained, experiment)
            before_write()
            self._gateway.end_run(run_id, "FINISHED")
        except BaseException as exc:
            self._fail(run_id, f"{type(exc).__name__}: {exc}")
            raise
        return run_id, stored.model_id, stored.sha256

    def _log_trials(self, parent: str, trained: TrainedModel, experiment: str) -> None:
        """Log each trial of a tuning as a run below the training's: three requests."""
        for trial in trained.trials:
            tags = {PARENT_TAG: parent, RUN_TAG: trained.ledger_run_id, "strategy": trained.strategy}
            state = "complete" if trial.value is not None else "pruned"
            name = f"{trained.run_name} trial {trial.number}"
            run_id = self._gateway.create_run(experiment, name, {**tags, "trial_state": state})
            value = trial.value if trial.value is not None else (trial.so_far or (None,))[-1]
            metrics = {} if value is None else {trained.trials_metric: value}
            self._gateway.log(run_id, params=trial.params, metrics={**metrics, "duration_s": trial.duration_s})
            self._gateway.end_run(run_id, "FINISHED" if state == "complete" else "KILLED")

    def _fail(self, run_id: str, reason: str) -> None:
        # A server that does not answer now will have the run closed by the next attempt.
        with suppress(AcisError):
            self._gateway.log(run_id, tags={_FAILURE_TAG: reason[:_MAX_REASON]})
            self._gateway.end_run(run_id, "FAILED")

    def _finished_run(self, ledger_run_id: str, known: frozenset[str] | None) -> LoggedRun | None:
        """Find what an attempt left that died between its run's end and the registration.

        known : digests of the files that attempts of the run made; None: whatever was logged is theirs
        """
        found = self._runs_of(ledger_run_id, "FINISHED")
        return next((run for run in found if MODEL_TAG in run.tags and self._holds(run, known)), None)

    def _holds(self, run: LoggedRun, known: frozenset[str] | None) -> bool:
        """Whether the run's model file has one of the digests."""
        if known is None:
            return DIGEST_TAG in run.tags
        with tempfile.TemporaryDirectory(prefix="acis-load-") as folder, suppress(RegistryError):
            file = self._gateway.download_logged_model(f"models:/{run.tags[MODEL_TAG]}", folder)
            return hashlib.sha256(file.read_bytes()).hexdigest() in known
        return False

    def _runs_of(self, ledger_run_id: str, status: str) -> list[LoggedRun]:
        if "'" in ledger_run_id:
            message = f"run id {ledger_run_id!r} cannot be searched for; it holds a quote"
            raise RegistryError(message)
        where = f"tags.`{RUN_TAG}` = '{ledger_run_id}' and attributes.status = '{status}'"
        return list(self._gateway.runs([self._experiment], where))

    def _with_metrics(self, versions: list[ModelVersion]) -> list[ModelVersion]:
        if not versions:
            return []
        runs = [item.run_id for item in versions if item.run_id]
        metrics = self._gateway.metrics_of(runs, experiment=self._experiment_name)
        return [replace(item, metrics=dict(metrics.get(item.run_id or "", {}))) for item in versions]
