"""The documented client of the model registry, for scripts and notebooks.

    from mlops.mlflow.mlflow_client import ACISMLflowClient

    client = ACISMLflowClient()
    model = client.load_model("models:/acis_growth_classifier/Production")

Importing this is cheap; the mlflow library is loaded at the first call. Versions are `mlops.domain.ports.ModelVersion`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mlops.addresses import credentials_of, without_credentials
from mlops.domain.errors import InvalidStage, NothingConfigured, RegistryError, VersionNotFound
from mlops.domain.policies import model_name_of, strategy_of_model
from mlops.domain.ports import DIGEST_TAG
from mlops.domain.records import ModelIdentity
from mlops.invocation import command_line_actor
from mlops.registry.registry import CHAMPION, EXPERIMENT, MODEL_TAG, STAGES, MlflowRegistry

if TYPE_CHECKING:
    import pandas as pd
    import xgboost as xgb

    from mlops.domain.ports import Ledger, ModelVersion
    from mlops.registry.entities import LoggedRun
    from mlops.registry.gateway import Gateway

_COMPARED_METRICS = ("accuracy", "precision", "recall", "f1_score", "roc_auc")


class OnTransition(Protocol):
    """Puts a version into a stage: by default through the ledger, so that it is recorded and never undone."""

    def __call__(self, *, model_name: str, version: str, stage: str, reason: str) -> None:
        """Put the version into the stage. Raises what the ledger and the registry raise."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoggedModel:
    """A model that `log_model` stored."""

    model_id: str
    model_uri: str
    """URI for `load_model`."""
    run_id: str
    version: str | None
    """Version in the registry; None where it was not registered."""


