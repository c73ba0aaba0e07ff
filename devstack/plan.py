"""What a stack consists of: which servers are ours, their programs, and the URLs that everybody uses."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.roles import ACCESS, FEATURES_USER, MLFLOW_USER, Access, may_have
from devstack.account import make_home, server_account
from devstack.layout import Layout, Ports
from devstack.mlflow import mlflow_program, mlflow_url
from devstack.postgres import (
    DATABASE,
    MLFLOW_DATABASE,
    find_installation,
    init_cluster,
    postgres_program,
    postgres_url,
    reachable,
    write_access_rules,
)
from devstack.process import VAR_VARIABLE, Program
from devstack.redis import Origin, find_server, redis_program, redis_url, write_config
from devstack.secrets import Secrets

# ---- Our own processes as programs of the stack: workers, beat, reconciler, Flower, admin page, predictions

ROLES = ("control", "drift", "train.cpu", "promote", "beat", "reconciler", "flower", "admin", "serve")
"""What `python -m worker ROLE` is started as; `train.gpu` is added where there is a GPU."""

_NOT_WORKERS = frozenset({"beat", "reconciler", "flower", "admin", "serve"})
#: A drain takes up to 15 s; the prediction service brings its log to the ledger.
_STOP_WAIT_S = {"serve": 15}


def _program_name(role: str) -> str:
    """`worker-train-cpu` for the role `train.cpu`, `beat` for `beat`."""
    return role if role in _NOT_WORKERS else f"worker-{role.replace('.', '-')}"


def role_of(program: str) -> str:
    """The role of a program's name: `train.cpu` for `worker-train-cpu`."""
    return program.removeprefix("worker-").replace("-", ".") if program.startswith("worker-") else program


def _access(role: str) -> Access:
    return ACCESS.get(role, Access())  # what is no role ends by itself, with words that name it


def role_programs(roles: Iterable[str], *, environment: Callable[[str], Mapping[str, str]], cwd: Path) -> list[Program]:
    """One program for each role, with its environment.

    A worker's SIGTERM goes to its main process alone: it lets the children finish, or drain, and ends them.
    """
    return [
        Program(
            name=_program_name(role),
            command=(sys.executable, "-m", "worker", role),
            environment=environment(role),
            inherits=_access(role).variables,
            cwd=cwd,
            stop_wait_s=_STOP_WAIT_S.get(role, 5 if role in _NOT_WORKERS else 20),
            settled_s=5,  # imports take 2 to 5 s; whoever ends sooner has failed to start
        )
        for role in roles
    ]


ROOT = Path(__file__).resolve().parents[2]
"""The repository's root, from which our roles run."""


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """What is asked for; a server whose URL is given is used, and not started."""

    var_dir: Path
    strategies_file: Path
    origin: Origin = "auto"
    database_url: str | None = None
    celery_broker_url: str | None = None
    celery_result_backend: str | None = None
    mlflow_tracking_uri: str | None = None
    mlflow_auth: str = ""
    """`user:password` at the MLflow that is given, unless its URL holds them."""
    mlflow_artifact_root: str | None = None
    mlflow_port: int = 5000
    """Wanted; another one is taken where it is in use."""
    flower_port: int = 5555
    """Wanted; another one is taken where it is in use."""
    admin_port: int = 3000
    """Wanted; another one is taken where it is in use."""
    serve_port: int = 8080
    """Wanted; another one is taken where it is in use."""
    roles: tuple[str, ...] = ROLES
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further variables for our roles."""

    def __post_init__(self) -> None:
        """Make paths absolute: programs of other working folders get them."""
        object.__setattr__(self, "var_dir", self.var_dir.absolute())
        object.__setattr__(self, "strategies_file", self.strategies_file.absolute())


@dataclass(frozen=True, kw_only=True)
class Urls:
    """Where each server is, ours or the user's; secrets."""

    database: str
    broker: str
    results: str
    mlflow: str
    flower: str
    admin: str
    serve: str
    mlflow_auth: str = ""
    """`user:password` of whoever works here by hand: he may move aliases and stages."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A stack that is ready to start."""

    urls: Urls
    servers: tuple[Program, ...]
    tracking: tuple[Program, ...]
    roles: tuple[Program, ...]
    postgres_admin_url: str | None
    """Of our own PostgreSQL, where databases may be made; None where the server is the user's."""

    @property
    def groups(self) -> dict[str, tuple[Program, ...]]:
        """Programs in the order of starting; a group without programs is left out."""
        found = {"servers": self.servers, "tracking": self.tracking, "roles": self.roles}
        return {group: programs for group, programs in found.items() if programs}

    @property
    def programs(self) -> list[Program]:
        """All of them."""
        return [program for programs in self.groups.values() for program in programs]


