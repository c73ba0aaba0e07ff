"""The whole system with everything twice or thrice, on servers that can be broken, and strategies to load it with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import redis
from pydantic import SecretStr
from sqlalchemy import Engine, NullPool, create_engine, make_url, text

from config.roles import ACCESS, FEATURES_USER, SECRETS
from config.settings import Settings
from devstack.mlflow import mlflow_url
from mlops.bootstrap import Services
from mlops.failpoints import VARIABLE as FAILPOINTS_VARIABLE
from mlops.ledger.grants import let_features_be_read
from mlops.ledger.schema import migrate
from tasks.services import connect
from tests.chaos.servers import Servers, run_servers, through
from tests.support.features import RELATION, postgres_table
from tests.support.processes import Roles, environment_of
from tests.support.services import panel
from tests.support.volumes import SmallVolume, small_volume, why_no_volume
from tests.support.waiting import wait_for
from worker.routing import ROLES as WORKERS

VOLUME_MB = 2000
"""An upper bound: PostgreSQL's log grows to 1 GB in a long run."""

LOADED = tuple(f"s{number}" for number in range(1, 9))
"""Strategies of the load: half of them replace their champion at every training."""
LONG, LONG_ROUNDS = "long", 2000
"""Some seconds of boosting, twin and refit, so that something can happen in its middle."""
POISON = {"killed": "Killed", "gone": "Gone", "greedy": "Greedy", "hung": "Hung"}
"""Strategies by the trainer that ends or hangs its process."""
PICKY = "picky"
"""A strategy whose champion keeps its first number: the others' trainings are refused by a gate that they are given."""
CANARY, BEATEN = "canary", ("beaten1", "beaten2")

ROLES: tuple[tuple[str, ...], ...] = (
    ("control", "a"),
    ("drift", "a"),
    ("train.cpu", "a"),
    ("train.cpu", "b"),
    ("promote", "a"),
    *(("beat", name) for name in "abc"),
    *(("reconciler", name) for name in "ab"),
)

_STRATEGIES = """
[defaults.data]
as_of = "latest"
min_current_rows = 40
[defaults.drift]
rule = "raw"
[defaults.training]
horizon_dates = 5
training_days = 200
holdout_dates = 20
embargo_dates = 0
segment_rounds = 20
params = { n_estimators = 300, max_depth = 3, subsample = 0.8 }
device = "cpu"
[defaults.promotion]
min_accuracy = 0.5
[defaults.schedule]
drift_check = ""
retrain = ""
spread_minutes = 0
[defaults.execution]
# What a fault costs is an attempt; a run of the load must not die of the faults of others.
max_attempts = 100
"""


def strategies_file() -> str:
    """The strategies, as a file's text."""
    parts = [_STRATEGIES]
    for place, name in enumerate(LOADED):
        parts.append(
            f'[strategies.{name}]\n[strategies.{name}.promotion]\ncomparison = "{["gates", "paired"][place % 2]}"'
        )
    parts += [f"[strategies.{name}]" for name in (CANARY, PICKY)]
    parts.append(
        f"[strategies.{LONG}]\n[strategies.{LONG}.training]\nsegment_rounds = 100\n"
        f"params = {{ n_estimators = {LONG_ROUNDS}, max_depth = 3, subsample = 0.8 }}"
    )
    for name, trainer in POISON.items():
        parts.append(
            f'[strategies.{name}]\n[strategies.{name}.training]\ntrainer = "tests.support.poison:{trainer}"\n'
            f"[strategies.{name}.execution]\nmax_attempts = {1 if name == 'hung' else 3}\ntrain_deadline_s = 8"
        )
    parts += [f'[strategies.{name}]\n[strategies.{name}.schedule]\ndrift_check = "* * * * *"' for name in BEATEN]
    return "\n".join(parts)


def features() -> pa.Table:
    """A small panel for each strategy; the last days of all but the canary's are shifted, so that they drift."""
    tables = [panel(name, shift=3.0, seed=place) for place, name in enumerate((*LOADED, *BEATEN, PICKY))]
    return pa.concat_tables([*tables, *(panel(name, seed=99) for name in (CANARY, LONG, *POISON))])


