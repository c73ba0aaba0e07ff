"""What a stack consists of: which servers are ours, their programs, and the URLs that everybody uses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.roles import ACCESS
from devstack.account import make_home, server_account
from devstack.layout import Layout, Ports
from devstack.mlflow import mlflow_program, mlflow_url
from devstack.postgres import find_installation, init_cluster, postgres_program, postgres_url, reachable
from devstack.process import VAR_VARIABLE, Program
from devstack.redis import Origin, find_server, redis_program, redis_url, write_config
from devstack.secrets import Secrets
from mlops.addresses import credentials_of

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


def role_programs(roles: Iterable[str], *, environment: Callable[[str], Mapping[str, str]], cwd: Path) -> list[Program]:
    """One program for each role, with its environment.

    A worker's SIGTERM goes to its main process alone: it lets the children finish, or drain, and ends them.
    """
    return [
        Program(
            name=_program_name(role),
            command=(sys.executable, "-m", "worker", role),
            environment=environment(role),
            cwd=cwd,
            stop_wait_s=_STOP_WAIT_S.get(role, 5 if role in _NOT_WORKERS else 20),
            settled_s=5,  # imports take 2 to 5 s; whoever ends sooner has failed to start
        )
        for role in roles
    ]


ROOT = Path(__file__).resolve().parents[2]
"""The repository's root, from which our roles run."""

DATABASE = "acis"
MLFLOW_DATABASE = "mlflow"


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
    broker, redis_programs = _redis(options, layout=layout, ports=ports, secrets=secrets)
    database, postgres_programs = _postgres(options, layout=layout, ports=ports, secrets=secrets)
    urls = Urls(
        database=database,
        broker=broker,
        # Outcomes apart from messages: each can be looked at and emptied alone.
        results=options.celery_result_backend or options.celery_broker_url or broker.removesuffix("/0") + "/1",
        mlflow=options.mlflow_tracking_uri or mlflow_url(ports.mlflow),
        flower=f"http://127.0.0.1:{ports.flower}",
        admin=f"http://127.0.0.1:{ports.admin}",
        serve=f"http://127.0.0.1:{ports.serve}",
        mlflow_auth=(
            options.mlflow_auth or credentials_of(options.mlflow_tracking_uri)
            if options.mlflow_tracking_uri
            else secrets.mlflow_auth("registrar")
        ),
    )
    return Plan(
        urls=urls,
        servers=(*redis_programs, *postgres_programs),
        tracking=_mlflow(options, layout=layout, ports=ports, secrets=secrets),
        roles=tuple(
            role_programs(
                options.roles,
                environment=lambda role: {
                    **_role_environment(options, urls=urls, ports=ports, secrets=secrets),
                    **mlflow_identity(role, options, secrets),
                },
                cwd=ROOT,
            )
        ),
        postgres_admin_url=(
            None
            if options.database_url
            else postgres_url(port=ports.postgres, password=secrets.postgres_password, database="postgres")
        ),
    )


def _redis(options: StackOptions, *, layout: Layout, ports: Ports, secrets: Secrets) -> tuple[str, tuple[Program, ...]]:
    if options.celery_broker_url:
        return options.celery_broker_url, ()
    write_config(layout.redis_config, port=ports.redis, password=secrets.redis_password, data_dir=layout.redis_dir)
    program = redis_program(find_server(options.origin), layout.redis_config)
    return redis_url(port=ports.redis, password=secrets.redis_password), (program,)


def _postgres(
    options: StackOptions, *, layout: Layout, ports: Ports, secrets: Secrets
) -> tuple[str, tuple[Program, ...]]:
    if options.database_url:
        return options.database_url, ()
    user = server_account()
    home = make_home(layout.postgres_home, user)
    found = find_installation(options.origin, data_dir=home / "data")
    installation = reachable(found, home=home, user=user)
    data_dir = init_cluster(installation, home=home, password=secrets.postgres_password, user=user)
    program = postgres_program(installation, data_dir=data_dir, port=ports.postgres, user=user)
    return postgres_url(port=ports.postgres, password=secrets.postgres_password, database=DATABASE), (program,)


def _mlflow(options: StackOptions, *, layout: Layout, ports: Ports, secrets: Secrets) -> tuple[Program, ...]:
    if options.mlflow_tracking_uri:
        return ()
    backend = (
        f"sqlite:///{layout.mlflow_sqlite}"  # nothing of MLflow's is put into a server that is not ours
        if options.database_url
        else postgres_url(port=ports.postgres, password=secrets.postgres_password, database=MLFLOW_DATABASE)
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


def mlflow_identity(role: str, options: StackOptions, secrets: Secrets) -> dict[str, str]:
    """Variables by which a role signs in to MLflow; empty values where it is given no identity."""
    identity = ACCESS[role].mlflow
    auth = ""
    if identity is not None:
        auth = options.mlflow_auth if options.mlflow_tracking_uri else secrets.mlflow_auth(identity)
    user, _, password = auth.partition(":")
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}


def _role_environment(options: StackOptions, *, urls: Urls, ports: Ports, secrets: Secrets) -> dict[str, str]:
    """Variables of our own roles; they win over the environment that the stack was started in."""
    return {
        **options.environment,
        "DATABASE_URL": urls.database,
        "CELERY_BROKER_URL": urls.broker,
        "CELERY_RESULT_BACKEND": urls.results,
        "MLFLOW_TRACKING_URI": urls.mlflow,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ACIS_STRATEGIES_FILE": str(options.strategies_file),
        "ACIS_FLOWER_PORT": str(ports.flower),
        "FLOWER_BASIC_AUTH": secrets.flower_basic_auth,
        "ACIS_FLOWER_URL": urls.flower,
        "ACIS_ADMIN_PORT": str(ports.admin),
        "ACIS_ADMIN_AUTH": secrets.admin_auth,
        "ACIS_SERVE_PORT": str(ports.serve),
        "PYTHONUNBUFFERED": "1",
        VAR_VARIABLE: str(options.var_dir),
    }