def make_plan(options: StackOptions, *, layout: Layout, ports: Ports, secrets: Secrets) -> Plan:
    """Find the servers' programs, write their configuration, make PostgreSQL's cluster where there is none.

    Raises ConfigurationError where a server is neither given nor found.
    """
    redis_programs = _redis(options, layout=layout, ports=ports, secrets=secrets)
    postgres_programs = _postgres(options, layout=layout, ports=ports, secrets=secrets)
    given = _Given(options=options, ports=ports, secrets=secrets)
    # The person who started the stack owns its files, the secrets among them.
    broker, results = given.redis("operator")
    urls = Urls(
        database=given.database("acis_owner"),
        broker=broker,
        results=results,
        mlflow=options.mlflow_tracking_uri or mlflow_url(ports.mlflow),
        flower=f"http://127.0.0.1:{ports.flower}",
        admin=f"http://127.0.0.1:{ports.admin}",
        serve=f"http://127.0.0.1:{ports.serve}",
        mlflow_auth=given.mlflow_auth("registrar"),
    )
    return Plan(
        urls=urls,
        servers=(*redis_programs, *postgres_programs),
        tracking=_mlflow(options, layout=layout, ports=ports, secrets=secrets),
        roles=tuple(
            role_programs(options.roles, environment=lambda role: given.environment(role, mlflow=urls.mlflow), cwd=ROOT)
        ),
        postgres_admin_url=(
            None
            if options.database_url
            else postgres_url(port=ports.postgres, password=secrets.postgres_password, database="postgres")
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Given:
    """What each role is given: its own users of our servers, or the one URL of a server of the user's."""

    options: StackOptions
    ports: Ports
    secrets: Secrets

    def database(self, user: str) -> str:
        """URL of the ledger's database."""
        return self.options.database_url or postgres_url(
            port=self.ports.postgres, password=self.secrets.database_passwords[user], database=DATABASE, user=user
        )

    def redis(self, user: str) -> tuple[str, str]:
        """URLs of broker and results. Outcomes apart from messages: each can be looked at and emptied alone."""
        broker, results = self.options.celery_broker_url, self.options.celery_result_backend
        if broker:
            return broker, results or broker
        own = redis_url(port=self.ports.redis, password=self.secrets.redis_passwords[user], user=user)
        return own, results or own.removesuffix("/0") + "/1"

    def mlflow_auth(self, identity: str) -> str:
        """`user:password` at MLflow; empty where the one that is given needs none, or its URL holds them."""
        given = self.options.mlflow_tracking_uri
        return self.options.mlflow_auth if given else self.secrets.mlflow_auth(identity)

    def environment(self, role: str, *, mlflow: str) -> dict[str, str]:
        """Variables of a role; they win over the environment that the stack was started in."""
        return {**self._settings(role, mlflow=mlflow), **self._secrets(role)}

    def _secrets(self, role: str) -> dict[str, str]:
        access, found = _access(role), {}
        if access.database is not None:
            found["DATABASE_URL"] = self.database(access.database)
        if access.features:
            source = self.options.environment.get("ACIS_FEATURE_SOURCE") or os.environ.get("ACIS_FEATURE_SOURCE")
            found["ACIS_FEATURE_SOURCE"] = source or self.database(FEATURES_USER)
        if access.redis is not None:
            found["CELERY_BROKER_URL"], found["CELERY_RESULT_BACKEND"] = self.redis(access.redis)
        auth = self.mlflow_auth(access.mlflow) if access.mlflow is not None else ""
        if auth:
            found["MLFLOW_TRACKING_USERNAME"], _, found["MLFLOW_TRACKING_PASSWORD"] = auth.partition(":")
        own = {"FLOWER_BASIC_AUTH": self.secrets.flower_basic_auth, "ACIS_ADMIN_AUTH": self.secrets.admin_auth}
        return found | {name: own[name] for name in access.own}

    def _settings(self, role: str, *, mlflow: str) -> dict[str, str]:
        given = _access(role).variables
        ports = {"flower": ("ACIS_FLOWER_PORT", self.ports.flower), "admin": ("ACIS_ADMIN_PORT", self.ports.admin)}
        ports["serve"] = ("ACIS_SERVE_PORT", self.ports.serve)
        own = {ports[role][0]: str(ports[role][1])} if role in ports else {}
        if _access(role).mlflow is not None:
            own["MLFLOW_TRACKING_URI"] = mlflow
        return {
            **{name: value for name, value in self.options.environment.items() if may_have(name, given)},
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "ACIS_STRATEGIES_FILE": str(self.options.strategies_file),
            "ACIS_FLOWER_URL": f"http://127.0.0.1:{self.ports.flower}",
            "ACIS_ADMIN_URL": os.environ.get("ACIS_ADMIN_URL") or f"http://127.0.0.1:{self.ports.admin}/admin",
            **own,
            "PYTHONUNBUFFERED": "1",
            VAR_VARIABLE: str(self.options.var_dir),
        }


def _redis(options: StackOptions, *, layout: Layout, ports: Ports, secrets: Secrets) -> tuple[Program, ...]:
    from devstack.redis_users import acl_lines  # noqa: PLC0415 -- loads kombu, which no other program needs

    if options.celery_broker_url:
        return ()
    users = acl_lines(secrets.redis_password, secrets.redis_passwords)
    write_config(layout.redis_config, port=ports.redis, users=users, data_dir=layout.redis_dir)
    return (redis_program(find_server(options.origin), layout.redis_config),)


def _postgres(options: StackOptions, *, layout: Layout, ports: Ports, secrets: Secrets) -> tuple[Program, ...]:
    if options.database_url:
        return ()
    user = server_account()
    home = make_home(layout.postgres_home, user)
    found = find_installation(options.origin, data_dir=home / "data")
    installation = reachable(found, home=home, user=user)
    data_dir = init_cluster(installation, home=home, password=secrets.postgres_password, user=user)
    write_access_rules(data_dir, user)
    return (postgres_program(installation, data_dir=data_dir, port=ports.postgres, user=user),)


def _mlflow(options: StackOptions, *, layout: Layout, ports: Ports, secrets: Secrets) -> tuple[Program, ...]:
    if options.mlflow_tracking_uri:
        return ()
    backend = (
        f"sqlite:///{layout.mlflow_sqlite}"  # nothing of MLflow's is put into a server that is not ours
        if options.database_url
        else postgres_url(
            port=ports.postgres,
            password=secrets.database_passwords[MLFLOW_USER],
            database=MLFLOW_DATABASE,
            user=MLFLOW_USER,
        )
    )
    root = options.mlflow_artifact_root or str(layout.artifact_dir)
    return (
        mlflow_program(
            port=ports.mlflow,
            backend_url=backend,
            artifact_root=root,
            cwd=layout.run_dir,
            passwords=secrets.mlflow_passwords,
        ),
    )
