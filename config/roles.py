"""What each role may reach, and so which variables with secrets it is given: the one table of all platforms.

`make run` makes environments from it, docker-compose.yml and k8s/base are compared with it
(tests/security/test_environments.py), and the users of the servers have its names (docs/decisions/0052).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

DatabaseUser = Literal["acis_owner", "acis_ledger", "acis_admin", "acis_serve"]
RedisUser = Literal[
    "control", "drift", "train", "promote", "beat", "reconciler", "flower", "admin", "operator", "backend"
]
MlflowIdentity = Literal["viewer", "reader", "trainer", "registrar"]

FEATURES_USER = "acis_features"
"""Database user that reads the feature relation, and nothing else."""
MLFLOW_USER = "acis_mlflow"
"""Database user that owns MLflow's database, and nothing else."""

DATABASE_USERS = ("acis_owner", "acis_ledger", "acis_admin", "acis_serve", FEATURES_USER, MLFLOW_USER)
"""Owner of the tables, writer of the ledger, the same with the accounts of people, prediction service, and two more."""
REDIS_USERS: tuple[RedisUser, ...] = (
    *("control", "drift", "train", "promote", "beat", "reconciler", "flower", "admin"),
    "operator",  # a person at a terminal
    "backend",  # a program of yours that sends tasks and reads their results
)
MLFLOW_PASSWORD_VARIABLES: Mapping[MlflowIdentity, str] = {
    "viewer": "MLFLOW_VIEWER_PASSWORD",
    "reader": "MLFLOW_READER_PASSWORD",
    "trainer": "MLFLOW_TRAINER_PASSWORD",
    "registrar": "MLFLOW_REGISTRAR_PASSWORD",
}
"""By identity of the MLflow server (`devstack.mlflow_access`), whose environment holds them; `viewer` is people's."""


def password_variable(user: str) -> str:
    """Variable of `acis server-users`, and of .env, that holds the password of a database or Redis user.

    >>> password_variable("acis_ledger"), password_variable("train")
    ('POSTGRES_LEDGER_PASSWORD', 'REDIS_TRAIN_PASSWORD')
    """
    server = "POSTGRES" if user in DATABASE_USERS else "REDIS"
    return f"{server}_{user.removeprefix('acis_').upper()}_PASSWORD"


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a role may reach."""

    database: DatabaseUser | None = None
    features: bool = False
    """It reads features."""
    redis: RedisUser | None = None
    mlflow: MlflowIdentity | None = None
    object_store: bool = False
    """It reads or writes checkpoints and kept models, or artifacts, which may lie in an object store."""
    own: tuple[str, ...] = ()
    """Secrets that no other role is given."""

    @property
    def variables(self) -> frozenset[str]:
        """Names of the variables with secrets that the role is given; those of an object store where there is one."""
        return frozenset(self._variables())

    def _variables(self) -> Iterator[str]:
        if self.database is not None:
            yield "DATABASE_URL"
        if self.features:
            yield "ACIS_FEATURE_SOURCE"
        if self.redis is not None:
            yield from ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")
        if self.mlflow is not None:
            # The address may hold a password, too.
            yield from ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        if self.object_store:
            yield from OBJECT_STORE
        yield from self.own


OBJECT_STORE = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
TRACE_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
"""May hold a password of the traces' collector; in Compose a file of every role, where .env has it."""

_TRAIN = Access(database="acis_ledger", features=True, redis="train", mlflow="trainer", object_store=True)

ACCESS: Mapping[str, Access] = {
    "control": Access(database="acis_ledger", redis="control"),
    "drift": Access(database="acis_ledger", features=True, redis="drift", mlflow="reader"),
    "train.cpu": _TRAIN,
    "train.gpu": _TRAIN,
    # It evaluates both models on the same rows, and keeps the champion's files.
    "promote": Access(database="acis_ledger", features=True, redis="promote", mlflow="registrar", object_store=True),
    "beat": Access(database="acis_ledger", redis="beat"),
    # It looks how far the features have come, and tidies the object store.
    "reconciler": Access(
        database="acis_ledger", features=True, redis="reconciler", mlflow="registrar", object_store=True
    ),
    "flower": Access(redis="flower", own=("FLOWER_BASIC_AUTH",)),
    # Before an experiment starts it compares both versions on the dates that the challenger held out.
    "admin": Access(database="acis_admin", features=True, redis="admin", mlflow="reader", own=("ACIS_ADMIN_AUTH",)),
    "serve": Access(database="acis_serve", mlflow="reader", object_store=True),
    "migrate": Access(database="acis_owner"),
    # A person at a terminal, in Compose and Kubernetes.
    "tools": Access(database="acis_admin", features=True, redis="operator", mlflow="registrar", object_store=True),
    "mlflow": Access(object_store=True, own=("MLFLOW_BACKEND_STORE_URI", *MLFLOW_PASSWORD_VARIABLES.values())),
}
"""By what `python -m worker` is started as, and the programs beside the roles."""

SERVER_PASSWORDS = frozenset(
    {"POSTGRES_PASSWORD", "REDIS_PASSWORD", *(password_variable(user) for user in (*DATABASE_USERS, *REDIS_USERS))}
)
"""Variables of `acis server-users`, which no role is given."""
SECRETS = frozenset(name for access in ACCESS.values() for name in access.variables)
"""Every variable that holds a secret; a program is given those of its role alone."""


def may_have(name: str, variables: frozenset[str]) -> bool:
    """Whether a program that is given these secrets may inherit a variable.

    All of AWS_* goes with the keys: a profile, a role's token or the address of its credentials leads to the store too.
    """
    if name.startswith("AWS_"):
        return variables.issuperset(OBJECT_STORE)
    return name in variables or name not in SECRETS | SERVER_PASSWORDS
