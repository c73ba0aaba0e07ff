"""The mlflow library behind one door: the only module that imports it.

Called by `registry` (the stages) and `mlflow_client` (the documented class), both of which import this on
first use, since the library takes seconds. Values go in and out, never the library's entities. Everything but
the `fluent` calls is addressed by explicit ids, since MLflow's active run, experiment and tracking URI are
global to the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from inspect import unwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.addresses import credentials_of, without_credentials
from mlops.domain.errors import (
    ModelNotFound,
    RegistryError,
    RegistryForbidden,
    RegistryUnavailable,
    UnusableModelFile,
    UnusableProfile,
    VersionNotFound,
)
from mlops.domain.ports import RUN_TAG, ModelVersion
from mlops.failpoints import external_write
from mlops.registry.counting import Counting, is_served
from mlops.registry.entities import PAGE, LoggedRun, logged_run, model_version, packed, pages, walk
from mlops.registry.failures import innermost, is_collision
from mlops.registry.model_file import SHIPPED_CLASS, requirements, ship_classifier
from mlops.registry.notes import KIND, KIND_TAG, NOTE_TAG
from mlops.sqlstates import told_may_pass
from mlops.volumes import says_full

_DEFAULTS = {
    # The library's own 7 retries hold a dead server's caller for four minutes; the ledger waits better.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Only XGBoost's own format is read here; nothing that a pickle could hide may run.
    "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
    # Requirements are given; without this a uv.lock in the current folder would be exported.
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Else a server whose artifacts lie in S3 sends its clients there, by addresses that it signs: roles that may reach
    # MLflow alone would read no model.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    # Else it looks for a repository to tag the run with, and complains where there is no git.
    "GIT_PYTHON_REFRESH": "quiet",
}
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)

with warnings.catch_warnings():
    # Its own modules warn about each other's type hints, in yellow, at the user.
    warnings.simplefilter("ignore")
    import mlflow  # reads the variables above
    import mlflow.pyfunc.model
    import mlflow.xgboost
import requests  # noqa: E402
import xgboost as xgb  # noqa: E402
from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException, RestException  # noqa: E402
from mlflow.models import Model, infer_signature  # noqa: E402
from mlflow.protos.databricks_pb2 import ErrorCode  # noqa: E402
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

_MODEL_FILE = "model.ubj"
_FORBIDDEN = {"UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED, "PERMISSION_DENIED": HTTPStatus.FORBIDDEN}
_UNREACHABLE = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}
_CANNOT_KEEP = "INVALID_STATE"
"""By `devstack.mlflow_artifacts`: the store of the artifacts refuses, and only a person can change that."""
_BEFORE_IT = "what answers is no MLflow: a proxy, an ingress, or a service that has no server now"
#: MLflow takes so many per request.
_BATCH = 100
_SCHEMA_ROWS = 100
_SAFE = re.compile(r"[\w .:@+/-]*")

# The deprecation warning of stages would reach our users, who cannot do anything about it.
_transition = unwrap(MlflowClient.transition_model_version_stage)


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A model that was uploaded, registered or not."""

    model_id: str
    sha256: str
    """Digest of its model file."""


