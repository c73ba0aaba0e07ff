"""What runs of a stack, as another terminal sees it: each program, its address, and whether it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from config.endpoints import Endpoints, read_endpoints
from devstack.layout import Layout, Ports, holder, last_ports
from devstack.mlflow import mlflow_refuses
from devstack.plan import Urls
from devstack.ports import LOOPBACK
from devstack.readiness import is_ready, port_of, server_answers
from devstack.secrets import ensure_secrets
from devstack.supervise import Control, ProgramState
from mlops.addresses import without_credentials
from mlops.domain.errors import AcisError, ServerFailed
from mlops.volumes import Volume, volumes_of

_SERVERS = ("redis", "postgres", "mlflow")
_REFUSES = "refuses the password"


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """A server or role."""

    name: str
    address: str | None
    """Where it listens, without credentials; None of a role that takes messages alone."""
    state: str
    """supervisord's word; `given` for a server of the user's, which is not started here; `refuses the password` for an
    MLflow that answers, and not to us."""
    pid: int | None
    since: datetime | None
    """Of its last start."""
    restarts: int
    """Since the stack was started."""
    answers: bool
    """It has just answered a real request; a role turned its loop lately and serves."""


@dataclass(frozen=True, kw_only=True)
class StackStatus:
    """A stack."""

    state: Literal["serving", "starting", "stopped"]
    """`starting`, or stopping: its addresses are not announced."""
    folder: Path
    since: datetime | None
    pid: int | None
    """Of the process that started it and stops it."""
    services: Sequence[ServiceStatus]
    volumes: Sequence[Volume]

    @property
    def answers(self) -> bool:
        """All of it serves."""
        return self.state == "serving" and all(one.answers for one in self.services)


def stack_status(layout: Layout) -> StackStatus:
    """The stack of a var folder; of one that is just starting, what its supervisor knows. Raises ConfigurationError."""
    announced = read_endpoints(layout.var_dir)
    starter = holder(layout.lock_file)
    state: Literal["serving", "starting", "stopped"] = "stopped"
    if announced is not None or starter is not None:
        state = "serving" if announced is not None else "starting"
    services = [] if state == "stopped" else _services(layout, announced)
    return StackStatus(
        state=state,
        folder=layout.var_dir,
        since=announced.started_at if announced else None,
        pid=starter or (announced.supervisor_pid if announced else None),
        services=services,
        volumes=volumes_of(layout.folders) if layout.var_dir.is_dir() else [],
    )


def _services(layout: Layout, announced: Endpoints | None) -> list[ServiceStatus]:
    ports = last_ports(layout)
    if ports is None:
        return []
    try:
        secrets, _ = ensure_secrets(layout.var_dir)
        states = Control(port=ports.supervisor, password=secrets.supervisor_password).states()
    except ServerFailed:
        states = {}
    urls = _urls(announced) if announced else None
    own = [_own(state, urls, ports, layout) for state in states.values()]
    given = [_given(name, urls) for name in _SERVERS if urls is not None and name not in states and states]
    order = {name: place for place, name in enumerate(_SERVERS)}
    return sorted([*given, *own], key=lambda one: (order.get(one.name, len(order)), one.name))


def _urls(announced: Endpoints) -> Urls:
    return Urls(
        database=announced.database_url,
        broker=announced.celery_broker_url,
        results=announced.celery_result_backend,
        mlflow=announced.mlflow_tracking_uri,
        mlflow_auth=announced.mlflow_auth,
        flower=announced.flower_url,
        admin=announced.admin_url.removesuffix("/admin"),
        serve=announced.serve_url,
    )


def _own(state: ProgramState, urls: Urls | None, ports: Ports, layout: Layout) -> ServiceStatus:
    port = port_of(state.name, ports)
    answers = urls is not None and is_ready(state, urls=urls, ports=ports, layout=layout)
    return ServiceStatus(
        name=state.name,
        address=None if port is None else f"{LOOPBACK}:{port}",
        state=_REFUSES if answers is False and state.name == "mlflow" and _refused(urls) else state.state.lower(),
        pid=state.pid or None,
        since=datetime.fromtimestamp(state.started, UTC) if state.pid else None,
        restarts=max(0, state.starts - 1),
        answers=answers,
    )


def _refused(urls: Urls | None) -> bool:
    return urls is not None and mlflow_refuses(urls.mlflow, urls.mlflow_auth)


def _given(name: str, urls: Urls) -> ServiceStatus:
    url = {"redis": urls.broker, "postgres": urls.database, "mlflow": urls.mlflow}[name]
    try:
        answers = server_answers(name, urls)
    except (AcisError, ValueError):  # an address that no client can read
        answers = False
    return ServiceStatus(
        name=name,
        address=without_credentials(url).rpartition("://")[2],
        state=_REFUSES if not answers and name == "mlflow" and _refused(urls) else "given",
        pid=None,
        since=None,
        restarts=0,
        answers=answers,
    )
