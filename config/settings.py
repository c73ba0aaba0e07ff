"""Every setting of the system, typed and frozen; read once at a process's edge.

Order: environment, then the files of ACIS_SECRETS_DIR, then the servers that `make run` announces in
`var/run/endpoints.json` while it serves, then the defaults below. An `ACIS_*` variable that is not listed here is
refused, so a misspelt one cannot be taken in silence; one that a newer version has recorded in ACIS_KNOWN_VARIABLES is
left aside with a warning, so that this version starts in the newer one's environment (docs/decisions/0027). Nothing
below the edge reads this: functions receive the values that they use.
"""

from __future__ import annotations

import difflib
import logging
import os
import tempfile
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.endpoints import PROGRAMS_VARIABLE, read_endpoints
from config.secret_files import VARIABLE as SECRETS_VARIABLE
from config.secret_files import read_secret_files

ROOT = Path(__file__).resolve().parents[1]
"""The repository's root: packages are run from it, never installed elsewhere."""


log = logging.getLogger(__name__)

_RECORD = "ACIS_KNOWN_VARIABLES"


class SettingsError(ValueError):
    """A variable of the environment is not known or not valid."""


class _RunningServers(PydanticBaseSettingsSource):
    """Values that a running `make run` announces."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002, ANN401 -- the base class's signature
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        if PROGRAMS_VARIABLE in os.environ:
            return {}  # a program of the stack itself: its environment holds what its role may know
        announced = read_endpoints(Path(os.environ.get("ACIS_VAR_DIR") or ROOT / "var"))
        return {name: value for name, value in (announced.settings() if announced else {}).items() if value}


class Settings(BaseSettings):
    """The system's settings. Secrets have no default and are never printed."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        # What is refused about two values together would be quoted with all of them, secrets too.
        hide_input_in_errors=True,
    )

    # ---- servers: the documented variables
    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    """Features and ledger, e.g. `postgresql://user:password@host/db`."""
    celery_broker_url: SecretStr | None = Field(None, validation_alias="CELERY_BROKER_URL")
    """Redis that carries the messages, e.g. `redis://:<password>@host:6379/0`."""
    celery_result_backend: SecretStr | None = Field(None, validation_alias="CELERY_RESULT_BACKEND")
    """Redis that keeps the outcomes; unset: the broker's."""
    mlflow_tracking_uri: SecretStr | None = Field(None, validation_alias="MLFLOW_TRACKING_URI")
    """MLflow server, e.g. `http://localhost:5000`; it may hold `user:password@`."""
    mlflow_artifact_root: str | None = Field(None, validation_alias="MLFLOW_ARTIFACT_ROOT")
    """Where the MLflow server that we start keeps artifacts: a folder, or `s3://bucket/prefix`."""
    mlflow_tracking_username: str | None = Field(None, validation_alias="MLFLOW_TRACKING_USERNAME")
    """Basic authentication at the MLflow server; read by the mlflow library itself."""
    mlflow_tracking_password: SecretStr | None = Field(None, validation_alias="MLFLOW_TRACKING_PASSWORD")
    """Its password; read by the mlflow library itself."""
    mlflow_tracking_server_cert_path: str | None = Field(None, validation_alias="MLFLOW_TRACKING_SERVER_CERT_PATH")
    """File of the authority that signed the certificate of an `https://` MLflow; read by the mlflow library itself."""
    mlflow_s3_endpoint_url: str | None = Field(None, validation_alias="MLFLOW_S3_ENDPOINT_URL")
    """S3 that is not Amazon's, as `http://minio:9000`; of checkpoints, too."""
    aws_endpoint_url: str | None = Field(None, validation_alias="AWS_ENDPOINT_URL")
    """The same, for all programs that speak S3; MLFLOW_S3_ENDPOINT_URL wins. Read by boto3 itself."""
    aws_access_key_id: SecretStr | None = Field(None, validation_alias="AWS_ACCESS_KEY_ID")
    """For `s3://` artifacts and checkpoints; read by boto3 itself, as all other ways of giving it credentials are."""
    aws_secret_access_key: SecretStr | None = Field(None, validation_alias="AWS_SECRET_ACCESS_KEY")
    """For `s3://`; read by boto3 itself."""
    aws_session_token: SecretStr | None = Field(None, validation_alias="AWS_SESSION_TOKEN")
    """For `s3://`, of keys that run out; read by boto3 itself."""
    aws_default_region: str | None = Field(None, validation_alias="AWS_DEFAULT_REGION")
    """For `s3://`; read by boto3 itself."""
    flower_basic_auth: SecretStr | None = Field(None, validation_alias="FLOWER_BASIC_AUTH")
    """`user:password` of Flower; Flower does not start without it."""

    # ---- places
    var_dir: Path = Field(ROOT / "var", validation_alias="ACIS_VAR_DIR")
    """Everything that `make run` writes: servers' data, logs, secrets. `make clean` removes it."""
    secrets_dir: Path | None = Field(None, validation_alias=SECRETS_VARIABLE)
    """Folder with a file for each secret, named as its variable, as containers mount them; a variable that is set wins.
    Unset: secrets are variables alone."""
    strategies_file: Path = Field(ROOT / "config" / "strategies.toml", validation_alias="ACIS_STRATEGIES_FILE")
    """The strategies with their policies."""
    feature_source: SecretStr | None = Field(None, validation_alias="ACIS_FEATURE_SOURCE")
    """Features from elsewhere than DATABASE_URL: another database, a Parquet file or folder, or
    `package.module:function` of a source of one's own (examples/feature_source.py)."""
    feature_relation: str = Field("ml_training_features", validation_alias="ACIS_FEATURE_RELATION")
    """Table or view that holds the features."""
    feature_time_zone: str = Field("UTC", validation_alias="ACIS_FEATURE_TIME_ZONE")
    """Where a timestamp of the features has its day, e.g. `America/New_York`, whatever a database's own zone is; plain
    dates need none."""
    report_dir: Path = Field(Path(tempfile.gettempdir()), validation_alias="ACIS_REPORT_DIR")
    """Where drift reports are written as files; the documented place is the temporary folder."""
    servers: Literal["auto", "embedded"] = Field("auto", validation_alias="ACIS_SERVERS")
    """`auto`: servers found on the machine before those that wheels carry; `embedded`: the wheels' only."""

    # ---- the ledger's clockwork
    lease_s: float = Field(60.0, ge=3, validation_alias="ACIS_LEASE_S")
    """A stage whose worker is silent for so long may be taken by another; at least 3 renewals."""
    renew_s: float = Field(10.0, gt=0, validation_alias="ACIS_RENEW_S")
    """Seconds between two renewals of a lease; 5 to 15."""
    reconcile_s: float = Field(30.0, gt=0, validation_alias="ACIS_RECONCILE_S")
    """Seconds between two passes of the reconciler."""

    patience_s: float = Field(600.0, ge=0, validation_alias="ACIS_PATIENCE_S")
    """How long a command that follows a run waits for a PostgreSQL that is away; long enough for a restart that
    recovers, or a volume that moves to another node. Before its run is accepted at most 30 s."""

    # ---- checkpoints
    checkpoint_url: str | None = Field(None, validation_alias="ACIS_CHECKPOINT_URL")
    """Where boosters of unfinished trainings are kept, so that another worker goes on with them: a folder that all
    training workers share, or `s3://bucket/prefix`; unset: `checkpoints` in ACIS_VAR_DIR."""
    checkpoint_every_s: float = Field(10.0, ge=0, validation_alias="ACIS_CHECKPOINT_EVERY_S")
    """Least time between two checkpoints of a training; what a killed worker costs is this and a segment of rounds."""

    # ---- how long things are kept, in days
    keep_runs_days: float = Field(365.0, gt=0, validation_alias="ACIS_KEEP_RUNS_DAYS")
    """Ended runs without a drift report and without a promotion (those that have one stay as long as that), and what a
    scoring said beside the days' scores, but for each strategy's newest."""
    keep_reports_days: float | None = Field(None, gt=0, validation_alias="ACIS_KEEP_REPORTS_DAYS")
    """Drift reports, in the ledger and as files; unset: for ever. Promotions are never removed."""
    keep_dead_days: float = Field(7.0, gt=0, validation_alias="ACIS_KEEP_DEAD_DAYS")
    """Checkpoints and trials of dead runs, which `acis requeue` goes on from."""
    keep_predictions_days: float = Field(730.0, gt=0, validation_alias="ACIS_KEEP_PREDICTIONS_DAYS")
    """Predictions, by whole months: after so long since their date and since they were made. What they were worth, by
    day, stays."""

    # ---- workers
    drift_concurrency: int = Field(0, ge=0, validation_alias="ACIS_DRIFT_CONCURRENCY")
    """Drift checks at once in one worker; 0: one per core."""
    train_concurrency: int = Field(1, ge=1, validation_alias="ACIS_TRAIN_CONCURRENCY")
    """Trainings at once in one worker."""
    train_n_jobs: int = Field(0, ge=0, validation_alias="ACIS_TRAIN_N_JOBS")
    """Threads of one training; 0: cores / concurrency. More than the free cores is ten times slower."""
    flower_port: int = Field(5555, ge=0, le=65535, validation_alias="ACIS_FLOWER_PORT")
    """Port of Flower's page."""
    flower_host: str = Field("127.0.0.1", validation_alias="ACIS_FLOWER_HOST")
    """Address that Flower listens on; in a container `0.0.0.0`."""
    admin_auth: SecretStr | None = Field(None, validation_alias="ACIS_ADMIN_AUTH")
    """`user:password` of the admin page's first operator, made where there is no user at all; later ones are made on
    the page or with `acis users`, and the password is changed on the page."""
    admin_port: int = Field(3000, ge=0, le=65535, validation_alias="ACIS_ADMIN_PORT")
    """Port of the admin page."""
    admin_host: str = Field("127.0.0.1", validation_alias="ACIS_ADMIN_HOST")
    """Address that the admin page listens on; in a container `0.0.0.0`."""
    admin_proxies: str | None = Field(None, validation_alias="ACIS_ADMIN_PROXIES")
    """Addresses of reverse proxies, comma between them, whose `X-Forwarded-*` the admin page believes: the visitor's
    address, and https, without which its cookies are not marked secure. Unset: nobody's."""
    admin_url: str | None = Field(None, validation_alias="ACIS_ADMIN_URL")
    """Where people reach the admin page, as `https://host/admin`, for the links of MLflow's descriptions; unset: they
    name the run's id."""
    flower_url: str | None = Field(None, validation_alias="ACIS_FLOWER_URL")
    """Where people reach Flower, for the admin page's links; unset: it links to no task."""
    mlflow_url: str | None = Field(None, validation_alias="ACIS_MLFLOW_URL")
    """Where people reach MLflow, for the admin page's links; unset: MLFLOW_TRACKING_URI."""

    # ---- models in use
    serve_port: int = Field(8080, ge=0, le=65535, validation_alias="ACIS_SERVE_PORT")
    """Port of the prediction service."""
    serve_host: str = Field("127.0.0.1", validation_alias="ACIS_SERVE_HOST")
    """Address that the prediction service listens on; in a container `0.0.0.0`."""
    spool_bytes: int = Field(256 * 1024 * 1024, ge=1024 * 1024, validation_alias="ACIS_SPOOL_BYTES")
    """Predictions that wait on this machine's disk for a ledger that is away, of one process; 140 bytes of a row that
    is asked for alone, 25 of one among many, so the default holds two million and more. When it is full, questions are
    refused until the ledger is back."""

    # ---- releases
    known_variables: str | None = Field(None, validation_alias="ACIS_KNOWN_VARIABLES")
    """Names of all `ACIS_*` variables that the release which this environment was made for knows, comma between them:
    an older worker in it goes on without those that it does not know. The release's own manifests set it."""

    # ---- logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", validation_alias="ACIS_LOG_LEVEL")
    """Least severe level that is written."""
    log_format: Literal["console", "json"] = Field("console", validation_alias="ACIS_LOG_FORMAT")
    """`json` in containers: one object a line."""
    access_log: bool = Field(default=True, validation_alias="ACIS_ACCESS_LOG")
    """Whether the admin page and the prediction service write a line of JSON for each request, without secrets."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- the base class's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- the base class's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit arguments, environment, running servers."""
        return init_settings, env_settings, _RunningServers(settings_cls)

    @field_validator("feature_time_zone")
    @classmethod
    def _is_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, ZoneInfoNotFoundError) as exc:
            message = f"{name!r} is no time zone; write one like UTC, America/New_York or Asia/Tokyo"
            raise ValueError(message) from exc
        return name

    @model_validator(mode="after")
    def _lease_outlasts_missed_renewals(self) -> Self:
        # Writes end at 3/4 of a silent lease, and one renewal may fail: 2 of 3 intervals are below that.
        if self.renew_s * 3 > self.lease_s:
            message = (
                f"ACIS_RENEW_S ({self.renew_s:g} s) must be at most a third of ACIS_LEASE_S ({self.lease_s:g} s), "
                "else a stage that works is taken for dead"
            )
            raise ValueError(message)
        return self

    @property
    def result_backend_url(self) -> SecretStr | None:
        """Where outcomes are kept."""
        return self.celery_result_backend or self.celery_broker_url

    @property
    def checkpoint_place(self) -> str:
        """URL or folder of the checkpoints."""
        return self.checkpoint_url or str(self.var_dir / "checkpoints")

    @property
    def feature_url(self) -> SecretStr | None:
        """Where features are read."""
        return self.feature_source or self.database_url


