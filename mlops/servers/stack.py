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

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from config.endpoints import Endpoints, process_birth, read_endpoints, remove_endpoints, write_endpoints
from mlops.addresses import without_credentials
from mlops.errors import AlreadyRunning, ServerFailed
from mlops.servers.launch import write_programs
from mlops.servers.layout import Layout, choose_ports
from mlops.servers.leftovers import end_leftovers
from mlops.servers.lock import StackLock
from mlops.servers.mlflow import mlflow_answers, page_answers
from mlops.servers.plan import DATABASE, MLFLOW_DATABASE, ROOT, Plan, StackOptions, make_plan
from mlops.servers.postgres import create_database, postgres_answers
from mlops.servers.process import tail
from mlops.servers.redis import redis_answers
from mlops.servers.secrets import FILE as SECRETS_FILE
from mlops.servers.secrets import ensure_secrets
from mlops.servers.supervise import Supervisor

OnStep = Callable[[str, str], None]
"""Called with the name of a server or role and what it does now."""

Probe = Callable[[], bool]

POLL_S = 0.1
MAX_FAILED_STARTS = 4
"""A program that fails so often while the stack starts (pauses of 1, 2, 3 s) will not come up by waiting."""


def _say_nothing(name: str, what: str) -> None:
    pass


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
        self._failed_starts: dict[str, set[int]] = {}
        self.endpoints: Endpoints | None = None

    # ---- start

    def start(self, on_step: OnStep = _say_nothing) -> Endpoints:
        """Start everything; MLflow and the roles may still be coming up at the return.

        Raises AlreadyRunning, ServerFailed, ConfigurationError; whatever is raised, nothing is left running.
        """
        self.layout.make()
        refuse_second(self.layout)
        self._lock.acquire()
        try:
            return self._start(on_step)
        except BaseException:
            self.stop()
            raise

    def _start(self, on_step: OnStep) -> Endpoints:
        end_leftovers(self.options.var_dir)  # of a stack that was killed
        secrets, _ = ensure_secrets(self.options.var_dir)
        ports = choose_ports(
            self.layout, mlflow=self.options.mlflow_port, flower=self.options.flower_port, admin=self.options.admin_port
        )
        on_step("servers", "preparing")
        self._plan = plan = make_plan(self.options, layout=self.layout, ports=ports, secrets=secrets)
        write_programs(self.layout.programs_file, plan.programs)
        self._supervisor = supervisor = Supervisor(
            self.layout, plan.groups, port=ports.supervisor, password=secrets.supervisor_password, root=ROOT
        )
        supervisor.wait_until_up()
        self._start_servers(on_step)
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

    def _start_servers(self, on_step: OnStep) -> None:
        supervisor, plan = self._running()
        probes: dict[str, Probe] = {}
        names = {program.name for program in plan.servers}
        if "redis" in names:
            probes["redis"] = lambda: redis_answers(plan.urls.broker)
        admin_url = plan.postgres_admin_url
        if admin_url is not None:
            probes["postgres"] = lambda: postgres_answers(admin_url)
        if probes:
            for name in probes:
                on_step(name, "starting")
            supervisor.start_group("servers")
            self._wait(probes, deadline=time.monotonic() + 60, on_step=on_step)
        if admin_url is not None:
            create_database(admin_url, DATABASE)
            if plan.tracking:
                create_database(admin_url, MLFLOW_DATABASE)

    def _make_endpoints(self, pid: int, plan: Plan) -> Endpoints:
        return Endpoints(
            database_url=plan.urls.database,
            celery_broker_url=plan.urls.broker,
            celery_result_backend=plan.urls.results,
            mlflow_tracking_uri=plan.urls.mlflow,
            flower_url=plan.urls.flower,
            flower_credentials=self.options.var_dir / SECRETS_FILE,
            admin_url=f"{plan.urls.admin}/admin",
            strategies_file=self.options.strategies_file,
            var_dir=self.options.var_dir,
            supervisor_pid=pid,
            supervisor_birth=process_birth(pid),
            started_at=datetime.now(UTC),
        )

    # ---- watch

    def wait_healthy(self, timeout_s: float = 120.0, *, on_step: OnStep = _say_nothing) -> None:
        """Return when MLflow, Flower and the admin page answer, every role has run for a while, and `ready` holds.

        Raises ServerFailed with the end of the log of what does not come up.
        """
        _, plan = self._running()
        probes: dict[str, Probe] = {program.name: self._role_probe(program.name) for program in plan.roles}
        if plan.tracking:
            probes["mlflow"] = lambda: mlflow_answers(plan.urls.mlflow)
        if "flower" in probes:
            probes["flower"] = lambda: page_answers(f"{plan.urls.flower}/healthcheck")
        if "admin" in probes:
            probes["admin"] = lambda: page_answers(f"{plan.urls.admin}/healthz")
        self._wait(probes | self._ready, deadline=time.monotonic() + timeout_s, on_step=on_step)

    def _role_probe(self, name: str) -> Probe:
        def is_up() -> bool:
            supervisor, _ = self._running()
            return supervisor.states()[name].state == "RUNNING"

        return is_up

    def _wait(self, probes: Mapping[str, Probe], *, deadline: float, on_step: OnStep) -> None:
        begun = time.monotonic()
        waiting = dict(probes)
        while True:
            for name in [name for name, probe in waiting.items() if probe()]:
                del waiting[name]
                on_step(name, f"ready after {time.monotonic() - begun:.1f} s")
            if not waiting:
                return
            self._give_up_on_failures()
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {name}\n{tail(self.layout.log(name))}" for name in waiting)
                message = f"not up after {time.monotonic() - begun:.0f} s: {', '.join(waiting)}\n{tails}"
                raise ServerFailed(message)
            time.sleep(POLL_S)

    def _give_up_on_failures(self) -> None:
        supervisor, _ = self._running()
        for name, state in supervisor.states().items():
            if state.state == "BACKOFF":
                failed = self._failed_starts.setdefault(name, set())
                failed.add(state.started)
                if len(failed) >= MAX_FAILED_STARTS:
                    log = self.layout.log(name)
                    message = f"{name} keeps failing; the end of {log}:\n{tail(log)}"
                    raise ServerFailed(message)

    def troubles(self) -> list[Trouble]:
        """Programs that are down now; the supervisor starts them again by itself.

        Raises ServerFailed when the supervisor has died.
        """
        supervisor, _ = self._running()
        return [
            Trouble(name=name, state=state.state, log_tail=tail(self.layout.log(name)))
            for name, state in supervisor.states().items()
            if state.state in {"BACKOFF", "FATAL", "EXITED"}
        ]

    def _running(self) -> tuple[Supervisor, Plan]:
        if self._supervisor is None or self._plan is None:
            message = "the stack was not started"
            raise ServerFailed(message)
        return self._supervisor, self._plan

    # ---- stop

    def stop(self) -> None:
        """Stop everything that was started, and whatever a killed role left behind; safe to repeat."""
        try:
            if self._supervisor is not None:
                remove_endpoints(self.options.var_dir)
                self._supervisor.stop()
                self._supervisor = None
                end_leftovers(self.options.var_dir)
        finally:
            self._lock.release()


def refuse_second(layout: Layout) -> None:
    """Raises AlreadyRunning, with the URLs, when a stack runs in this var folder."""
    running = read_endpoints(layout.var_dir)
    if running is not None:
        message = (
            f"it runs already, since {running.started_at:%Y-%m-%d %H:%M:%S} UTC "
            f"(process {running.supervisor_pid}): MLflow {without_credentials(running.mlflow_tracking_uri)}, "
            f"Flower {running.flower_url}, admin page {running.admin_url}; data in {running.var_dir}"
        )
        raise AlreadyRunning(message)