@dataclass(frozen=True, kw_only=True)
class ChaosSystem:
    """What a test of faults sees and holds."""

    folder: Path
    place: Path
    """Where all of it writes: the small volume, where there is one, else the folder."""
    volume: SmallVolume | None
    servers: Servers
    settings: Settings
    """Of the system by way of the proxies, with the users that the test's own have: no role is given these."""
    roles: Roles
    emptied: list[datetime] = field(default_factory=list)
    """When the registry lost versions, by the ledger's clock"""
    clock_away: list[tuple[datetime, datetime]] = field(default_factory=list)
    """From when to when PostgreSQL's clock was another, by the true one"""
    restored_age_s: float = 8.0
    """How old the backup is that the ledger is restored from; three minutes in the long suite."""

    @cached_property
    def services(self) -> Services:
        """Adapters of this process, straight to the servers."""
        return connect(direct(self.settings, self.servers))

    @cached_property
    def engine(self) -> Engine:
        """For questions about the ledger's tables."""
        return create_engine(self.servers.database_url, pool_pre_ping=True)

    @cached_property
    def mlflow_engine(self) -> Engine:
        """MLflow's own tables."""
        url = make_url(self.servers.mlflow_postgres.server_url).set(database="mlflow")
        return create_engine(url, pool_pre_ping=True, poolclass=NullPool)

    def rows(self, query: str, **values: Any) -> list[Any]:
        """Rows of a query about the ledger."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(query), values))

    def redis_client(self) -> redis.Redis:
        """Straight to Redis."""
        return redis.Redis.from_url(self.servers.redis_url, decode_responses=True)

    @property
    def failpoints(self) -> Path:
        """The folder whose files arm failpoints."""
        return self.folder / "failpoints"

    def is_ready(self) -> bool:
        """Every worker answers, and it is the process that runs now: one that was killed is remembered for a while."""
        wanted = {(role.name, role.pid) for role in self.roles.all if role.arguments[0] in WORKERS}
        seen = self.services.ledger.workers(within_s=self.settings.reconcile_s * 5)
        return wanted <= {(worker.name.partition("@")[0], worker.pid) for worker in seen}


def direct(settings: Settings, servers: Servers) -> Settings:
    """The same settings without the proxies."""
    return settings.model_copy(
        update={
            "database_url": SecretStr(servers.database_url),
            "celery_broker_url": SecretStr(servers.redis_url),
            "celery_result_backend": SecretStr(servers.redis_url),
            "mlflow_tracking_uri": SecretStr(servers.mlflow_url),
            "feature_source": SecretStr(servers.features_url),
        }
    )


def own_environment(role: str, settings: Settings, servers: Servers) -> dict[str, str]:
    """Variables with secrets of a kind of role, as `config.roles.ACCESS` has them: its own users, by way of the proxies."""
    access, made = ACCESS[role], servers.secrets
    found = {name: value for name, value in environment_of(settings).items() if name in access.own}
    if access.database is not None:
        found["DATABASE_URL"] = _as_user(settings.database_url, access.database, made.database_passwords)
    if access.features:
        found["ACIS_FEATURE_SOURCE"] = _as_user(settings.feature_source, FEATURES_USER, made.database_passwords)
    if access.redis is not None:
        broker = _as_user(settings.celery_broker_url, access.redis, made.redis_passwords)
        found |= {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": broker}
    if access.mlflow is not None:
        found["MLFLOW_TRACKING_URI"] = mlflow_url(servers.mlflow_proxy.port)
        found["MLFLOW_TRACKING_USERNAME"] = access.mlflow
        found["MLFLOW_TRACKING_PASSWORD"] = made.mlflow_passwords[access.mlflow]
    return found


def _as_user(url: SecretStr | None, user: str, passwords: Mapping[str, str]) -> str:
    assert url is not None
    changed = make_url(url.get_secret_value()).set(username=user, password=passwords[user])
    return changed.render_as_string(hide_password=False)


@contextmanager
def run_system(
    *,
    lease_s: float = 5.0,
    renew_s: float = 1.0,
    reconcile_s: float = 1.0,
    roles: tuple[tuple[str, ...], ...] = ROLES,
    restored_age_s: float = 8.0,
    **more: Any,
) -> Iterator[ChaosSystem]:
    """Servers, data and roles until the block ends; then nothing of them is left.

    Each role has the users and the secrets that `config.roles.ACCESS` gives it.     more : further settings
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acis-chaos-")))
        folder.chmod(0o711)  # PostgreSQL's account must reach what is below
        volume, place = None, folder
        if why_no_volume() is None:
            volume = stack.enter_context(small_volume(folder / "volume", megabytes=VOLUME_MB))
            place = volume.mount
        servers = stack.enter_context(run_servers(place))
        migrate(servers.database_url)
        postgres_table(features(), servers.features_url)
        assert let_features_be_read(servers.features_url, RELATION)
        strategies = folder / "strategies.toml"
        strategies.write_text(strategies_file())
        settings = Settings(
            database_url=SecretStr(through(servers.database_url, servers.postgres_proxy)),
            feature_source=SecretStr(through(servers.features_url, servers.postgres_proxy)),
            celery_broker_url=SecretStr(through(servers.redis_url, servers.redis_proxy)),
            celery_result_backend=SecretStr(through(servers.redis_url, servers.redis_proxy)),
            mlflow_tracking_uri=SecretStr(through(servers.mlflow_url, servers.mlflow_proxy)),
            strategies_file=strategies,
            var_dir=place / "var",
            report_dir=place / "reports",
            lease_s=lease_s,
            renew_s=renew_s,
            reconcile_s=reconcile_s,
            checkpoint_every_s=0.0,
            drift_concurrency=1,
            train_n_jobs=1,
            **more,
        )
        (place / "reports").mkdir()
        (folder / "failpoints").mkdir()
        shared = {name: value for name, value in environment_of(settings).items() if name not in SECRETS}
        environment = shared | {FAILPOINTS_VARIABLE: str(folder / "failpoints")}
        own = {role: own_environment(role, settings, servers) for role, *_ in roles}
        running = stack.enter_context(Roles(list(roles), environment, place / "log", own=own))
        system = ChaosSystem(
            folder=folder,
            place=place,
            volume=volume,
            servers=servers,
            settings=settings,
            roles=running,
            restored_age_s=restored_age_s,
        )
        stack.callback(system.engine.dispose)
        stack.callback(system.services.ledger.close)
        wait_for(system.is_ready, "all workers answer", within_s=90.0)
        yield system


def left_processes(folder: Path) -> list[str]:
    """Processes that belong to the system of the folder, after it should be gone."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join([*process.cmdline(), *process.environ().values()]):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue  # gone meanwhile, or somebody else's
    return found
