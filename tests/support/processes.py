"""Settings as variables of a process, and roles that are started again when they end, as a supervisor does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from pydantic import SecretStr

from config.settings import ROOT, Settings, variables
from devstack.process import die_with_parent
from mlops.failpoints import VARIABLE

#: Between the end of a role and its next start.
PAUSE_S = 0.2
STOP_S = 20.0


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as variables of a process, beside those of this one that are not ours."""
    values = {variable: getattr(settings, name) for variable, name in variables().items()}
    texts = {
        variable: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for variable, value in values.items()
        if value is not None
    }
    others = {name: value for name, value in os.environ.items() if name not in values}
    return {**others, **texts, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


@contextmanager
def started(arguments: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m ARGUMENTS` until the block ends; then it and its children are gone."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: die_with_parent(15),  # noqa: PLW1509 -- a killed test run leaves nothing
        )
    try:
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in psutil.wait_procs(children, timeout=5)[1]:
            child.kill()


def environment_for(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that the code at `root` takes: code of before ACIS_KNOWN_VARIABLES refuses those that came later."""
    known = (root / "config" / "settings.py").read_text(encoding="utf-8")
    if '"ACIS_KNOWN_VARIABLES"' in known:
        ours = ",".join(name for name in variables() if name.startswith("ACIS_"))
        return {**environment, "ACIS_KNOWN_VARIABLES": ours}
    return {name: value for name, value in environment.items() if not name.startswith("ACIS_") or f'"{name}"' in known}


@dataclass
class Role:
    """One process of the system, whoever it is by now."""

    arguments: tuple[str, ...]
    """Of `python -m worker`."""
    root: Path = ROOT
    """Where its code is."""
    own: Mapping[str, str] | None = None
    """In place of what its kind has."""
    wrapper: tuple[str, ...] = ()
    """A command that becomes the process given behind it, as `ip netns exec NAME`."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    ends: list[int] = field(default_factory=list)
    """Exit codes so far."""

    @property
    def name(self) -> str:
        """`train.cpu-b`."""
        return "-".join(self.arguments)

    @property
    def pid(self) -> int:
        """Of its main process."""
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[psutil.Process]:
        """Pool processes."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


class Roles:
    """Keeps roles alive until the block ends; then all of them are gone, and their children too."""

    def __init__(
        self,
        commands: list[tuple[str, ...]],
        environment: Mapping[str, str],
        logs: Path,
        *,
        own: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Own : what a kind of role has in its environment beside the others'"""
        self.all = [Role(arguments=command) for command in commands]
        self._environment, self._logs, self._own = dict(environment), logs, own or {}
        self._held_back: list[Role] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="roles", daemon=True)

    def __getitem__(self, name: str) -> Role:
        return next(role for role in self.all if role.name == name)

    def of(self, kind: str) -> list[Role]:
        """Those of one kind: `train.cpu`, `beat`."""
        return [role for role in self.all if role.arguments[0] == kind]

    def log(self, role: Role) -> str:
        """All that it said."""
        return (self._logs / f"{role.name}.log").read_text(errors="replace")

    @contextmanager
    def held_back(self, roles: list[Role]) -> Iterator[None]:
        """What ends of these inside the block is started again after it."""
        self._held_back = roles
        try:
            yield
        finally:
            self._held_back = []

    @contextmanager
    def joined_by(self, roles: list[Role]) -> Iterator[None]:
        """These too, until the end of the block; then they are asked to end, and are gone."""
        for role in roles:
            self._start(role)
        self.all += roles
        try:
            yield
        finally:
            self.all = [role for role in self.all if role not in roles]
            self._end(roles)

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        for role in self.all:
            self._start(role)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()
        self._end(self.all)

    def _end(self, roles: list[Role]) -> None:
        everyone = [process for role in roles for process in (*role.children(), _process(role)) if process]
        for role in roles:
            if role.process is not None:
                role.process.terminate()
        _, alive = psutil.wait_procs(everyone, timeout=STOP_S)
        for process in alive:
            process.kill()
        for role in roles:
            if role.process is not None:
                role.process.wait()
        assert not alive, f"still there {STOP_S:.0f} s after SIGTERM: {alive}"

    def _start(self, role: Role) -> None:
        own = self._own.get(role.arguments[0], {}) if role.own is None else role.own
        with (self._logs / f"{role.name}.log").open("ab") as log:
            role.process = subprocess.Popen(
                [*role.wrapper, sys.executable, "-m", "worker", *role.arguments],
                cwd=role.root,
                env=environment_for(role.root, {**self._environment, **own}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(9),  # noqa: PLW1509 -- a killed test run leaves nothing
            )
        role.starts += 1

    def _keep(self) -> None:
        while not self._closing.wait(0.05):
            for role in self.all:
                code = role.process.poll() if role.process else None
                if code is not None and role not in self._held_back:
                    role.ends.append(code)
                    time.sleep(PAUSE_S)
                    if not self._closing.is_set():
                        self._start(role)


def _process(role: Role) -> psutil.Process | None:
    try:
        return psutil.Process(role.pid)
    except psutil.NoSuchProcess:
        return None


def kill_at(place: str, program: str, arguments: list[str], folder: Path) -> None:
    """Run a Python program that is killed at a failpoint. folder : for the failpoint"""
    failpoints = folder / "failpoints"
    failpoints.mkdir()
    (failpoints / place).write_text("kill")
    ended = subprocess.run(  # noqa: PLW1510 -- it is killed
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, VARIABLE: str(failpoints), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == -9, ended.stderr[-3000:]