def variables() -> dict[str, str]:
    """Names of the environment's variables and the fields that they set."""
    return {str(field.validation_alias): name for name, field in Settings.model_fields.items()}


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. Raises SettingsError for an unknown or invalid variable."""
    given = os.environ if environ is None else environ
    recorded = {name.strip() for name in given.get(_RECORD, "").split(",")}
    known = variables()
    unknown = [name for name in given if name.startswith("ACIS_") and name not in known]
    for name in unknown:
        if name not in recorded:
            raise SettingsError(_unknown(name, {*known, *recorded}))
    if unknown:
        _warn_of_newer(tuple(sorted(unknown)))
    try:
        read_secret_files(os.environ)
    except ValueError as exc:
        raise SettingsError(str(exc)) from exc
    try:
        return Settings()
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        words = first["msg"].removeprefix("Value error, ")
        message = f"environment variable {first['loc'][0]} is not valid: {words}" if first["loc"] else words
        raise SettingsError(message) from exc


def _unknown(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    ours = ", ".join(known_name for known_name in variables() if known_name.startswith("ACIS_"))
    hint = f"did you mean {near[0]}?" if near else f"known are {ours}"
    return f"environment variable {name} is not known; {hint} (where a newer version knows it, add it to {_RECORD})"


@cache
def _warn_of_newer(names: tuple[str, ...]) -> None:
    """Once a process, however often its settings are read."""
    log.warning(
        "settings.newer_variables %s: a newer version's, by %s; this version goes on without them, "
        "and upgrading it makes them count",
        ", ".join(names),
        _RECORD,
    )
