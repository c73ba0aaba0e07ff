"""The whole system on one machine: real servers and our own roles under one supervisor.

stack = Stack(options, prepare=migrate_and_load)
try:
    endpoints = stack.start(on_step)      # from the main thread: supervisord ends with the starting thread
    stack.wait_healthy(on_step=on_step)
    …                                      # look at stack.troubles() now and then
finally:
    stack.stop()
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil

from config.endpoints import Endpoints, process_birth, read_endpoints, remove_endpoints, write_endpoints
from devstack.account import remove_home
from devstack.launch import write_programs
from devstack.layout import Layout, Ports, StackLock, choose_ports, holder
from devstack.plan import ROOT, Plan, StackOptions, make_plan
from devstack.ports import HeldPorts, listens, somebody_listens
from devstack.postgres import postgres_answers, set_up_users
from devstack.process import NO_WORDS, end_leftovers, leftovers, log_size, tail
from devstack.readiness import STALL_S, Progress, is_ready, port_of, work_of
from devstack.redis import redis_answers
from devstack.secrets import FILE as SECRETS_FILE
from devstack.secrets import Secrets, ensure_secrets
from devstack.supervise import ProgramState, Supervisor
from mlops.addresses import without_credentials
from mlops.domain.errors import AlreadyRunning, ServerFailed
from mlops.volumes import Volume, full_in_words, volumes_of

OnStep = Callable[[str, str], None]
"""Called with the name of a server or role and what it does now."""

Probe = Callable[[], bool]

POLL_S = 0.1
LOOK_S = 1.0
"""Between two looks at what the starting programs use, each of which reads the whole process table for each."""
_TELL_S = 10.0
"""Between two words about what a program that is waited for does."""
_MAX_FAILED_STARTS = 4
"""A program that fails so often while the stack starts (pauses of 1, 2, 3 s) will not come up by waiting."""
_MAX_LOST_PORTS = 5
"""Starts that lost a port to another program; the next one would lose one as well."""

_DOES = {
    "STOPPED": "not started yet",
    "STARTING": "starting",
    "RUNNING": "runs, and does not answer yet",
    "BACKOFF": "ended while it started, and is tried again",
}


def _say_nothing(name: str, what: str) -> None:
    pass


class PortLost(ServerFailed):
    """Another program took a port between its choice and the moment when a server of ours wanted to listen there."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(f"port {port} of {name} was taken by another program, {_MAX_LOST_PORTS} times in a row")
        self.name, self.port = name, port


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A program that is not up."""

    name: str
    state: str
    log_tail: str


class Stack:
    """Servers, then what prepares them, then our roles; stopped in reverse order."""

    def __init__(
        self,
        options: StackOptions,
        *,
        prepare: Callable[[Endpoints], None] = lambda _: None,
        ready: Mapping[str, Probe] | None = None,
    ) -> None:
        """`prepare` runs when the servers answer and before the roles start (migrations, sample).

        `ready` adds conditions to `wait_healthy`, by a name to show.
        """
        self.options = options
        self.layout = Layout(var_dir=options.var_dir)
        self._prepare = prepare
        self._ready = dict(ready or {})
        self._lock = StackLock(self.layout.lock_file)
        self._supervisor: Supervisor | None = None
        self._plan: Plan | None = None
        self._held = HeldPorts()
        self._ports: Ports | None = None
        self._states: Mapping[str, ProgramState] = {}
        self._lost: set[int] = set()
        self._suspects: dict[str, int] = {}
        self._failed_starts: dict[str, set[int]] = {}
        self._log_begins: dict[str, int] = {}
        self.endpoints: Endpoints | None = None

    # ---- start

    def start(self, on_step: OnStep = _say_nothing) -> Endpoints:
        """Start everything; MLflow and the roles may still be coming up at the return.

        Raises AlreadyRunning, ServerFailed, ConfigurationError; whatever is raised, nothing is left running.
        """
        self.layout.make()
        _refuse_second(self.layout)
        self._lock.acquire()
        try:
            return self._start_until_ports_are_ours(on_step)
        except BaseException:
            self.stop()
            raise

    def _start_until_ports_are_ours(self, on_step: OnStep) -> Endpoints:
        while True:
            try:
                return self._start(on_step)
            except PortLost as exc:
                self._give_up_port(exc, on_step)

    def _give_up_port(self, exc: PortLost, on_step: OnStep) -> None:
        """Everything is started anew, since everybody was told the old address."""
        if len(self._lost) >= _MAX_LOST_PORTS:
            raise exc
        self._lost.add(exc.port)
        on_step(exc.name, f"port {exc.port} was taken by another program; starting on another one")
        self._end_programs()

    def _start(self, on_step: OnStep) -> Endpoints:
        end_leftovers(self.options.var_dir)  # of a stack that was killed
        secrets, _ = ensure_secrets(self.options.var_dir)
        self._held.release()
        self._ports = ports = choose_ports(
            self.layout,
            self._held,
            mlflow=self.options.mlflow_port,
            flower=self.options.flower_port,
            admin=self.options.admin_port,
            serve=self.options.serve_port,
            lost=self._lost,
        )
        on_step("servers", "preparing")
        self._plan = plan = make_plan(self.options, layout=self.layout, ports=ports, secrets=secrets)
        self._log_begins = {program.name: log_size(self.layout.log(program.name)) for program in plan.programs}
        self._failed_starts, self._suspects = {}, {}
        write_programs(self.layout.programs_file, plan.programs)
        self._supervisor = supervisor = Supervisor(
            self.layout, plan.groups, port=ports.supervisor, password=secrets.supervisor_password, root=ROOT
        )
        try:
            supervisor.wait_until_up()
        except ServerFailed as exc:
            if somebody_listens(ports.supervisor):
                raise PortLost("supervisord", ports.supervisor) from exc
            raise
        self._start_servers(on_step, secrets)
        if plan.tracking:
            on_step("mlflow", "starting")
            supervisor.start_group("tracking")
        endpoints = self._make_endpoints(supervisor.pid, plan)
        on_step("prepare", "starting")
        self._prepare(endpoints)
        on_step("prepare", "ready")
        self.endpoints = endpoints
        write_endpoints(endpoints)
        if plan.roles:
            for program in plan.roles:
                on_step(program.name, "starting")
            supervisor.start_group("roles")
        return endpoints

    def _start_servers(self, on_step: OnStep, secrets: Secrets) -> None:
        supervisor, plan, _ = self._running()
        probes: dict[str, Probe] = {}
        names = {program.name for program in plan.servers}
        if "redis" in names:
            probes["redis"] = lambda: redis_answers(plan.urls.broker) and self._is_ours("redis")
        admin_url = plan.postgres_admin_url
        if admin_url is not None:
            probes["postgres"] = lambda: postgres_answers(admin_url) and self._is_ours("postgres")
        if probes:
            for name in probes:
                on_step(name, "starting")
            supervisor.start_group("servers")
            self._wait(probes, stall_s=STALL_S, on_step=on_step)
        if admin_url is not None:
            set_up_users(admin_url, secrets.database_passwords)

    def _make_endpoints(self, pid: int, plan: Plan) -> Endpoints:
        return Endpoints(
            database_url=plan.urls.database,
            celery_broker_url=plan.urls.broker,
            celery_result_backend=plan.urls.results,
            mlflow_tracking_uri=plan.urls.mlflow,
            mlflow_auth=plan.urls.mlflow_auth,
            flower_url=plan.urls.flower,
            flower_credentials=self.options.var_dir / SECRETS_FILE,
            admin_url=f"{plan.urls.admin}/admin",
            serve_url=plan.urls.serve,
            strategies_file=self.options.strategies_file,
            var_dir=self.options.var_dir,
            supervisor_pid=pid,
            supervisor_birth=process_birth(pid),
            started_at=datetime.now(UTC),
        )

    # ---- watch

    def wait_healthy(self, *, stall_s: float = STALL_S, on_step: OnStep = _say_nothing) -> None:
        """Return when every server and role has answered, and `ready` holds; as long as something gets on.

        Raises ServerFailed with the end of the log, of this start, of what does not come up.
        """
        while True:
            _, plan, _ = self._running()
            names = [program.name for program in (*plan.tracking, *plan.roles)]
            probes: dict[str, Probe] = {name: self._readiness(name) for name in names}
            try:
                self._wait(probes | self._ready, stall_s=stall_s, on_step=on_step)
            except PortLost as exc:
                self._give_up_port(exc, on_step)
                self._start_until_ports_are_ours(on_step)
            else:
                return

    def _readiness(self, name: str) -> Probe:
        def probe() -> bool:
            _, plan, ports = self._running()
            return is_ready(self._states[name], urls=plan.urls, ports=ports, layout=self.layout)

        return probe

    def _is_ours(self, name: str) -> bool:
        """What answers at the program's port is the program."""
        _, _, ports = self._running()
        port = port_of(name, ports)
        return port is not None and listens(self._states[name].pid, port)

    def _wait(self, probes: Mapping[str, Probe], *, stall_s: float, on_step: OnStep) -> None:
        begun = time.monotonic()
        waiting, progress, told = dict(probes), Progress(), dict.fromkeys(probes, ("", begun))
        supervisor, _, _ = self._running()
        looked_at, stalled_s = begun, 0.0
        while True:
            self._states = supervisor.states()  # for all probes of this look
            for name in [name for name, probe in waiting.items() if probe()]:
                del waiting[name]
                progress.moved()
                on_step(name, f"ready after {time.monotonic() - begun:.1f} s")
            if not waiting:
                return
            states = {name: state for name, state in self._states.items() if name in waiting}
            full = self.full_volumes()
            if full:
                progress.moved()  # space that comes back is enough
            else:
                self._give_up_on_failures(states)
            self._look_for_strangers(states)
            if time.monotonic() - looked_at >= LOOK_S:
                looked_at, stalled_s = time.monotonic(), progress.look(work_of(states.values()))
            self._tell(waiting, states, full, told, on_step)
            if stalled_s > stall_s:
                tails = "\n".join(f"--- {self.layout.log(name)}\n{self._said(name)}" for name in waiting)
                message = (
                    f"not up after {time.monotonic() - begun:.0f} s, and nothing moved for the last {stalled_s:.0f} s: "
                    f"{', '.join(waiting)}\n{tails}"
                )
                raise ServerFailed(message)
            time.sleep(POLL_S)

    def _tell(
        self,
        waiting: Mapping[str, Probe],
        states: Mapping[str, ProgramState],
        full: list[Volume],
        told: dict[str, tuple[str, float]],
        on_step: OnStep,
    ) -> None:
        """What each program that is waited for does now, when it does something else and not too often."""
        now = time.monotonic()
        for name in waiting:
            before, at = told[name]
            if now - at < _TELL_S:
                continue
            state = states.get(name)
            does = _DOES.get(state.state, state.state.lower()) if state else "not there yet"
            last = self._said(name, lines=1)
            said = "" if last == NO_WORDS else f"; its log: {last[:80]}"
            words = f"waits: {full_in_words(full)}" if full else does + said
            if words != before:
                told[name] = (words, now)
                on_step(name, words)

    def _give_up_on_failures(self, states: Mapping[str, ProgramState]) -> None:
        for name, state in states.items():
            if state.state == "BACKOFF":
                failed = self._failed_starts.setdefault(name, set())
                failed.add(state.started)
                if len(failed) >= _MAX_FAILED_STARTS:
                    raise ServerFailed(f"{name} keeps failing; the end of {self.layout.log(name)}:\n{self._said(name)}")

    def _look_for_strangers(self, states: Mapping[str, ProgramState]) -> None:
        """Raises PortLost where somebody else listens on a program's port, at three looks at it and its children."""
        _, _, ports = self._running()
        for name, state in states.items():
            port = port_of(name, ports)
            if port is None or state.state == "STOPPED" or not somebody_listens(port) or listens(state.pid, port):
                self._suspects.pop(name, None)
                continue
            self._suspects[name] = self._suspects.get(name, 0) + 1
            if self._suspects[name] >= 3:
                raise PortLost(name, port)

    def _said(self, name: str, *, lines: int = 15) -> str:
        """The end of a program's log, of this start alone."""
        return tail(self.layout.log(name), lines, since=self._log_begins.get(name, 0))

    def troubles(self) -> list[Trouble]:
        """Programs that are down now; the supervisor starts them again by itself.

        Raises ServerFailed when the supervisor has died.
        """
        supervisor, _, _ = self._running()
        return [
            Trouble(name=name, state=state.state, log_tail=self._said(name))
            for name, state in supervisor.states().items()
            if state.state in {"BACKOFF", "FATAL", "EXITED"}
        ]

    def full_volumes(self) -> list[Volume]:
        """Volumes of ours on which nothing can be written now."""
        return [volume for volume in volumes_of(self.layout.folders) if volume.is_full]

    def _running(self) -> tuple[Supervisor, Plan, Ports]:
        if self._supervisor is None or self._plan is None or self._ports is None:
            message = "the stack was not started"
            raise ServerFailed(message)
        return self._supervisor, self._plan, self._ports

    # ---- stop

    def stop(self) -> None:
        """Stop everything that was started, and whatever a killed role left behind; safe to repeat."""
        try:
            self._end_programs()
        finally:
            self._held.release()
            self._lock.release()

    def _end_programs(self) -> None:
        if self._supervisor is not None:
            remove_endpoints(self.options.var_dir)
            self._supervisor.stop()
            self._supervisor = None
            end_leftovers(self.options.var_dir)


