"""Real servers for tests, each started at its first use and stopped with the session.

redis_url, postgres_url   an empty database for each test, on the session's server
mlflow_url                one server for the session; tests name their own models
mlflow_passwords          by identity, for tests that ask as somebody else
postgres_database         makes further databases that live as long as the session, for module fixtures

Under pytest-xdist every worker has servers of its own. `ACIS_SERVERS=embedded` takes the wheels' programs.
"""

from __future__ import annotations

import itertools
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import redis
from sqlalchemy.engine import make_url

from config.roles import MLFLOW_PASSWORD_VARIABLES, REDIS_USERS
from devstack import account, mlflow, postgres
from devstack import redis as redis_server_module
from devstack.ports import choose_port
from devstack.process import Child, Program
from devstack.redis import Origin
from devstack.redis_users import SET_UP_USER, acl_lines
from mlops.domain.errors import ServerFailed

REDIS_DATABASES = 64


def origin() -> Origin:
    """Which servers' programs the tests use."""
    return cast("Origin", os.environ.get("ACIS_SERVERS") or "auto")


@contextmanager
def started(make: Callable[[int], Program], answers: Callable[[int], bool], log: Path) -> Iterator[int]:
    """Run a server on a free port, which is the result; a port lost to somebody else is tried again."""
    for last in (False, False, True):
        port = choose_port()
        with Child(make(port), log=log) as child:
            try:
                child.wait_until(partial(answers, port))
            except ServerFailed:
                if last or "in use" not in log.read_text(errors="replace"):
                    raise
                continue
            yield port
            return


@contextmanager
def run_redis(folder: Path) -> Iterator[str]:
    """A Redis server; its URL without a database number, of the default user, who may do everything.

    The users of the roles are there with the same password: `as_redis_user`.
    """
    password = secrets.token_urlsafe(16)
    users = redis_users(password)

    def make(port: int) -> Program:
        config = folder / "redis.conf"
        redis_server_module.write_config(
            config, port=port, users=users, data_dir=folder / "redis", databases=REDIS_DATABASES
        )
        return redis_server_module.redis_program(redis_server_module.find_server(origin()), config)

    def url(port: int) -> str:
        return redis_server_module.redis_url(port=port, password=password)

    with started(make, lambda port: redis_server_module.redis_answers(url(port)), folder / "redis.log") as port:
        yield url(port).removesuffix("/0")


def redis_users(password: str) -> str:
    """Users of the roles, and a default user who may do everything, all with one password."""
    lines = acl_lines(password, dict.fromkeys(REDIS_USERS, password), databases=range(REDIS_DATABASES)).splitlines()
    everything = next(line for line in lines if line.startswith(f"user {SET_UP_USER} "))
    return "\n".join([everything.replace(SET_UP_USER, "default", 1), *lines[1:]]) + "\n"


def as_redis_user(url: str, user: str) -> str:
    """The same database of the same server as one of the users of the roles."""
    return url.replace("redis://:", f"redis://{user}:", 1)


@contextmanager
def run_postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server; URL of its administrative database."""
    password = secrets.token_urlsafe(16)
    user = account.server_account()
    wanted = folder / "postgres"
    try:
        home = account.make_home(wanted, user)
        installation = postgres.reachable(postgres.find_installation(origin()), home=home, user=user)
        data_dir = postgres.init_cluster(installation, home=home, password=password, user=user)

        def make(port: int) -> Program:
            return postgres.postgres_program(installation, data_dir=data_dir, port=port, user=user, durable=False)

        def url(port: int) -> str:
            return postgres.postgres_url(port=port, password=password, database="postgres")

        with started(make, lambda port: postgres.postgres_answers(url(port)), folder / "postgres.log") as port:
            yield url(port)
    finally:
        account.remove_home(wanted)


def new_mlflow_passwords() -> dict[str, str]:
    """Random passwords by identity."""
    return {identity: secrets.token_urlsafe(24) for identity in MLFLOW_PASSWORD_VARIABLES}


@contextmanager
def run_mlflow(
    folder: Path, backend_url: str, passwords: Mapping[str, str] | None = None, *, artifact_root: str | None = None
) -> Iterator[str]:
    """An MLflow server on that backend, whose identities have these passwords; its URL, as the registrar."""
    given = new_mlflow_passwords() if passwords is None else passwords

    def url(port: int) -> str:
        return mlflow.mlflow_url(port).replace("://", f"://registrar:{given['registrar']}@")

    def make(port: int) -> Program:
        return mlflow.mlflow_program(
            port=port,
            backend_url=backend_url,
            artifact_root=artifact_root or str(folder / "artifacts"),
            cwd=folder,
            passwords=given,
        )

    with started(make, lambda port: mlflow.mlflow_answers(url(port)), folder / "mlflow.log") as port:
        yield url(port)


@dataclass(frozen=True, kw_only=True)
class Databases:
    """Makes empty databases on one server."""

    server_url: str

    def make(self) -> str:
        """URL of a new, empty database."""
        return postgres.create_database(self.server_url, f"test_{secrets.token_hex(6)}")

    def drop(self, url: str) -> None:
        """Remove it, whoever is connected."""
        postgres.drop_database(self.server_url, cast("str", make_url(url).database))


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """Where the session's servers keep their files."""
    # Not below pytest's own folder: that is kept after the run, and mode 700 shuts PostgreSQL's account out.
    with tempfile.TemporaryDirectory(prefix="acis-test-servers-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def redis_server(servers_folder: Path) -> Iterator[str]:
    """URL of the session's Redis, without a database number."""
    with run_redis(servers_folder) as url:
        yield url


@pytest.fixture(scope="session")
def redis_numbers() -> Iterator[int]:
    """Database numbers, each test the next one."""
    return itertools.cycle(range(REDIS_DATABASES))


@pytest.fixture
def redis_url(redis_server: str, redis_numbers: Iterator[int]) -> str:
    """URL of an empty Redis database, this test's own."""
    url = f"{redis_server}/{next(redis_numbers)}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def postgres_server(servers_folder: Path) -> Iterator[Databases]:
    """The session's PostgreSQL."""
    with run_postgres(servers_folder) as url:
        yield Databases(server_url=url)


@pytest.fixture(scope="session")
def postgres_database(postgres_server: Databases) -> Callable[[], str]:
    """Makes databases that live as long as the session."""
    return postgres_server.make


@pytest.fixture
def postgres_url(postgres_server: Databases) -> Iterator[str]:
    """URL of an empty PostgreSQL database, this test's own."""
    with ExitStack() as stack:
        url = postgres_server.make()
        stack.callback(postgres_server.drop, url)
        yield url


@pytest.fixture(scope="session")
def mlflow_passwords() -> Mapping[str, str]:
    """Passwords at the session's MLflow server, by identity."""
    return new_mlflow_passwords()


@pytest.fixture(scope="session")
def mlflow_database(postgres_server: Databases) -> str:
    """URL of the database of the session's MLflow server."""
    return postgres_server.make()


@pytest.fixture(scope="session")
def mlflow_url(servers_folder: Path, mlflow_database: str, mlflow_passwords: Mapping[str, str]) -> Iterator[str]:
    """URL of the session's MLflow server, on the session's PostgreSQL, with the registrar's name and password."""
    with run_mlflow(servers_folder, mlflow_database, mlflow_passwords) as url:
        yield url