class Gateway(Counting):
    """A connection to one MLflow server. Raises RegistryUnavailable, ModelNotFound, VersionNotFound, RegistryError."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        self.shown_uri = without_credentials(tracking_uri)
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        self._seen_experiments: dict[str, str] = {}

    # -- runs

    def experiment_id(self, name: str, *, note: str = "") -> str:
        """Id of the experiment, which is made where it does not exist, and described where nobody has.

        Asked anew each time: ids count up from 1, so after MLflow was recreated a remembered one names nothing, or
        another experiment.
        """
        with self._translated(f"experiment {name!r}"):
            found = self._found_experiment(name) or self._made_experiment(name)
            if note and self._seen_experiments.get(name) != found:
                self._describe_experiment(found, note)
        self._seen_experiments[name] = found
        return found

    def claim(self, experiment: str, tags: Mapping[str, str], *, by: str) -> Mapping[str, str] | None:
        """Tags of an experiment, which get `tags` where the one named `by` is missing; None where it does not exist.

        None, too, where it has no owner and whoever asks may only read: a role that writes will claim it.
        """
        with self._translated(f"experiment {experiment!r}"):
            found = self._client.get_experiment_by_name(experiment)
            if found is None or by in found.tags:
                return found and dict(found.tags)
            # The decisive one last, and read again: of two that claim it at once one sees the other's.
            try:
                for name, value in sorted(tags.items(), key=lambda item: item[0] == by):
                    self._client.set_experiment_tag(found.experiment_id, name, value)
            except MlflowException as exc:
                if exc.error_code != "PERMISSION_DENIED":
                    raise
                return None
            return dict(self._client.get_experiment(found.experiment_id).tags)

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Make a run in state RUNNING and return its id."""
        # The experiment was found a moment ago: the whole is tried again, and finds or makes it.
        gone = RegistryUnavailable
        with self._translated(f"run {name!r}", missing=gone), external_write("registry.create_run"):
            run = self._client.create_run(experiment_id, run_name=name, tags=packed(tags))
            return str(run.info.run_id)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        model_id: str | None = None,
        step: int = 0,
    ) -> None:
        """Write to a run; metrics to its model too, where `model_id` is given."""
        now_ms = int(time.time() * 1000)
        entities = [
            *(("params", Param(key, str(value))) for key, value in (params or {}).items()),
            *(
                ("metrics", Metric(key, float(value), now_ms, step, model_id=model_id))
                for key, value in (metrics or {}).items()
            ),
            *(("tags", RunTag(key, str(value))) for key, value in (tags or {}).items()),
        ]
        with self._translated(f"run {run_id}"):
            for start in range(0, len(entities), _BATCH):
                batch: dict[str, list[Any]] = {}
                for kind, entity in entities[start : start + _BATCH]:
                    batch.setdefault(kind, []).append(entity)
                with external_write("registry.log_batch"):
                    self._client.log_batch(run_id, **batch)

    def log_dataset(self, run_id: str, frame: pd.DataFrame, *, name: str, digest: str, n_rows: int) -> None:
        """Note what a run was trained on: name, digest (cut to 36 characters), schema and size; not the rows."""
        source = CodeDatasetSource(tags={})  # given, or the library asks git
        # The library looks at every single value for a schema: over a second for each million of them.
        head = mlflow.data.from_pandas(frame.head(_SCHEMA_ROWS), source=source, name=name, digest=digest[:36]).to_dict()
        dataset = Dataset(
            name=name,
            digest=head["digest"],
            source_type=head["source_type"],
            source=head["source"],
            schema=head["schema"],
            profile=json.dumps({"num_rows": n_rows, "num_elements": n_rows * frame.shape[1]}),
        )
        with self._translated(f"run {run_id}"):
            self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def upload(self, run_id: str, artifacts: Mapping[str, Path]) -> None:
        """Store files with a run, by artifact path."""
        with tempfile.TemporaryDirectory(prefix="acis-artifacts-") as folder, self._translated(f"run {run_id}"):
            for artifact, file in artifacts.items():
                place = Path(folder, artifact)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(file.resolve())
            with external_write("registry.log_artifacts"):
                self._client.log_artifacts(run_id, folder)

    def end_run(self, run_id: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        with self._translated(f"run {run_id}"), external_write("registry.set_terminated"):
            self._client.set_terminated(run_id, status)

    def delete_run(self, run_id: str) -> None:
        """Move a run to MLflow's bin; nothing where it is gone."""
        with suppress(ModelNotFound), self._translated(f"run {run_id}"):
            self._client.delete_run(run_id)

    def runs(
        self, experiment_ids: Sequence[str], where: str, *, order_by: Sequence[str] = (), limit: int = 1000
    ) -> list[LoggedRun]:
        """Runs that match a filter in MLflow's language; newest first unless ordered."""
        order = list(order_by) or ["attributes.start_time DESC"]
        with self._translated("a search of runs"):
            found = self._client.search_runs(list(experiment_ids), where, order_by=order, max_results=limit)
        return [logged_run(run) for run in found]

    def run(self, run_id: str) -> LoggedRun:
        """Return a run."""
        with self._translated(f"run {run_id}"):
            return logged_run(self._client.get_run(run_id))

    def experiment_of(self, run_id: str) -> str:
        """Id of the experiment that a run belongs to."""
        with self._translated(f"run {run_id}"):
            return str(self._client.get_run(run_id).info.experiment_id)

    def artifacts(self, run_id: str) -> list[str]:
        """Paths of a run's files; those of its model under `model/`."""
        with self._translated(f"run {run_id}"):
            run = self._client.get_run(run_id)
            found: set[str] = set()
            if is_served(run.info.artifact_uri):
                found.update(walk(lambda path: self._client.list_artifacts(run_id, path)))
            for id_ in self._served_models(run):
                listed = walk(lambda path, id_=id_: self._client.list_logged_model_artifacts(id_, path))
                found.update(f"model/{path}" for path in listed)
        return sorted(found)

    def running(self, experiments: Callable[[str], bool]) -> list[LoggedRun]:
        """Runs in state RUNNING of the experiments whose names are wanted, newest first."""
        ids = list(self._named(experiments))
        return self.runs(ids, "attributes.status = 'RUNNING'") if ids else []

    def finished(
        self, experiments: Callable[[str], bool], page: str | None
    ) -> tuple[list[tuple[str, LoggedRun]], str | None]:
        """Runs in state FINISHED with their experiments' names, newest first, and the next page's token."""
        names = self._named(experiments)
        if not names:
            return [], None
        with self._translated("a search of runs"):
            found = self._client.search_runs(
                list(names),
                "attributes.status = 'FINISHED'",
                order_by=["attributes.start_time DESC"],
                max_results=PAGE,
                page_token=page,
            )
        return [(names[run.info.experiment_id], logged_run(run)) for run in found], found.token or None

    def _named(self, wanted: Callable[[str], bool]) -> dict[str, str]:
        """Experiments' names by id."""
        with self._translated("a search of experiments"):
            found = pages(lambda token: self._client.search_experiments(page_token=token))
        return {item.experiment_id: item.name for item in found if wanted(item.name)}

    # -- models

    def store_model(
        self,
        model: Any,  # noqa: ANN401 -- XGBClassifier or Booster
        *,
        run_id: str,
        name: str,
        signature: Any = None,  # noqa: ANN401 -- the library's ModelSignature
        example: Any = None,  # noqa: ANN401 -- pandas frame
        predictions: Any = None,  # noqa: ANN401 -- array
        file: bytes | None = None,
        before_upload: Callable[[str], None] = lambda _: None,
    ) -> StoredModel:
        """Upload in XGBoost's own format, with signature, example and pinned requirements, as the run's output.

        With a classifier goes the code by which MLflow's own loaders prepare rows as training does.
        file : the model file that `model` was read from, which is stored as it is
        before_upload : told the model file's digest
        """
        _refuse_others(model)
        if signature is None and predictions is not None:
            signature = infer_signature(example, predictions)
        is_classifier = isinstance(model, xgb.XGBClassifier)
        with tempfile.TemporaryDirectory(prefix="acis-model-") as folder, self._translated(f"model {name!r}"):
            with external_write("registry.create_logged_model"):
                stored = self._client.create_logged_model(self.experiment_of(run_id), name=name, source_run_id=run_id)
            path = Path(folder, "model")
            mlflow.xgboost.save_model(
                model,
                str(path),
                mlflow_model=Model(artifact_path=stored.artifact_location, run_id=run_id, model_id=stored.model_id),
                signature=signature,
                input_example=example,
                # Inferring them imports everything in a second process, which takes 3 s and names both wheels.
                pip_requirements=list(requirements()),
                code_paths=[str(ship_classifier(Path(folder)))] if is_classifier else None,
            )
            if is_classifier:
                described = Model.load(str(path))
                described.flavors["xgboost"]["model_class"] = SHIPPED_CLASS
                described.save(str(path / "MLmodel"))
            if file is not None:  # written again, it need not have the same bytes
                (path / _MODEL_FILE).write_bytes(file)
            digest = _file_sha256(path / _MODEL_FILE)
            before_upload(digest)
            with external_write("registry.log_model_artifacts"):
                self._client.log_model_artifacts(stored.model_id, str(path))
            with external_write("registry.finalize_logged_model"):
                self._client.finalize_logged_model(stored.model_id, "READY")
            self._client.log_outputs(run_id, [LoggedModelOutput(stored.model_id, step=0)])
        return StoredModel(model_id=stored.model_id, sha256=digest)

    @staticmethod
    def digest_of(model: Any) -> str:  # noqa: ANN401 -- XGBClassifier or Booster
        """SHA-256 of the file that a model will be stored as. Raises RegistryError: it is none of XGBoost's."""
        _refuse_others(model)
        with tempfile.TemporaryDirectory(prefix="acis-digest-") as folder:
            path = Path(folder, _MODEL_FILE)
            model.save_model(path)
            return _file_sha256(path)

    def download_model(self, name: str, number: str, folder: str) -> Path:
        """The model file of a version, in `folder`."""
        with self._translated(f"model {name!r} version {number}", missing=VersionNotFound):
            source = self._client.get_model_version_download_uri(name, number)
        return self._download_model_from(source, folder)

    def download_logged_model(self, uri: str, folder: str) -> Path:
        """The model file of `models:/m-…`, in `folder`."""
        return self._download_model_from(uri, folder)

    def stored_model(self, uri: str) -> tuple[str, str | None, str | None]:
        """Id, run, and run of the ledger (None where it names none) of `models:/m-…` or `runs:/RUN/NAME`."""
        scheme, _, rest = uri.partition(":/")
        owner, _, name = rest.strip("/").partition("/")
        with self._translated(uri):
            model = self._model_of_run(owner, name) if scheme == "runs" else self._client.get_logged_model(owner)
            tags = self._client.get_run(model.source_run_id).data.tags if model.source_run_id else {}
        return model.model_id, model.source_run_id, tags.get(RUN_TAG)

    def _model_of_run(self, run_id: str, name: str) -> Any:  # noqa: ANN401 -- the library's LoggedModel
        run = self._client.get_run(run_id)
        ids = [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]
        models = [self._client.get_logged_model(id_) for id_ in reversed(ids)]
        for model in models:
            if model.name == name:
                return model
        message = f"run {run_id} logged no model named {name!r}; it has {', '.join(m.name for m in models) or 'none'}"
        raise ModelNotFound(message)

    def _download_model_from(self, source: str, folder: str) -> Path:
        with self._translated(source):
            # The library would resolve `models:/` at the process's global URI, not at ours.
            if source.startswith("models:/m-"):
                source = self._client.get_logged_model(source.removeprefix("models:/")).artifact_location
            elif source.startswith("runs:/"):
                run_id, _, path = source.removeprefix("runs:/").partition("/")
                source = f"{self._client.get_run(run_id).info.artifact_uri}/{path}"
        if not is_served(source):
            raise UnusableModelFile(_elsewhere(source))
        try:
            with self._translated(source):
                uri = f"{source.rstrip('/')}/{_MODEL_FILE}"
                return Path(
                    mlflow.artifacts.download_artifacts(
                        artifact_uri=uri, dst_path=folder, tracking_uri=self.tracking_uri
                    )
                )
        except (RegistryUnavailable, RegistryError) as exc:
            if self._has_model_file(source):
                raise
            message = (
                f"model file {_MODEL_FILE} is gone from {source}; restore it, or train and promote another version"
            )
            raise UnusableModelFile(message) from exc

    def _has_model_file(self, source: str) -> bool:
        """Whether the server lists it: a failed download alone says INTERNAL_ERROR whatever its cause."""
        with self._translated(source):
            listed = mlflow.artifacts.list_artifacts(artifact_uri=source, tracking_uri=self.tracking_uri)
        return any(Path(item.path).name == _MODEL_FILE for item in listed)

    def check_artifacts(self) -> None:
        """Write, list and remove a file at the server. Raises RegistryUnavailable, RegistryError."""
        place = f"mlflow-artifacts:/acis-check-{secrets.token_hex(8)}"
        with tempfile.TemporaryDirectory(prefix="acis-check-") as folder, self._translated("its artifacts"):
            file = Path(folder, "check.txt")
            file.write_text("is it kept?", encoding="utf-8")
            store = get_artifact_repository(place, tracking_uri=self.tracking_uri)
            store.log_artifact(str(file))
            found = store.list_artifacts()
            store.delete_artifacts()
        if [item.path for item in found] != ["check.txt"]:
            message = f"MLflow at {self.shown_uri} does not give the files that it was given; see MLFLOW_ARTIFACT_ROOT"
            raise RegistryError(message)

    def download_artifact(self, run_id: str, path: str, folder: str) -> bytes:
        """Content of a run's file, fetched by way of `folder`. Raises UnusableProfile where the run has none."""
        with self._translated(f"run {run_id}", missing=UnusableProfile):
            location = self._client.get_run(run_id).info.artifact_uri
        if not is_served(location):
            raise UnusableProfile(_elsewhere(location))
        try:
            with self._translated(f"{path} of run {run_id}"):
                return Path(self._client.download_artifacts(run_id, path, folder)).read_bytes()
        except (RegistryUnavailable, RegistryError) as exc:
            # A failed download says INTERNAL_ERROR whatever its cause.
            with self._translated(f"run {run_id}", missing=UnusableProfile):
                listed = self._client.list_artifacts(run_id)
            if any(item.path == path for item in listed):
                raise
            message = f"{path} is gone from run {run_id}; restore it, or retrain"
            raise UnusableProfile(message) from exc

    # -- versions

    def create_version(
        self,
        name: str,
        *,
        model_id: str,
        run_id: str | None,
        tags: Mapping[str, str],
        note: str = "",
        model_note: str = "",
    ) -> str:
        """Make a version of a stored model and return its number; the registered model is made where it does not exist.

        note, model_note : descriptions of the version and of the model, in markdown
        """
        with self._translated(f"model {name!r}"):
            self._described_model(name, model_note)
            with external_write("registry.create_model_version"):
                created = self._client.create_model_version(
                    name,
                    f"models:/{model_id}",
                    run_id=run_id,
                    model_id=model_id,
                    tags=packed(tags),
                    description=note or None,
                    await_creation_for=0,
                )
            return str(created.version)

    def delete_version(self, name: str, number: str) -> None:
        """Delete a version; nothing where it is gone."""
        where = f"model {name!r} version {number}"
        with suppress(VersionNotFound), self._translated(where, missing=VersionNotFound):
            self._client.delete_model_version(name, number)

    def version(self, name: str, number: str) -> ModelVersion:
        """Return a version, without metrics. Raises VersionNotFound."""
        if not number.isdecimal():
            message = f"version {number!r} of model {name!r} is no number"
            raise VersionNotFound(message)
        with self._translated(f"model {name!r} version {number}", missing=VersionNotFound):
            return model_version(self._client.get_model_version(name, number))

    def versions(self, name: str, *, tag: tuple[str, str] | None = None) -> list[ModelVersion]:
        """List all versions, or those with a tag, newest first, without metrics; empty where there is no such model."""
        where = f"name = '{_safe(name)}'" + (f" and tags.`{tag[0]}` = '{_safe(tag[1])}'" if tag else "")
        with self._translated(f"model {name!r}"):
            found = self._client.search_model_versions(where)
            aliases = self._aliases(name) if found else {}
        return sorted((model_version(item, aliases) for item in found), key=lambda item: -int(item.version))

    def newest_versions(self, page: str | None) -> tuple[list[ModelVersion], str | None]:
        """Versions of all models without aliases and metrics, newest first, and the next page's token."""
        with self._translated("a search of versions"):
            found = self._client.search_model_versions(
                "", max_results=PAGE, order_by=["creation_timestamp DESC"], page_token=page
            )
        return [model_version(item) for item in found], found.token or None

    def metrics_of(self, run_ids: Sequence[str], *, experiment: str) -> dict[str, Mapping[str, float]]:
        """Metrics by run, in few requests where they are of that experiment; runs that are gone are left out."""
        found: dict[str, Mapping[str, float]] = {}
        # Of an id that names another experiment by now, or none, the search finds nothing.
        with self._translated(f"experiment {experiment!r}"):
            id_ = self._seen_experiments.get(experiment) or self._found_experiment(experiment)
        ids = [id_] if id_ is not None else []
        for start in range(0, len(run_ids) if ids else 0, _BATCH):
            some = ", ".join(f"'{_safe(run_id)}'" for run_id in run_ids[start : start + _BATCH])
            found |= {run.run_id: run.metrics for run in self.runs(ids, f"attributes.run_id IN ({some})")}
        if len(found) < len(set(run_ids)):
            self._seen_experiments.pop(experiment, None)
        for run_id in run_ids:
            if run_id not in found:  # logged to another experiment
                try:
                    found[run_id] = self.run(run_id).metrics
                except RegistryError:
                    continue
        return found

    def set_tag(self, name: str, number: str, key: str, value: str) -> None:
        """Write a version's tag."""
        what = f"model {name!r} version {number}"
        with self._translated(what, missing=VersionNotFound), external_write("registry.set_tag"):
            self._client.set_model_version_tag(name, number, key, value)

    def rewrite_note(self, name: str, number: str, run_id: str | None, rewrite: Callable[[str], str]) -> None:
        """Change a version's description and that of its run, where they are there and it makes a difference."""
        what = f"model {name!r} version {number}"
        with self._translated(what, missing=VersionNotFound), external_write("registry.describe"):
            there = self._client.get_model_version(name, number).description or ""
            if rewrite(there) != there:
                self._client.update_model_version(name, number, description=rewrite(there))
        if run_id is None:
            return
        with suppress(ModelNotFound), self._translated(f"run {run_id}"), external_write("registry.describe_run"):
            there = self._client.get_run(run_id).data.tags.get(NOTE_TAG, "")
            if rewrite(there) != there:
                self._client.set_tag(run_id, NOTE_TAG, rewrite(there))

    def set_stage(self, name: str, number: str, stage: str) -> None:
        """Move one version, and no other: with the archive flag, two concurrent moves leave two in Production."""
        missing = VersionNotFound
        with (
            self._translated(f"model {name!r} version {number}", missing=missing),
            external_write("registry.set_stage"),
        ):
            _transition(self._client, name=name, version=number, stage=stage, archive_existing_versions=False)

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """Point an alias to a version, beside other writers."""
        missing = VersionNotFound
        with (
            self._translated(f"model {name!r} version {number}", missing=missing),
            external_write("registry.set_alias"),
        ):
            try:
                self._client.set_registered_model_alias(name, alias, number)
            except MlflowException as exc:
                if not is_collision(exc.message):
                    raise
                # The server looks for the alias, then writes it: two writers can both find none, or one find what the
                # other is deleting.
                self._client.set_registered_model_alias(name, alias, number)

    def delete_alias(self, name: str, alias: str) -> None:
        """Take an alias away; nothing where there is none."""
        with self._translated(f"model {name!r}"), external_write("registry.delete_alias"):
            self._client.delete_registered_model_alias(name, alias)

    # -- fluent: global to the process, for the documented class only

    @contextmanager
    def fluent_run(
        self, experiment_id: str, *, run_name: str | None, tags: Mapping[str, str] | None, nested: bool
    ) -> Iterator[Any]:
        """MLflow's active run; `mlflow.log_metric` and the like write to it inside the block."""
        with self._translated("a run"):
            mlflow.set_tracking_uri(self.shown_uri)  # it is shown to whoever asks the library
            active = mlflow.start_run(
                experiment_id=experiment_id, run_name=run_name, tags=dict(tags or {}), nested=nested
            )
        with active as run:
            yield run

    def active_run_id(self) -> str | None:
        """The active run, or None."""
        run = mlflow.active_run()
        return str(run.info.run_id) if run else None

    def runs_frame(
        self, experiment_ids: Sequence[str], where: str, *, order_by: Sequence[str] | None, limit: int
    ) -> pd.DataFrame:
        """Runs as MLflow's own frame: run_id, status, metrics.*, params.*, tags.*."""
        with self._translated("a search of runs"):
            mlflow.set_tracking_uri(self.shown_uri)  # it is shown to whoever asks the library
            found: pd.DataFrame = mlflow.search_runs(
                list(experiment_ids), where, order_by=list(order_by) if order_by else None, max_results=limit
            )
        return found

    # -- inside

    def _found_experiment(self, name: str) -> str | None:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return None
        if found.lifecycle_stage == "deleted":
            message = f"experiment {name!r} was deleted in MLflow; restore it there, or name another"
            raise RegistryError(message)
        return str(found.experiment_id)

    def _made_experiment(self, name: str) -> str:
        try:
            return str(self._client.create_experiment(name))
        except MlflowException as exc:
            found = self._found_experiment(name)  # somebody else made it at the same moment
            if exc.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
            return found

    def _describe_experiment(self, experiment_id: str, note: str) -> None:
        """Describe an experiment once per process, and never over what a person wrote."""
        there = self._client.get_experiment(experiment_id).tags
        for key, value in {NOTE_TAG: note, KIND_TAG: KIND}.items():
            if key not in there:
                with external_write("registry.set_experiment_tag"):
                    self._client.set_experiment_tag(experiment_id, key, value)

    def _described_model(self, name: str, note: str) -> None:
        """The registered model, made where it does not exist, and described where nobody has."""
        try:
            self._client.create_registered_model(name, description=note or None)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            if note and not self._client.get_registered_model(name).description:
                self._client.update_registered_model(name, description=note)

    def _aliases(self, name: str) -> dict[str, list[str]]:
        """Aliases by version; a search does not give them."""
        by_version: dict[str, list[str]] = {}
        for alias, number in self._client.get_registered_model(name).aliases.items():
            by_version.setdefault(str(number), []).append(alias)
        return by_version

    @contextmanager
    def _translated(
        self, asked: str, *, missing: type[RegistryError | RegistryUnavailable] = ModelNotFound
    ) -> Iterator[None]:
        try:
            yield
        except MlflowException as exc:
            raise self._error(asked, exc, missing) from exc
        except ImportError as exc:
            message = f"{asked} needs a package that is not installed here: {exc}"
            raise RegistryError(message) from exc
        except (requests.RequestException, ConnectionError, TimeoutError) as exc:
            words = innermost(exc) or without_credentials(str(exc))
            status = exc.response.status_code if isinstance(exc, requests.HTTPError) and exc.response is not None else 0
            told = _own_answer(exc.response) if isinstance(exc, requests.HTTPError) else None
            words = told["message"] if told else words
            if told and told["error_code"] == _CANNOT_KEEP:
                message = f"MLflow at {self.shown_uri} cannot keep or give files ({asked}): {words}"
                raise RegistryError(message) from exc
            if status in _FORBIDDEN.values():
                raise self._forbidden(asked, status, words) from exc
            message = f"MLflow at {self.shown_uri} does not answer ({asked}): {words}"
            raise RegistryUnavailable(message if told or not status else f"{message}; {_BEFORE_IT}") from exc

    def _error(
        self, asked: str, exc: MlflowException, missing: type[RegistryError | RegistryUnavailable]
    ) -> RegistryError | RegistryUnavailable:
        words = innermost(exc) or without_credentials(str(exc.message).splitlines()[0])
        if says_full(exc):
            return RegistryUnavailable(
                f"MLflow at {self.shown_uri} has no room to write ({asked}): {words}; free space on its volume"
            )
        # A request whose answer was lost is sent again, and then its own row is in the way: what it asked for is there,
        # but its answer is not, so the whole is tried again.
        # MLflow calls its database's condition a bad request of ours: no writes for a while, no free connection.
        if exc.error_code in _UNREACHABLE or is_collision(exc.message) or told_may_pass(exc.message):
            return RegistryUnavailable(f"MLflow at {self.shown_uri} does not answer ({asked}): {words}")
        if exc.error_code in _FORBIDDEN:
            return self._forbidden(asked, _FORBIDDEN[exc.error_code], words)
        if not _is_own(exc):
            return RegistryUnavailable(
                f"MLflow at {self.shown_uri} does not answer as MLflow does ({asked}): {words}; {_BEFORE_IT}"
            )
        if exc.error_code == "RESOURCE_DOES_NOT_EXIST":
            return missing(f"{asked} is not in the registry at {self.shown_uri}: {words}")
        return RegistryError(f"MLflow at {self.shown_uri} refuses {asked}: {words}")

    def _forbidden(self, asked: str, status: int, words: str) -> RegistryForbidden:
        """Say as whom it was asked. Temporary: while a password is changed no run may end for good."""
        user = credentials_of(self.tracking_uri).partition(":")[0] or os.environ.get("MLFLOW_TRACKING_USERNAME")
        who = repr(user) if user else "nobody (MLFLOW_TRACKING_USERNAME is not set)"
        if status == HTTPStatus.UNAUTHORIZED:
            found = f"does not know the name or the password it was asked with, as {who}"
            todo = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD as the server has them, and restart this"
        else:
            found = f"does not allow it to {who}"
            todo = "give this process the identity of its role, or correct --allowed-hosts of the server"
        return RegistryForbidden(f"MLflow at {self.shown_uri} {found} ({asked}); {todo}: {words}")


def _is_own(exc: MlflowException) -> bool:
    """Whether MLflow itself said so, the server or the library: a proxy's page has a status and no code of MLflow's."""
    if isinstance(exc, RestException):
        return exc.json.get("error_code") in ErrorCode.keys()  # noqa: SIM118 -- an enumeration of protobuf
    return not str(exc.message).startswith("API request to ")


def _own_answer(response: requests.Response | None) -> Mapping[str, str] | None:
    """Code and message of an answer in MLflow's own form; None of any other."""
    try:
        found = response.json() if response is not None else None
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("error_code") not in ErrorCode.keys():  # noqa: SIM118 -- as above
        return None
    return {name: str(found.get(name, "")) for name in ("error_code", "message")}


def _refuse_others(model: Any) -> None:  # noqa: ANN401 -- whatever a trainer gave
    if not hasattr(model, "save_model"):
        message = f"a model of type {type(model).__name__} cannot be stored; only XGBoost models can"
        raise RegistryError(message)


def _file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _elsewhere(location: str) -> str:
    return (
        f"{without_credentials(location)} is not read: only files that this MLflow serves itself are "
        f"(mlflow-artifacts:/…), since the library sends its password to whatever host another place names; register "
        f"it from a file that this MLflow holds, or train again"
    )


def _safe(value: str) -> str:
    """Return a value for a filter, in which a quote would end the string."""
    if not _SAFE.fullmatch(value):
        message = f"{value!r} cannot be searched for; only letters, digits and _ .:@+/- can"
        raise RegistryError(message)
    return value
