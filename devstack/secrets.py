"""Random secrets of a stack, made once and kept in a file that only its owner can read.

Those of `make run` lie in its var folder, those of Compose in .env; `role_files` says which each container is given.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

from config.private_file import write_private
from config.roles import (
    ACCESS,
    DATABASE_USERS,
    FEATURES_USER,
    MLFLOW_PASSWORD_VARIABLES,
    MLFLOW_USER,
    OBJECT_STORE,
    REDIS_USERS,
    SERVER_PASSWORDS,
    TRACE_HEADERS,
    Access,
    password_variable,
)
from mlops.domain.errors import ConfigurationError

FILE = "secrets.json"
"""Below the var folder."""
_LATER = frozenset({"admin_user", "admin_password", "database_passwords", "redis_passwords", "mlflow_passwords"})
"""Secrets that files of earlier versions lack; they are added."""


def _random() -> str:
    return secrets.token_urlsafe(24)  # 192 bits, of characters that stand in a URL as they are


def _of_each(users: Iterable[str]) -> dict[str, str]:
    return {user: _random() for user in users}


@dataclass(frozen=True, kw_only=True, repr=False)
class Secrets:
    """What the servers of a stack are guarded with; never printed as a whole."""

    postgres_password: str = field(default_factory=_random)
    """Of PostgreSQL's superuser, which makes databases and users and is given to no role."""
    redis_password: str = field(default_factory=_random)
    """Of the Redis user that may do everything, which is given to no role."""
    database_passwords: Mapping[str, str] = field(default_factory=lambda: _of_each(DATABASE_USERS))
    """Of the database users of the roles."""
    redis_passwords: Mapping[str, str] = field(default_factory=lambda: _of_each(REDIS_USERS))
    """Of the Redis users of the roles."""
    mlflow_passwords: Mapping[str, str] = field(default_factory=lambda: _of_each(MLFLOW_PASSWORD_VARIABLES))
    """Of MLflow's identities: `viewer` is the people's, the others are the roles'."""
    flower_user: str = "operator"
    flower_password: str = field(default_factory=_random)
    admin_user: str = "operator"
    admin_password: str = field(default_factory=_random)
    """Of the admin page's first user."""
    supervisor_password: str = field(default_factory=_random)
    """Of supervisord's control port, which may start any program."""

    @property
    def flower_basic_auth(self) -> str:
        """`user:password`, as Flower wants it."""
        return f"{self.flower_user}:{self.flower_password}"

    @property
    def admin_auth(self) -> str:
        """`user:password` of the admin page's first user."""
        return f"{self.admin_user}:{self.admin_password}"

    def mlflow_auth(self, identity: str) -> str:
        """`user:password` of one of MLflow's identities."""
        return f"{identity}:{self.mlflow_passwords[identity]}"


def ensure_secrets(var_dir: Path) -> tuple[Secrets, bool]:
    """The secrets of this var folder, and whether they were made just now."""
    path = var_dir / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _write(path, Secrets()), True
    except (OSError, ValueError) as exc:
        message = f"cannot read {path} ({exc}); mend its owner and mode, or put a copy of it there"
        raise ConfigurationError(message) from exc
    missing = [one.name for one in fields(Secrets) if not found.get(one.name)]
    if not set(missing) <= _LATER:
        message = (
            f"{path} lacks {', '.join(missing)}: put a copy of the file there, or the password that the server has. "
            "Nothing was changed; `make clean` would remove the ledger, too"
        )
        raise ConfigurationError(message)
    path.chmod(0o600)
    kept = Secrets(**{one.name: found[one.name] for one in fields(Secrets) if found.get(one.name)})
    whole = replace(
        kept,
        database_passwords={**_of_each(DATABASE_USERS), **kept.database_passwords},
        redis_passwords={**_of_each(REDIS_USERS), **kept.redis_passwords},
        mlflow_passwords={**_of_each(MLFLOW_PASSWORD_VARIABLES), **kept.mlflow_passwords},
    )
    return (whole if asdict(whole) == found else _write(path, whole)), False


def _write(path: Path, made: Secrets) -> Secrets:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Whole or not at all: half a file of secrets would lock us out of our own servers.
    write_private(path, json.dumps(asdict(made), indent=1))
    return made


def env_lines(known: Iterable[str] = ()) -> list[str]:
    """Random secrets as lines of .env, of letters and digits: all that docker-compose.yml must be told.

    known : names that need none
    """
    users, kept = (*DATABASE_USERS, *REDIS_USERS), set(known)
    names = ["POSTGRES_PASSWORD", "REDIS_PASSWORD", *map(password_variable, users), *MLFLOW_PASSWORD_VARIABLES.values()]
    lines = [(name, secrets.token_hex(24)) for name in names]
    lines += [(name, f"operator:{secrets.token_hex(24)}") for name in ("FLOWER_BASIC_AUTH", "ACIS_ADMIN_AUTH")]
    return [f"{name}={value}" for name, value in lines if name not in kept]


