"""Where a stack keeps its files, and on which ports it listens."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.ports import HeldPorts
from mlops.domain.errors import AlreadyRunning, ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Paths below the var folder."""

    var_dir: Path
    """Made absolute: programs of other working folders get it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "var_dir", self.var_dir.absolute())

    @property
    def run_dir(self) -> Path:
        """Files of the running stack; hold secrets."""
        return self.var_dir / "run"

    @property
    def log_dir(self) -> Path:
        """A log for each program, rotated."""
        return self.var_dir / "log"

    @property
    def redis_dir(self) -> Path:
        """Redis' append-only file."""
        return self.var_dir / "redis"

    @property
    def postgres_home(self) -> Path:
        """PostgreSQL's cluster; when started as root it may be a link (see `account`)."""
        return self.var_dir / "postgres"

    @property
    def artifact_dir(self) -> Path:
        """MLflow's artifacts, unless MLFLOW_ARTIFACT_ROOT says otherwise."""
        return self.var_dir / "mlflow-artifacts"

    @property
    def mlflow_sqlite(self) -> Path:
        """MLflow's own database, where PostgreSQL is the user's."""
        return self.var_dir / "mlflow.db"

    @property
    def ports_file(self) -> Path:
        """The ports of the last start."""
        return self.var_dir / "ports.json"

    @property
    def supervisor_config(self) -> Path:
        """Generated at every start."""
        return self.run_dir / "supervisord.conf"

    @property
    def programs_file(self) -> Path:
        """The programs with their environments; generated at every start."""
        return self.run_dir / "programs.json"

    @property
    def redis_config(self) -> Path:
        """Generated at every start."""
        return self.run_dir / "redis.conf"

    @property
    def lock_file(self) -> Path:
        """Locked by the process that starts and stops the stack."""
        return self.run_dir / "lock"

    @property
    def folders(self) -> list[Path]:
        """Folders that may lie on volumes of their own."""
        return [self.var_dir, self.log_dir, self.redis_dir, self.postgres_home.resolve(), self.artifact_dir]

    def log(self, program: str) -> Path:
        """The log of a program."""
        return self.log_dir / f"{program}.log"

    def make(self) -> None:
        """Make the folders. Raises ConfigurationError where we may not write."""
        try:
            if not self.var_dir.exists():
                # Root's PostgreSQL runs as another account, which must pass this folder but not list it.
                self.var_dir.mkdir(parents=True)
                self.var_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (self.run_dir, self.log_dir, self.artifact_dir):
                folder.mkdir(exist_ok=True, mode=0o700)
            if not os.access(self.run_dir, os.W_OK):
                raise PermissionError(13, "not ours to write", str(self.run_dir))
        except OSError as exc:
            message = f"cannot use {self.var_dir} for the servers' data: {exc}; set ACIS_VAR_DIR to another folder"
            raise ConfigurationError(message) from exc


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Loopback ports of a stack."""

    mlflow: int
    flower: int
    admin: int
    serve: int
    redis: int
    postgres: int
    supervisor: int
    """supervisord's control."""


def choose_ports(
    layout: Layout,
    held: HeldPorts,
    *,
    mlflow: int = 5000,
    flower: int = 5555,
    admin: int = 3000,
    serve: int = 8080,
    lost: Collection[int] = (),
) -> Ports:
    """Ports that are ours from now on: those of the last start, else the wanted ones, else any free ones.

    They are remembered for the next start. `lost`: taken by others while a server of ours started.
    """
    wanted = {"mlflow": mlflow, "flower": flower, "admin": admin, "serve": serve}
    last = _last_ports(layout.ports_file)
    chosen: dict[str, int] = {}
    for name in (one.name for one in fields(Ports)):
        preferred = [port for port in (last.get(name), wanted.get(name)) if port]
        # A wanted port may not be given to somebody else first.
        others = {*chosen.values(), *(port for other, port in wanted.items() if other != name), *lost}
        chosen[name] = held.take(preferred, taken=others)
    ports = Ports(**chosen)
    layout.ports_file.touch(mode=0o600)
    layout.ports_file.write_text(json.dumps(asdict(ports), indent=1), encoding="utf-8")
    return ports


def last_ports(layout: Layout) -> Ports | None:
    """The ports of the last start; None where there was none."""
    try:
        return Ports(**_last_ports(layout.ports_file))
    except TypeError:
        return None


def _last_ports(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(port) for name, port in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # never started, or not readable: any free port will do


# ---- One stack in one var folder: a lock that the kernel takes back when its holder dies


class StackLock:
    """Held from before the first server starts until after the last has stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises AlreadyRunning when another process holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            message = (
                f"process {holder(self._path) or '(unknown)'} is starting or stopping the servers of "
                f"{self._path.parents[1]}; wait for it, or use another folder with ACIS_VAR_DIR"
            )
            raise AlreadyRunning(message) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next one start; safe to repeat."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(path: Path) -> int | None:
    """The process that holds the lock now; None where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode()
        return int(text) if text.isdecimal() else None
    finally:
        os.close(descriptor)
    return None
