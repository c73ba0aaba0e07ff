"""A whole stack as its users start it: `acis up` in a var folder of its own, served until it is interrupted.

The acceptance tests share one, since a start with its two passes takes half a minute.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil

from config.endpoints import Endpoints, read_endpoints
from config.settings import ROOT, Settings
from devstack.layout import Layout
from devstack.process import VAR_VARIABLE, die_with_parent, leftovers, tail
from devstack.stack import remove_var, stop_running
from mlops.bootstrap import Services
from tasks.services import connect
from tests.support.servers import origin
from tests.support.waiting import wait_for

START_S = 600.0
"""Cold and beside other work; alone it takes 40 s, both passes included."""
# A worker may finish what it does for up to 20 s, and the servers stop after the workers.
STOP_S = 40.0
COMMAND_S = 120.0

LEASE_S, RENEW_S, RECONCILE_S = 10.0, 2.0, 2.0
"""The clockwork of the ledger, quicker than in production (60, 10, 30), so that what is killed is soon missed."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that its user saw."""
        return self.out + self.err


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Runs commands as a user does: another folder, and no variable but where the stack's files are."""

    var_dir: Path
    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        """PATH with the venv's programs first; a temporary folder of its own, where reports are looked for."""
        return {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": os.environ.get("HOME", "/"),
            "TMPDIR": str(self.folder),
            VAR_VARIABLE: str(self.var_dir),
            **more,
        }

    def run(self, command: str | Sequence[str], *, timeout_s: float = COMMAND_S, **more: str) -> Ended:
        """A command line for the shell, or a program with its arguments; killed with its children when it is late."""
        with subprocess.Popen(
            command,
            shell=isinstance(command, str),
            cwd=self.folder,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return Ended(code=process.returncode, out=out, err=err)

    def script(self, path: str, *arguments: str, **more: str) -> Ended:
        """A documented script, by its path below the repository's root."""
        return self.run([sys.executable, str(ROOT / path), *arguments], **more)


@dataclass(frozen=True, kw_only=True)
class ServedStack:
    """What the tests know of the running stack."""

    var_dir: Path
    out: Path
    err: Path
    endpoints: Endpoints

    @cached_property
    def services(self) -> Services:
        """Adapters of this process to the stack's servers."""
        return connect(Settings(**self.endpoints.settings(), var_dir=self.var_dir))  # type: ignore[arg-type]

    def rest(self) -> None:
        """Wait until no run that another test began is open."""
        wait_for(lambda: not self.services.ledger.open_runs(), "all runs have ended", within_s=120)

    def processes(self, program: str) -> list[psutil.Process]:
        """One program's processes, children included."""
        return leftovers(self.var_dir, program=program)


def as_a_background_job() -> None:
    """Ended with pytest, and with Ctrl-C ignored at first, as a shell starts what runs in the background."""
    die_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def serve(environment: Mapping[str, str]) -> Iterator[ServedStack]:
    """Start `acis up`, wait until it serves, and interrupt it at the end, as Ctrl-C does."""
    with tempfile.TemporaryDirectory(prefix="acis-acceptance-") as folder:
        var_dir, out, err = Path(folder) / "var", Path(folder) / "out", Path(folder) / "err"
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        terminal = Terminal(var_dir=var_dir, folder=temporary)
        with out.open("w") as to_out, err.open("w") as to_err:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("acis")), "up"],
                cwd=temporary,
                env=terminal.environment(ACIS_SERVERS=origin(), **environment),
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                start_new_session=True,
                preexec_fn=as_a_background_job,  # noqa: PLW1509 -- a killed pytest leaves nothing
            )
        try:
            wait_for(lambda: serves(process, err), f"`acis up` serves\n{tail(err)}", within_s=START_S)
            endpoints = read_endpoints(var_dir)
            assert endpoints is not None
            yield ServedStack(var_dir=var_dir, out=out, err=err, endpoints=endpoints)
            interrupt(process, var_dir, err)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            stop_running(Layout(var_dir=var_dir))
            with contextlib.suppress(FileNotFoundError):
                remove_var(Layout(var_dir=var_dir))
            shutil.rmtree(temporary, ignore_errors=True)


def serves(process: subprocess.Popen[bytes], err: Path) -> bool:
    """It said so."""
    text = err.read_text(encoding="utf-8")
    assert process.poll() is None, f"`acis up` ended with {process.returncode}:\n{text}"
    return "Serving." in text


def interrupt(process: subprocess.Popen[bytes], var_dir: Path, err: Path) -> None:
    """Ctrl-C: a signal to every process of the terminal's group; then nothing may be left."""
    os.killpg(process.pid, signal.SIGINT)
    code = process.wait(STOP_S)
    text = err.read_text(encoding="utf-8")
    assert code == 0, text
    assert "Everything that was started has stopped." in text
    assert "Traceback" not in text, text
    assert left_of(var_dir) == []
    assert read_endpoints(var_dir) is None


def left_of(var_dir: Path) -> list[str]:
    """Processes of a stack by the variable in their environment, and its servers, which hide theirs."""
    found = leftovers(var_dir)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            if process.environ().get(VAR_VARIABLE) == str(var_dir) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return [f"{process.pid} {' '.join(process.cmdline())}" for process in found if process.is_running()]