def add_missing(path: Path) -> list[str]:
    """Write into a file of `env_lines` what it lacks or leaves empty, mode 600; the names that were added.

    What has a value stays as it is, comments too. A file that is not there is made. Raises ConfigurationError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        pairs = {line: line.removeprefix("export ").partition("=") for line in lines}
        made = env_lines(name.strip() for name, _, value in pairs.values() if value.strip(" \"'"))
        added = [line.partition("=")[0] for line in made]
        kept = [line for line in lines if pairs[line][0].strip() not in added]
        write_private(path.resolve(), "\n".join([*kept, *made, ""]))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"cannot add passwords to {path}: {exc}") from exc
    return added


# ---- Compose

ROLE_FILES = "secrets"
"""Below the folder of docker-compose.yml: a folder for each container, in it a file for each secret."""
ROLE_FILES_VARIABLE = "SECRETS_DIR"
"""Tells docker-compose.yml that they are there, and where."""
_MANIFEST = ".written-by-acis"
"""In that folder: which of its files are ours. Nothing else there is ever changed."""
_IMAGE_USER = 10001
DATABASE, BROKER = "postgresql://postgres:5432/acis", "redis://redis:6379"
"""The servers of docker-compose.yml, and those in the cluster of Kubernetes."""


def write_compose_secrets(folder: Path) -> list[str]:
    """Complete the folder's .env and write the secrets of each container from it; names that were added to .env.

    Safe to repeat; after a change of .env the files say what it says. Raises ConfigurationError.
    """
    env = folder / ".env"
    added = add_missing(env)
    values = _values(env)
    named = values.get(ROLE_FILES_VARIABLE) or ROLE_FILES
    place = folder / named
    if Path(named).is_absolute():
        raise ConfigurationError(
            f"{env} has {ROLE_FILES_VARIABLE}={named}: mlops/mlflow/docker-compose.mlflow.yml counts it from the "
            f"folder of docker-compose.yml, so write it relative to that, as ./{ROLE_FILES}"
        )
    try:
        _write_folders(place, role_files(values))
        if not values.get(ROLE_FILES_VARIABLE):
            kept = [line for line in env.read_text(encoding="utf-8").splitlines() if _name(line) != ROLE_FILES_VARIABLE]
            write_private(env.resolve(), "\n".join([*kept, f"{ROLE_FILES_VARIABLE}=./{ROLE_FILES}", ""]))
        guide = folder / "mlops" / "mlflow"
        if guide.is_dir() and not (guide / ".env").exists():
            (guide / ".env").symlink_to(Path("..", "..", ".env"))  # a Compose file there reads the .env beside it
    except OSError as exc:
        raise ConfigurationError(f"cannot write the containers' secrets to {place}: {exc}") from exc
    return added


def role_files(
    values: Mapping[str, str], *, database: str = DATABASE, broker: str = BROKER
) -> dict[str, dict[str, str]]:
    """Variables with secrets by container: the roles of `config.roles.ACCESS`, and the servers of docker-compose.yml.

    values : of .env; ACIS_FEATURE_SOURCE there stands for features that lie elsewhere, AWS_* for an object store's keys
    database, broker : URLs of the servers, without a user
    """
    passwords = {name: values[name] for name in sorted(SERVER_PASSWORDS)}
    owner = _signed_in(database, "acis", values["POSTGRES_PASSWORD"])
    setup = {name: value for name, value in passwords.items() if name not in ("POSTGRES_PASSWORD", "REDIS_PASSWORD")}
    headers = {name: values[name] for name in (TRACE_HEADERS,) if values.get(name)}
    return {
        **{
            role: _of_role(access, values, database, broker) | (headers if role != "mlflow" else {})
            for role, access in ACCESS.items()
        },
        "postgres": {"POSTGRES_PASSWORD": passwords["POSTGRES_PASSWORD"]},
        "redis": {"REDIS_PASSWORD": passwords["REDIS_PASSWORD"]},
        "server-users": {
            **setup,
            "DATABASE_URL": owner,
            "CELERY_BROKER_URL": _signed_in(broker, "setup", values["REDIS_PASSWORD"], path="/0"),
        },
        # Where MLflow runs without Redis and the roles.
        "database-users": {
            **{name: value for name, value in setup.items() if name.startswith("POSTGRES_")},
            "DATABASE_URL": owner,
        },
    }


def _of_role(access: Access, values: Mapping[str, str], database: str, broker: str) -> dict[str, str]:
    def of_database(user: str, **parts: str) -> str:
        return _signed_in(database, user, values[password_variable(user)], **parts)

    made = {
        "ACIS_FEATURE_SOURCE": of_database(FEATURES_USER),
        # The driver is named: plain postgresql:// leaves it to SQLAlchemy.
        "MLFLOW_BACKEND_STORE_URI": of_database(MLFLOW_USER, scheme="postgresql+psycopg2", path="/mlflow"),
        **{name: values[name] for name in ("ACIS_FEATURE_SOURCE", *OBJECT_STORE, *access.own) if values.get(name)},
    }
    if access.database:
        made["DATABASE_URL"] = of_database(access.database)
    if access.mlflow:
        made["MLFLOW_TRACKING_PASSWORD"] = values[MLFLOW_PASSWORD_VARIABLES[access.mlflow]]
    if access.redis:
        password = values[password_variable(access.redis)]
        made["CELERY_BROKER_URL"] = _signed_in(broker, access.redis, password, path="/0")
        made["CELERY_RESULT_BACKEND"] = _signed_in(broker, access.redis, password, path="/1")
    return {name: value for name, value in made.items() if name in access.variables}


def _signed_in(url: str, user: str, password: str, **parts: str) -> str:
    """The URL with a user and its password; `parts` of `urlsplit` replace its own, and a query stays."""
    split = urlsplit(url)
    return split._replace(netloc=f"{user}:{password}@{split.netloc}", **parts).geturl()


def _write_folders(place: Path, folders: Mapping[str, Mapping[str, str]]) -> None:
    """Nobody but the owner gets into `place`; a container sees its own folder alone, and must be able to read it there.

    As root the files are the image's user's, mode 600. Anybody else cannot give files away, and leaves those inside
    readable: `place` itself is closed. What is no longer wanted is removed where _MANIFEST says that we wrote it.
    Raises ConfigurationError where the folder is somebody else's.
    """
    manifest, wanted = place / _MANIFEST, {f"{name}/{one}" for name, variables in folders.items() for one in variables}
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    others = sorted(path.name for path in place.iterdir())
    if others and not manifest.exists():
        raise ConfigurationError(
            f"{place} holds {others[0]} and was not made by this command (it has no {_MANIFEST}); nothing was changed "
            f"in it. Name a new folder in {ROLE_FILES_VARIABLE}, or remove it if its secrets are a former version's"
        )
    lines = manifest.read_text(encoding="utf-8").splitlines() if others else []
    former = {line for line in lines if re.fullmatch(r"[a-z][a-z.-]*/[A-Z][A-Z0-9_]*", line)}
    write_private(manifest, "\n".join(sorted(former | wanted)))  # of both, for whoever repeats what was cut off
    place.chmod(0o700)
    for gone in former - wanted:
        (place / gone).unlink(missing_ok=True)
        with suppress(OSError):  # somebody's file is in it, or a secret of ours
            (place / gone).parent.rmdir()
    is_root = os.geteuid() == 0
    for name, variables in folders.items():
        folder = place / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        for variable, value in variables.items():
            write_private(folder / variable, value, owner=(_IMAGE_USER, _IMAGE_USER) if is_root else None)
            if not is_root:
                (folder / variable).chmod(0o444)
    write_private(manifest, "\n".join(sorted(wanted)))


def _values(env: Path) -> dict[str, str]:
    lines = env.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
    return {_name(name): value.strip().strip("\"'") for name, _, value in pairs if value.strip()}


def _name(line: str) -> str:
    return line.partition("=")[0].removeprefix("export ").strip()


# ---- Kubernetes


def kubernetes_secrets(env: Path, *, database: str, broker: str, namespace: str) -> str:
    """The Secrets of k8s/ as a manifest, from a file of `env_lines`; the same file gives the same Secrets.

    database, broker : URLs of the servers, without a user    Raises ConfigurationError.
    """
    for url, kinds in ((database, ("postgresql",)), (broker, ("redis", "rediss"))):
        split = urlsplit(url)
        if split.scheme not in kinds or not split.hostname or "@" in split.netloc:
            raise ConfigurationError(
                f"{url.rpartition('@')[2]!r} is no URL of a server without a user: {kinds[0]}://HOST:PORT"
            )
    try:
        values = _values(env)
        files = role_files(values, database=database, broker=broker)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"cannot read {env}: {exc}") from exc
    except KeyError as exc:
        raise ConfigurationError(
            f"{env} has no value of {exc.args[0]}; `acis secrets --env --missing {env}` makes one"
        ) from exc
    for role, access in ACCESS.items():
        if access.mlflow and "MLFLOW_TRACKING_PASSWORD" in files[role]:
            files[role]["MLFLOW_TRACKING_USERNAME"] = access.mlflow
    files["server-users"] |= files["postgres"] | files["redis"]
    files["train"] = files["train.cpu"]
    others = {"train.cpu", "train.gpu", "postgres", "redis", "database-users"}
    if database != DATABASE or broker != BROKER:
        others.add("server-users")  # what may make users stays out of a cluster whose servers lie elsewhere
    kept = sorted({*files} - others)
    secrets_of = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"acis-{name}", "namespace": namespace},
            "type": "Opaque",
            "stringData": {key: value for key, value in sorted(files[name].items()) if key != TRACE_HEADERS},
        }
        for name in kept
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": secrets_of}, indent=1)