class ACISMLflowClient:
    """Tracking and registry of one MLflow server. Raises RegistryUnavailable when it does not answer.

    >>> client = ACISMLflowClient()
    >>> client.get_latest_model_version("acis_growth_classifier", "Production").stage
    'Production'
    >>> type(client.load_model("models:/acis_growth_classifier/Production")).__name__
    'XGBClassifier'
    >>> list(client.compare_models(["acis_growth_classifier", "acis_value_classifier"]).columns)
    ['model_name', 'version', 'accuracy', 'precision', 'recall', 'f1_score', 'roc_auc']
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment_name: str = EXPERIMENT,
        *,
        on_transition: OnTransition | None = None,
        n_jobs: int = 1,
        ledger: Ledger | None = None,
    ) -> None:
        """tracking_uri: None for the configured server.

        on_transition: None for the ledger. n_jobs: threads of the models that are loaded.
        ledger: where the digests of model files are recorded and looked up; None for the configured one
        """
        self._ledger = ledger or _configured_ledger()
        owner = None if tracking_uri or self._ledger is None else self._ledger.identity
        uri = tracking_uri or _configured_uri()
        self.tracking_uri = without_credentials(uri)
        user, _, password = credentials_of(uri).partition(":")
        if user:  # the library beside this client signs in by them, and does not show them with its URI
            os.environ.update({"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password})
        self.experiment_name = experiment_name
        self._on_transition = on_transition or self._through_ledger
        self._n_jobs = n_jobs
        self._registry = MlflowRegistry(uri, experiment=experiment_name, n_jobs=n_jobs, owner=owner)

    @property
    def _gateway(self) -> Gateway:
        return self._registry.gateway

    # -- tracking

    @contextmanager
    def start_run(
        self, run_name: str | None = None, tags: Mapping[str, str] | None = None, *, nested: bool = False
    ) -> Iterator[Any]:
        """Run the block in a run; FINISHED at its end, FAILED if it raises. Gives MLflow's own active run."""
        experiment = self._gateway.experiment_id(self.experiment_name)
        with self._gateway.fluent_run(experiment, run_name=run_name, tags=tags, nested=nested) as run:
            yield run

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Write to the active run."""
        self._gateway.log(self._active_run("log_params"), params=params)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Write to the active run."""
        self._gateway.log(self._active_run("log_metrics"), metrics=metrics, step=step)

    def log_model(
        self,
        model: Any,  # noqa: ANN401 -- XGBClassifier
        artifact_path: str | None = None,
        registered_model_name: str | None = None,
        signature: Any = None,  # noqa: ANN401 -- MLflow's
        input_example: Any = None,  # noqa: ANN401 -- frame
        *,
        name: str | None = None,
    ) -> LoggedModel:
        """Store a model with the active run, or with a run of its own, and register it where a name is given.

        `artifact_path` is the former word for `name`.
        """
        if artifact_path is not None and name is not None:
            message = "log_model was given both artifact_path and name; they mean the same, give one"
            raise RegistryError(message)
        run_id = self._gateway.active_run_id()
        if run_id is None:
            with self.start_run(run_name=registered_model_name):
                return self.log_model(model, artifact_path, registered_model_name, signature, input_example, name=name)
        stored = self._gateway.store_model(
            model,
            run_id=run_id,
            name=name or artifact_path or "model",
            signature=signature,
            example=input_example,
        )
        self._record(registered_model_name or stored.model_id, None, stored.sha256, made_by=run_id, reason="log_model")
        self._gateway.log(run_id, tags={"acis.model_id": stored.model_id, "acis.model_sha256": stored.sha256})
        logged = LoggedModel(
            model_id=stored.model_id, model_uri=f"models:/{stored.model_id}", run_id=run_id, version=None
        )
        if registered_model_name is None:
            return logged
        number = self._registered(stored.model_id, stored.sha256, run_id, registered_model_name)
        return LoggedModel(
            model_id=stored.model_id,
            model_uri=f"models:/{registered_model_name}/{number}",
            run_id=run_id,
            version=number,
        )

    def search_runs(
        self, filter_string: str = "", max_results: int = 100, order_by: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Runs of the experiment as MLflow's frame: run_id, status, metrics.*, params.*, tags.*."""
        experiment = self._gateway.experiment_id(self.experiment_name)
        return self._gateway.runs_frame([experiment], filter_string, order_by=order_by, limit=max_results)

    def get_best_run(self, metric: str = "accuracy", *, maximize: bool | None = None) -> LoggedRun | None:
        """The finished run with the best value; None where no run has the metric.

        maximize: None for what the metric's name says (log_loss, brier and max_drawdown are minimised).
        """
        from mlops.domain.training.metrics import LOWER_IS_BETTER  # noqa: PLC0415 -- numpy and scipy on use

        direction = "ASC" if (metric in LOWER_IS_BETTER if maximize is None else not maximize) else "DESC"
        experiment = self._gateway.experiment_id(self.experiment_name)
        found = self._gateway.runs(
            [experiment], "attributes.status = 'FINISHED'", order_by=[f"metrics.`{metric}` {direction}"], limit=1
        )
        return found[0] if found and metric in found[0].metrics else None

    def get_model_artifacts(self, run_id: str) -> list[str]:
        """Paths of the run's files; MLflow keeps the model's own apart, here they are under `model/`."""
        return self._gateway.artifacts(run_id)

    # -- registry

    def register_model(self, model_uri: str, name: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
        """Register a new version of a stored model: `models:/m-…` or `runs:/RUN/model`.

        Whose digest is not recorded yet is recorded with what lies there now: you say that it is what you want.
        Raises UnusableModelFile where its run made another file.
        """
        model_id, run_id, sha256, _ = self._stored(model_uri, is_new=True)
        number = self._registered(model_id, sha256, run_id, name, tags)
        return self._registry.version(name, number)

    def transition_model_stage(
        self,
        name: str,
        version: str | int,
        stage: str,
        archive_existing: bool = True,  # noqa: FBT001, FBT002 -- the documented signature
        *,
        reason: str = "",
    ) -> ModelVersion:
        """Put a version into None, Staging, Production or Archived; recorded in the ledger with `reason`.

        A model has one Production version. `archive_existing=False` is refused where it would leave two.
        """
        if stage not in STAGES:
            message = f"stage {stage!r} is not known; one of: {', '.join(STAGES)}"
            raise InvalidStage(message)
        number = str(version)
        self._registry.version(name, number)
        others = [
            item.version
            for item in (self._registry.versions(name) if stage in ("Staging", "Production") else [])
            if item.stage == stage and item.version != number
        ]
        if others and stage == "Production" and not archive_existing:
            message = (
                f"version {others[0]} of {name!r} is in Production; a model has one Production version, "
                f"so archive_existing=False cannot be done"
            )
            raise RegistryError(message)
        why = reason or "transition_model_stage"
        self._on_transition(model_name=name, version=number, stage=stage, reason=why)
        if stage == "Staging" and archive_existing:
            for other in others:
                self._on_transition(
                    model_name=name, version=other, stage="Archived", reason=f"{why}: replaced by {number}"
                )
        return self._registry.version(name, number)

    def get_latest_model_version(self, name: str, stage: str | None = None) -> ModelVersion | None:
        """The version in a stage, or the newest of all; None where there is none.

        Production is the ledger's champion, whatever MLflow shows; without a ledger, and for Staging, the alias counts.
        """
        if stage is not None and stage not in STAGES:
            message = f"stage {stage!r} is not known; one of: {', '.join(STAGES)}"
            raise InvalidStage(message)
        versions = self._registry.versions(name)
        strategy = strategy_of_model(name)
        if stage == "Production" and self._ledger is not None and model_name_of(strategy) == name:
            champion = self._ledger.champion(strategy)
            return next((item for item in versions if item.version == champion.version), None)
        if stage is None:
            return versions[0] if versions else None
        alias = {"Production": "champion", "Staging": "challenger"}.get(stage)
        aliased = next((item for item in versions if alias in item.aliases), None)
        return aliased or next((item for item in versions if item.stage == stage), None)

    def load_model(self, model_uri: str) -> xgb.XGBClassifier:
        """Load the classifier of `models:/NAME/Production` (any stage), `models:/NAME/3`, `models:/NAME@champion`.

        Also of a model that is not registered: `models:/m-…`, `runs:/RUN/model`. An infinity is missing for it, as in
        training. Raises UnusableModelFile where the file has not the digest that the ledger recorded.
        """
        name, wanted = _parsed(model_uri)
        if wanted is None:
            from mlops.registry.model_file import classifier_of  # noqa: PLC0415 -- loads XGBoost

            _, _, sha256, content = self._stored(model_uri)
            return classifier_of(content, name=f"of {model_uri}", expected_sha256=sha256, n_jobs=self._n_jobs)
        number = self._number(name, wanted)
        sha256 = self._ledger.recorded_model(name, number).sha256 if self._ledger is not None else None
        return self._registry.load_classifier(name, number, sha256=sha256)

    def compare_models(self, model_names: Sequence[str], stage: str = "Production") -> pd.DataFrame:
        """Compare the models with a version in the stage: one row each with model_name, version and its metrics."""
        import pandas as pd  # noqa: PLC0415 -- importing this module is cheap

        rows = []
        for name in model_names:
            found = self.get_latest_model_version(name, stage)
            if found is not None:
                scores = {metric: found.metrics.get(metric) for metric in _COMPARED_METRICS}
                rows.append({"model_name": name, "version": int(found.version), **scores})
        return pd.DataFrame(rows, columns=["model_name", "version", *_COMPARED_METRICS])

    # -- inside

    def _active_run(self, asked: str) -> str:
        run_id = self._gateway.active_run_id()
        if run_id is None:
            message = f"{asked} needs a run; write `with client.start_run(): client.{asked}(…)`"
            raise RegistryError(message)
        return run_id

    def _registered(
        self, model_id: str, sha256: str | None, run_id: str | None, name: str, tags: Mapping[str, str] | None = None
    ) -> str:
        marks = {MODEL_TAG: model_id} | ({DIGEST_TAG: sha256} if sha256 else {})
        number = self._gateway.create_version(name, model_id=model_id, run_id=run_id, tags={**(tags or {}), **marks})
        if sha256 is not None:
            self._record(name, number, sha256, made_by=run_id or model_id, reason="registered by ACISMLflowClient")
        return number

    def _record(self, name: str, number: str | None, sha256: str, *, made_by: str, reason: str) -> None:
        if self._ledger is not None:
            identity = ModelIdentity(sha256=sha256, made_by=made_by)
            self._ledger.record_model_file(name, number, identity, actor=command_line_actor(), reason=reason)

    def _stored(self, uri: str, *, is_new: bool = False) -> tuple[str, str | None, str | None, bytes]:
        """Id, run, digest by the ledger (None where it has none) and content of a stored model's file.

        is_new : where the ledger has none of its run, what lies there now counts
        """
        model_id, run_id, ledger_run_id = self._gateway.stored_model(uri)
        with tempfile.TemporaryDirectory(prefix="acis-load-") as folder:
            content = self._gateway.download_logged_model(f"models:/{model_id}", folder).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        made_by = ledger_run_id or run_id or model_id
        known = self._ledger.noted_model_files(made_by) if self._ledger is not None else frozenset()
        if found in known or (is_new and not known):
            return model_id, run_id, found, content
        if is_new:
            from mlops.registry.model_file import verify_digest  # noqa: PLC0415 -- loads XGBoost

            verify_digest(content, min(known), name=f"of {uri}")
        return model_id, run_id, min(known, default=None), content

    def _number(self, name: str, wanted: str) -> str:
        if wanted.isdecimal():
            return wanted
        wanted = "Production" if wanted == CHAMPION else wanted
        stage = next((item for item in STAGES if item.lower() == wanted.lower()), None)
        if stage is not None:
            found = self.get_latest_model_version(name, stage)
        elif wanted == "latest":
            found = self.get_latest_model_version(name)
        else:
            found = next((item for item in self._registry.versions(name) if wanted in item.aliases), None)
        if found is None:
            message = (
                f"model {name!r} has no version {wanted!r} in MLflow at {self._gateway.shown_uri}; train or promote one"
            )
            raise VersionNotFound(message)
        return found.version

    def _through_ledger(self, *, model_name: str, version: str, stage: str, reason: str) -> None:
        from mlops.registry.projection import record_and_show  # noqa: PLC0415

        if self._ledger is None:
            message = "a transition is recorded in the ledger, and none is configured; set DATABASE_URL"
            raise NothingConfigured(message)
        record_and_show(
            self._ledger, self._registry, model_name=model_name, version=version, stage=stage, reason=reason
        )


def _configured_uri() -> str:
    from config.settings import load_settings  # noqa: PLC0415 -- not needed where a URI is given

    found = load_settings().mlflow_tracking_uri
    if found is None:
        message = (
            "MLFLOW_TRACKING_URI is not set and no server is running; start everything with `make run`, "
            "or set MLFLOW_TRACKING_URI to a server of yours"
        )
        raise NothingConfigured(message)
    return found.get_secret_value()


def _configured_ledger() -> Ledger | None:
    """Open the configured ledger, where there is one."""
    from config.settings import load_settings  # noqa: PLC0415 -- as above
    from tasks.services import connect  # noqa: PLC0415 -- opened on first use

    settings = load_settings()
    return connect(settings).ledger if settings.database_url is not None else None


def _parsed(uri: str) -> tuple[str, str | None]:
    """Name and version, stage or alias; None for a URI that names a stored model itself."""
    scheme, _, rest = uri.partition(":/")
    rest = rest.strip("/")
    if scheme == "models" and "@" in rest:
        name, _, alias = rest.partition("@")
        return name.rstrip("/"), alias
    if scheme == "models" and "/" in rest:
        name, _, wanted = rest.partition("/")
        return name, wanted
    if scheme in ("models", "runs"):
        return "", None
    message = f"model URI {uri!r} is not known; write models:/NAME/Production, models:/NAME/3 or models:/NAME@champion"
    raise RegistryError(message)
