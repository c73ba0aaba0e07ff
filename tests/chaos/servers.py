"""Redis, PostgreSQL and MLflow that a test can kill, stop and start again on the same port, each behind a proxy."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from devstack import account, mlflow, postgres
from devstack import redis as redis_module
from devstack.ports import choose_port
from devstack.process import Child, Program
from devstack.redis_users import SET_UP_USER, acl_lines
from devstack.secrets import Secrets
from tests.chaos.clock import MovableClock
from tests.chaos.proxy import FaultyProxy
from tests.support.servers import origin

UP_S = 60.0
LOOPBACK = "127.0.0.1"


class Server:
    """One server's process, whoever it is by now."""

    def __init__(self, name: str, program: Program, answers: Callable[[], bool], *, port: int, log: Path) -> None:
        self.name, self.port = name, port
        self._program, self._answers, self.log = program, answers, log
        self.child: Child | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.child = Child(self._program, log=self.log)
        self.child.wait_until(self._answers, timeout_s=UP_S)

    def start_again(self) -> None:
        """What a supervisor does with a server that has ended, without waiting for its answer."""
        if self.child is not None and self.child.process.poll() is not None:
            self.child = Child(self._program, log=self.log)

    def answers(self) -> bool:
        """It does."""
        return self._answers()

    def stop(self) -> None:
        """An orderly end."""
        if self.child is not None:
            self.child.stop()
            self.child = None

    def kill(self) -> None:
        """SIGKILL to it and all its children."""
        assert self.child is not None
        main = psutil.Process(self.child.process.pid)
        for process in [*main.children(recursive=True), main]:
            with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL's own children come and go
                process.kill()
        self.child.process.wait()
        self.child = None

    def signal(self, number: signal.Signals) -> None:
        """To its main process."""
        assert self.child is not None
        self.child.process.send_signal(number)


