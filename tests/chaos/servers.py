"""Redis, PostgreSQL and MLflow that a test can kill, stop and start again on the same port, each behind a proxy."""

from __future__ import annotations

import contextlib
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from sqlalchemy.engine import make_url

from mlops.servers import account, mlflow, postgres
from mlops.servers import redis as redis_module
from mlops.servers.ports import choose_port
from mlops.servers.process import Child
from mlops.servers.program import Program
from tests.chaos.clock import MovableClock
from tests.chaos.proxy import FaultyProxy
from tests.support.servers import origin

UP_S = 60.0


class Server:
    """One server's process, whoever it is by now."""

    def __init__(self, name: str, program: Program, answers: Callable[[], bool], *, port: int, log: Path) -> None:
        self.name, self.port = name, port
        self._program, self._answers, self._log = program, answers, log
        self._child: Child | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._child = Child(self._program, log=self._log)
        self._child.wait_until(self._answers, timeout_s=UP_S)

    def start_again(self) -> None:
        """What a supervisor does with a server that has ended, without waiting for its answer."""
        if self._child is not None and self._child.process.poll() is not None:
            self._child = Child(self._program, log=self._log)

    def answers(self) -> bool:
        """It does."""
        return self._answers()

    def stop(self) -> None:
        """An orderly end."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """SIGKILL to it and all its children."""
        assert self._child is not None
        main = psutil.Process(self._child.process.pid)
        for process in [*main.children(recursive=True), main]:
            with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL's own children come and go
                process.kill()
        self._child.process.wait()
        self._child = None

    def signal(self, number: signal.Signals) -> None:
        """To its main process."""
        assert self._child is not None
        self._child.process.send_signal(number)


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The three, with their addresses: direct ones for the test, those of the proxies for the system."""

    redis: Server
    postgres: Server
    mlflow: Server
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
        return (self.redis, self.postgres, self.mlflow)

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
    password = secrets.token_urlsafe(16)
    user = account.server_account()
    home = account.make_home(folder / "postgres", user)
    with ExitStack() as stack:
        stack.callback(account.remove_home, folder / "postgres")
        redis_port, postgres_port, mlflow_port = choose_port(), choose_port(), choose_port()

        installation = postgres.reachable(postgres.find_installation(origin()), home=home, user=user)
        data_dir = postgres.init_cluster(installation, home=home, password=password, user=user)
        admin_url = postgres.postgres_url(port=postgres_port, password=password, database="postgres")
        clock = MovableClock(home)
        program = postgres.postgres_program(installation, data_dir=data_dir, port=postgres_port, user=user)
        database = Server(
            "postgres",
            replace(program, environment={**program.environment, **clock.environment}),
            lambda: postgres.postgres_answers(admin_url),
            port=postgres_port,
            log=folder / "postgres.log",
        )

        config = folder / "redis.conf"
        redis_module.write_config(config, port=redis_port, password=password, data_dir=folder / "redis")
        redis_url = redis_module.redis_url(port=redis_port, password=password)
        broker = Server(
            "redis",
            redis_module.redis_program(redis_module.find_server(origin()), config),
            lambda: redis_module.redis_answers(redis_url),
            port=redis_port,
            log=folder / "redis.log",
        )

        mlflow_url = mlflow.mlflow_url(mlflow_port)
        tracking = Server(
            "mlflow",
            mlflow.mlflow_program(
                port=mlflow_port,
                backend_url=make_url(admin_url).set(database="mlflow").render_as_string(hide_password=False),
                artifact_root=str(folder / "artifacts"),
                cwd=folder,
            ),
            lambda: mlflow.mlflow_answers(mlflow_url),
            port=mlflow_port,
            log=folder / "mlflow.log",
        )
        for server in (database, broker):
            stack.callback(server.stop)
            server.start()
        database_url = postgres.create_database(admin_url, "acis")
        features_url = postgres.create_database(admin_url, "features")
        postgres.create_database(admin_url, "mlflow")
        stack.callback(tracking.stop)
        tracking.start()
        yield Servers(
            redis=broker,
            postgres=database,
            mlflow=tracking,
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
