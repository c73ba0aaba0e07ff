"""Random secrets of a stack, made once and kept in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from config.roles import DATABASE_USERS, REDIS_USERS, password_variable
from devstack.mlflow_access import PASSWORD_VARIABLES as MLFLOW_IDENTITIES
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
    mlflow_passwords: Mapping[str, str] = field(default_factory=lambda: _of_each(MLFLOW_IDENTITIES))
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
        mlflow_passwords={**_of_each(MLFLOW_IDENTITIES), **kept.mlflow_passwords},
    )
    return (whole if asdict(whole) == found else _write(path, whole)), False


def _write(path: Path, made: Secrets) -> Secrets:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _replace(path, json.dumps(asdict(made), indent=1))
    return made


def _replace(path: Path, content: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    new.replace(path)  # a half-written file of secrets would lock us out of our own servers


def env_lines(known: Iterable[str] = ()) -> list[str]:
    """Random secrets as lines of .env, of letters and digits: all that docker-compose.yml must be told.

    known : names that need none
    """
    users, kept = (*DATABASE_USERS, *REDIS_USERS), set(known)
    names = ["POSTGRES_PASSWORD", "REDIS_PASSWORD", *map(password_variable, users), *MLFLOW_IDENTITIES.values()]
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
        _replace(path.resolve(), "\n".join([*kept, *made, ""]))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"cannot add passwords to {path}: {exc}") from exc
    return added