def _refuse_second(layout: Layout) -> None:
    """Raises AlreadyRunning, with the URLs, when a stack runs in this var folder."""
    running = read_endpoints(layout.var_dir)
    if running is not None:
        message = (
            f"it runs already, since {running.started_at:%Y-%m-%d %H:%M:%S} UTC "
            f"(process {running.supervisor_pid}): MLflow {without_credentials(running.mlflow_tracking_uri)}, "
            f"Flower {running.flower_url}, admin page {running.admin_url}; data in {running.var_dir}"
        )
        raise AlreadyRunning(message)


# ---- Stop a stack from another terminal, and remove what it wrote


def stop_running(layout: Layout, *, timeout_s: float = 60.0) -> bool:
    """Stop the stack of this var folder, also one whose starter was killed; False where none ran.

    Orderly first; what has not ended by the timeout is ended by force. Raises ServerFailed where a process is left.
    """
    running = read_endpoints(layout.var_dir)
    starter = holder(layout.lock_file)
    target = starter or (running.supervisor_pid if running else None)
    if target is not None:
        _end(target, timeout_s=timeout_s)
    ended = end_leftovers(layout.var_dir)
    left = leftovers(layout.var_dir)
    if left or holder(layout.lock_file) is not None:
        pids = ", ".join(str(process.pid) for process in left) or str(holder(layout.lock_file))
        raise ServerFailed(f"still there after all: process {pids}; look at {layout.log_dir}, and end it yourself")
    remove_endpoints(layout.var_dir)
    return target is not None or bool(ended)


def _end(pid: int, *, timeout_s: float) -> None:
    """SIGTERM, on which the starter stops everything in order; SIGKILL after the timeout, on which the rest follows."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.terminate()
        try:
            process.wait(timeout_s)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(timeout_s)


def remove_var(layout: Layout) -> bool:
    """Remove the var folder with everything in it; False where there is none. Raises AlreadyRunning."""
    if not layout.var_dir.is_dir():
        return False
    _refuse_second(layout)
    if layout.run_dir.is_dir():
        with StackLock(layout.lock_file):
            end_leftovers(layout.var_dir)
            _remove(layout)
    else:
        _remove(layout)
    return True


def _remove(layout: Layout) -> None:
    if layout.postgres_home.exists() or layout.postgres_home.is_symlink():
        remove_home(layout.postgres_home)
    shutil.rmtree(layout.var_dir)
