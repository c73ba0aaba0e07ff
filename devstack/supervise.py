"""supervisord over the programs of a stack: its configuration, its process, its control.

Groups stop one after the other, the last first; within a group all stop at once: roles, then MLflow, then
Redis and PostgreSQL, which everything else needs to end well.
"""

from __future__ import annotations

import os
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from config.endpoints import PROGRAMS_VARIABLE
from config.private_file import write_private
from devstack.layout import Layout
from devstack.ports import LOOPBACK
from devstack.process import VAR_VARIABLE, Child, Program, log_size, tail
from mlops.domain.errors import ServerFailed

USER = "acis"
_PYTHON_VARIABLE = "STACK_PYTHON"

STOP_S = 45
"""From SIGTERM to SIGKILL of supervisord: the longest stop of each group (20 + 10 + 10 s) and some."""

UP_S = 120
"""For supervisord itself: an import of half a second, on a machine that may be busy."""

_Groups = Mapping[str, Sequence[Program]]
"""Programs by group, in the order of starting."""


def render_config(groups: _Groups, *, port: int, password: str) -> str:
    """The configuration; paths are relative to its folder or come from the environment: no quoting."""
    lines = [
        "[supervisord]",
        "nodaemon=true",
        "silent=true",
        "logfile=../log/supervisord.log",
        "logfile_maxbytes=5MB",
        "logfile_backups=2",
        "pidfile=supervisord.pid",
        "childlogdir=.",
        "umask=077",
        *(["user=root"] if os.geteuid() == 0 else []),  # said plainly, else it warns at every start
        "",
        "[inet_http_server]",
        f"port={LOOPBACK}:{port}",
        f"username={USER}",
        f"password={password}",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "",
        "[rpcinterface:acis]",
        "supervisor.rpcinterface_factory=devstack.supervisord:make_start_counter",
        "",
    ]
    for priority, (group, programs) in enumerate(groups.items(), start=1):
        lines += [
            f"[group:{group}]",
            f"programs={','.join(program.name for program in programs)}",
            f"priority={priority}",
            "",
        ]
        for program in programs:
            lines += _program_lines(program)
    return "\n".join(lines)


def _program_lines(program: Program) -> list[str]:
    return [
        f"[program:{program.name}]",
        f'command="%(ENV_{_PYTHON_VARIABLE})s" -m devstack.launch "%(ENV_{PROGRAMS_VARIABLE})s" {program.name}',
        "autostart=false",  # the stack starts them in its own order
        "autorestart=true",
        f"startsecs={program.settled_s}",
        # The pause before the n-th try is n seconds, and it never gives up: a role whose server is away
        # for an hour comes back by itself.
        "startretries=1000000",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_wait_s}",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile=../log/{program.name}.log",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=3",
        "",
    ]


@dataclass(frozen=True, kw_only=True)
class ProgramState:
    """What supervisord knows of a program."""

    name: str
    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF (failed to start, tried again soon), STOPPING, EXITED, FATAL."""
    pid: int
    """0 where none runs."""
    started: int
    """Second of the last start, by the wall clock."""
    starts: int
    """How often it was started since the stack was."""


class Control:
    """supervisord's control, from this process or from another terminal."""

    def __init__(self, *, port: int, password: str) -> None:
        self._url = f"http://{USER}:{password}@{LOOPBACK}:{port}/RPC2"

    def answers(self) -> bool:
        """It does, and takes our password."""
        try:
            self.call("supervisor.getState")
        except ServerFailed:
            return False
        return True

    def call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401 -- answers are not typed
        """Ask it something. Raises ServerFailed."""
        try:
            # One connection for each call: supervisord closes idle ones.
            with xmlrpc.client.ServerProxy(self._url) as proxy:
                return getattr(proxy, method)(*arguments)
        except (OSError, HTTPException, xmlrpc.client.Error) as exc:
            raise ServerFailed(f"supervisord does not answer ({exc})") from exc

    def states(self) -> dict[str, ProgramState]:
        """All programs by name. Raises ServerFailed."""
        starts = self.call("acis.starts")
        return {
            str(one["name"]): ProgramState(
                name=str(one["name"]),
                state=str(one["statename"]),
                pid=int(one["pid"]),
                started=int(one["start"]),
                starts=int(starts.get(one["name"], 0)),
            )
            for one in self.call("supervisor.getAllProcessInfo")
        }


class Supervisor:
    """A supervisord of our own; ends with this process, whatever ends it."""

    def __init__(self, layout: Layout, groups: _Groups, *, port: int, password: str, root: Path) -> None:
        """`root`: folder of our own packages."""
        self._layout = layout
        self._control = Control(port=port, password=password)
        self._log_begins = log_size(layout.log("supervisord"))
        config = layout.supervisor_config
        write_private(config, render_config(groups, port=port, password=password))
        self._child = Child(
            Program(
                name="supervisord",
                command=(sys.executable, "-m", "devstack.supervisord", "-c", str(config)),
                environment={
                    _PYTHON_VARIABLE: sys.executable,
                    PROGRAMS_VARIABLE: str(layout.programs_file),
                    VAR_VARIABLE: str(layout.var_dir),
                    "PYTHONPATH": os.pathsep.join(part for part in (str(root), os.environ.get("PYTHONPATH")) if part),
                },
                cwd=layout.run_dir,  # the configuration's paths are relative to it
                stop_wait_s=STOP_S,
            ),
            log=layout.log("supervisord-output"),
        )

    @property
    def pid(self) -> int:
        """Of supervisord."""
        return self._child.process.pid

    def is_alive(self) -> bool:
        """Supervisord itself runs."""
        return self._child.process.poll() is None

    def wait_until_up(self) -> None:
        """Return when it answers. Raises ServerFailed."""
        self._child.wait_until(self._control.answers, timeout_s=UP_S)

    def start_group(self, group: str) -> None:
        """Start the group's programs, without waiting for them."""
        self._control.call("supervisor.startProcessGroup", group, False)

    def states(self) -> dict[str, ProgramState]:
        """All programs by name. Raises ServerFailed when supervisord has died."""
        try:
            return self._control.states()
        except ServerFailed as exc:
            log = self._layout.log("supervisord")
            raise ServerFailed(f"{exc}; the end of {log}:\n{tail(log, since=self._log_begins)}") from exc

    def stop(self) -> None:
        """Stop all groups in reverse order, then supervisord."""
        self._child.stop()