class Postgres(Server):
    """A PostgreSQL behind two proxies, one of which never breaks; another one may take its place."""

    def __init__(
        self,
        installation: postgres.Installation,
        data_dir: Path,
        *,
        port: int,
        user: str | None,
        password: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.installation, self.data_dir, self.user, self.password = installation, data_dir, user, password
        self.environment = dict(environment or {})
        self._place(data_dir, port, log)

    def _place(self, data_dir: Path, port: int, log: Path) -> None:
        url = postgres.postgres_url(port=port, password=self.password, database="postgres")
        program = self.program(data_dir, port)
        Server.__init__(self, "postgres", program, lambda: postgres.postgres_answers(url), port=port, log=log)
        self.data_dir, self.server_url = data_dir, url

    def program(self, data_dir: Path, port: int) -> Program:
        """Another server of the same installation, account and clock."""
        made = postgres.postgres_program(self.installation, data_dir=data_dir, port=port, user=self.user)
        return replace(made, environment={**made.environment, **self.environment})

    def take_the_place(self, other: Server, data_dir: Path, port: int) -> None:
        """From now on this is that other server, which runs."""
        self._place(data_dir, port, self.log)
        self.child = other.child

    def run(self, program: str, *arguments: str) -> None:
        """One of the installation's own programs, as the server's account."""
        uid, gid = account.identity(self.user) if self.user else (None, None)
        done = subprocess.run(
            [str(self.installation.bin_dir / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            env={**os.environ, "PGPASSWORD": self.password},
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"


@dataclass(frozen=True, kw_only=True)
class Standby:
    """A second PostgreSQL that follows the first one through a proxy of its own."""

    primary: Postgres
    server: Server
    data_dir: Path
    url: str
    proxy: FaultyProxy
    """Between the two: what it refuses, the standby lacks."""

    def has_caught_up(self) -> bool:
        """It has received all that there was a moment ago."""
        there = _scalar(self.primary.server_url, "SELECT pg_current_wal_lsn()::text")
        return bool(_scalar(self.url, f"SELECT pg_last_wal_receive_lsn() >= '{there}'::pg_lsn"))

    def promote(self, proxies: Iterable[FaultyProxy]) -> None:
        """It is the primary from now on, and these proxies lead to it."""
        assert _scalar(self.url, "SELECT pg_promote()")
        self.primary.take_the_place(self.server, self.data_dir, self.server.port)
        for proxy in proxies:
            proxy.target_port = self.server.port
            proxy.cut()


@contextmanager
def standby_of(primary: Postgres) -> Iterator[Standby]:
    """Made from a base backup; it ends with the block where it was not promoted."""
    port = choose_port()
    data_dir = primary.data_dir.with_name(f"data-{port}")
    with FaultyProxy(primary.port) as between:
        primary.run(
            "pg_basebackup", "--pgdata", str(data_dir), "--host", LOOPBACK, "--port", str(between.port),
            "--username", postgres.SUPERUSER, "--wal-method", "stream", "--checkpoint", "fast", "--write-recovery-conf",
        )  # fmt: skip
        url = postgres.postgres_url(port=port, password=primary.password, database="postgres")
        server = Server(
            "standby",
            primary.program(data_dir, port),
            lambda: postgres.postgres_answers(url),
            port=port,
            log=primary.log.with_name(f"postgres-{port}.log"),
        )
        server.start()
        try:
            yield Standby(primary=primary, server=server, data_dir=data_dir, url=url, proxy=between)
        finally:
            if primary.port != port:
                server.stop()


def _scalar(url: str, query: str) -> object:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            return connection.scalar(text(query))
    finally:
        engine.dispose()


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The three, with their addresses: direct ones for the test, those of the proxies for the system.

    The test's own are of users who may do what no role may: the ledger's owner, Redis' set-up user, the registrar.
    """

    secrets: Secrets
    """Of the servers' users, a password of each."""
    redis: Server
    postgres: Postgres
    mlflow: Server
    mlflow_postgres: Postgres
    postgres_front: FaultyProxy
    """Before PostgreSQL for the test: it breaks nothing, and leads to whoever is the primary."""
    redis_proxy: FaultyProxy
    postgres_proxy: FaultyProxy
    mlflow_proxy: FaultyProxy
    clock: MovableClock
    """PostgreSQL's."""
    admin_url: str
    """Of PostgreSQL's superuser."""
    redis_url: str
    database_url: str
    features_url: str
    mlflow_url: str

    @property
    def all(self) -> tuple[Server, ...]:
        """The servers themselves."""
        return (self.redis, self.postgres, self.mlflow_postgres, self.mlflow)

    @property
    def proxies(self) -> tuple[FaultyProxy, ...]:
        """All of them."""
        return (self.redis_proxy, self.postgres_proxy, self.mlflow_proxy)


def through(url: str, proxy: FaultyProxy) -> str:
    """The same server by way of its proxy."""
    return make_url(url).set(port=proxy.port).render_as_string(hide_password=False)


@contextmanager
def run_servers(folder: Path) -> Iterator[Servers]:
    """All three, as durable as in production, with proxies before them."""
    secrets = Secrets()
    password = secrets.postgres_password
    user = account.server_account()
    home = account.make_home(folder / "postgres", user)
    with ExitStack() as stack:
        stack.callback(account.remove_home, folder / "postgres")
        redis_port, postgres_port, mlflow_port = choose_port(), choose_port(), choose_port()

        installation = postgres.reachable(postgres.find_installation(origin()), home=home, user=user)
        data_dir = postgres.init_cluster(installation, home=home, password=password, user=user)
        clock = MovableClock(home)
        database = Postgres(
            installation,
            data_dir,
            port=postgres_port,
            user=user,
            password=password,
            log=folder / "postgres.log",
            environment=clock.environment,
        )
        # MLflow has a server of its own: a failover of the ledger's takes nothing away from MLflow.
        registry_home = account.make_home(folder / "postgres-mlflow", user)
        stack.callback(account.remove_home, folder / "postgres-mlflow")
        registry_database = Postgres(
            installation,
            postgres.init_cluster(installation, home=registry_home, password=password, user=user),
            port=choose_port(),
            user=user,
            password=password,
            log=folder / "postgres-mlflow.log",
            environment=clock.environment,
        )
        front = stack.enter_context(FaultyProxy(postgres_port))
        admin_url = postgres.postgres_url(port=front.port, password=password, database="postgres")

        config = folder / "redis.conf"
        users = acl_lines(secrets.redis_password, secrets.redis_passwords)
        redis_module.write_config(config, port=redis_port, users=users, data_dir=folder / "redis")
        redis_url = redis_module.redis_url(port=redis_port, password=secrets.redis_password, user=SET_UP_USER)
        broker = Server(
            "redis",
            redis_module.redis_program(redis_module.find_server(origin()), config),
            lambda: redis_module.redis_answers(redis_url),
            port=redis_port,
            log=folder / "redis.log",
        )

        mlflow_url = mlflow.mlflow_url(mlflow_port).replace("://", f"://{secrets.mlflow_auth('registrar')}@")
        tracking = Server(
            "mlflow",
            mlflow.mlflow_program(
                port=mlflow_port,
                backend_url=make_url(registry_database.server_url)
                .set(database="mlflow")
                .render_as_string(hide_password=False),
                artifact_root=str(folder / "artifacts"),
                cwd=folder,
                passwords=secrets.mlflow_passwords,
            ),
            lambda: mlflow.mlflow_answers(mlflow_url),
            port=mlflow_port,
            log=folder / "mlflow.log",
        )
        for server in (database, registry_database, broker):
            stack.callback(server.stop)
            server.start()
        postgres.set_up_users(admin_url, secrets.database_passwords)
        database_url = postgres.postgres_url(
            port=front.port, password=secrets.database_passwords["acis_owner"], database="acis", user="acis_owner"
        )
        features_url = postgres.create_database(admin_url, "features")
        postgres.create_database(registry_database.server_url, "mlflow")
        stack.callback(tracking.stop)
        tracking.start()
        yield Servers(
            secrets=secrets,
            redis=broker,
            postgres=database,
            mlflow=tracking,
            mlflow_postgres=registry_database,
            postgres_front=front,
            redis_proxy=stack.enter_context(FaultyProxy(redis_port)),
            postgres_proxy=stack.enter_context(FaultyProxy(postgres_port)),
            mlflow_proxy=stack.enter_context(FaultyProxy(mlflow_port)),
            clock=clock,
            admin_url=admin_url,
            redis_url=redis_url,
            database_url=database_url,
            features_url=features_url,
            mlflow_url=mlflow_url,
        )
