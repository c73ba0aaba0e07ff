"""The whole system with its page and its prediction service, some runs behind it, and everybody who may ask it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection

from pydantic import SecretStr

from devstack.ports import choose_port
from mlops.domain.records import Kind, RunState
from mlops.domain.run_states import TERMINAL
from mlops.runs.request import run_request
from tests.chaos.leaks import secrets_of
from tests.chaos.system import ChaosSystem, left_processes, run_system
from tests.support.waiting import wait_for

WORKERS: tuple[tuple[str, ...], ...] = (("control", "a"), ("drift", "a"), ("train.cpu", "a"), ("promote", "a"))
EVERYTHING: tuple[tuple[str, ...], ...] = (*WORKERS, ("reconciler", "a"), ("admin",), ("serve",))
SEEDED = ("s1", "s2")
"""Strategies that have been through the loop once, so that each page has something to show."""
_UP_S, _RUN_S = 90.0, 120.0


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Somebody who asks."""

    name: str
    role: str
    """`nobody`, `viewer`, `operator`, `program` (with an operator's token) or `token` (narrowed to reading)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    csrf: str = ""


@dataclass(kw_only=True)
class Fuzzed:
    """What a fuzzer sees of the running system."""

    system: ChaosSystem
    actors: dict[str, Actor]
    """By role."""
    token: str
    """Of a program that asks for predictions."""
    secrets: dict[str, str]
    """What nobody may be told, by a name for it."""
    known: dict[str, Sequence[str]]
    """Of each name of a path's part, values that the system has."""

    def connect(self, role: str) -> HTTPConnection:
        """To `admin` or `serve`."""
        settings = self.system.settings
        port = settings.admin_port if role == "admin" else settings.serve_port
        return HTTPConnection("127.0.0.1", port, timeout=60)

    def sign_in(self, role: str) -> Actor:
        """A viewer or an operator with a new session, for a fuzzer may end its own."""
        ledger = self.system.services.ledger
        for user in ("anna", "olga"):
            ledger.change_user(user, role="operator", is_disabled=False)
        ledger.change_user("victor", role="viewer", is_disabled=False)
        self.actors[role] = _person(self, {"operator": "anna", "viewer": "victor"}[role], role)
        return self.actors[role]

    def run(self, strategy: str, kind: Kind = Kind.CHECK) -> str:
        """The id of a run that was accepted and sent."""
        services = self.system.services
        request = run_request(services.strategies, strategy, kind, reason="between", requested_by="fuzz")
        accepted = services.ledger.accept(request)
        if accepted.publication is not None:
            services.dispatcher.publish(accepted.publication)
            services.dispatcher.flush()
        return accepted.run_id

    def wait_for_runs(self, run_ids: Sequence[str], *, within_s: float = _RUN_S) -> dict[str, RunState]:
        """How each of them ended."""
        ledger = self.system.services.ledger
        wait_for(
            lambda: all(ledger.run(run_id).state in TERMINAL for run_id in run_ids),
            f"{len(run_ids)} runs end",
            within_s=within_s,
        )
        return {run_id: ledger.run(run_id).state for run_id in run_ids}

    def restarts(self) -> list[str]:
        """Each end of a process that nobody asked for."""
        return [f"{role.name} ended with {code}" for role in self.system.roles.all for code in role.ends]


@contextmanager
def fuzzed_system() -> Iterator[Fuzzed]:
    """The system until the block ends, and then nothing of it. Two strategies have been through the loop."""
    password = secrets.token_urlsafe(18)
    with run_system(
        roles=EVERYTHING,
        admin_port=choose_port(),
        serve_port=choose_port(),
        admin_auth=SecretStr(f"root:{password}"),
        serve_host="127.0.0.1",
    ) as system:
        fuzzed = Fuzzed(system=system, actors={}, token="", secrets={}, known={})
        _seed(fuzzed, password)
        for role in ("admin", "serve"):
            wait_for(lambda role=role: _answers(fuzzed, role), f"{role} answers", within_s=_UP_S)  # type: ignore[misc]
        yield fuzzed
    assert left_processes(system.folder) == []


def _answers(fuzzed: Fuzzed, role: str) -> bool:
    connection = fuzzed.connect(role)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _seed(fuzzed: Fuzzed, first_password: str) -> None:
    system, ledger = fuzzed.system, fuzzed.system.services.ledger
    password = secrets.token_urlsafe(18)
    for name, role in (("anna", "operator"), ("olga", "operator"), ("victor", "viewer")):
        ledger.add_user(name, password, role=role, created_by="test")
    _, narrow = ledger.add_token("narrow", user="olga", role="viewer")
    _, wide = ledger.add_token("wide", user="olga", role="operator")
    _, fuzzed.token = ledger.add_token("backend", user="olga", role="viewer")
    runs = [fuzzed.run(strategy, Kind.RETRAIN) for strategy in SEEDED]
    states = fuzzed.wait_for_runs(runs)
    assert set(states.values()) <= {RunState.SUCCEEDED, RunState.REFUSED}, states
    checks = [fuzzed.run(strategy, Kind.CHECK) for strategy in SEEDED]
    fuzzed.wait_for_runs(checks)
    token_id = ledger.tokens("olga")[0].id
    fuzzed.known |= {
        "strategy": (*SEEDED, "s3"),
        "run_id": (*runs, *checks),
        "name": (*SEEDED, "victor"),
        "token_id": (token_id + "0",),
        "word": ("drift_check", "retrain", "drift", "train"),
        "version": ("1", "2"),
        "digest": ("0" * 64,),
    }
    fuzzed.secrets |= {
        "the first user's password": first_password,
        "the users' password": password,
        "the narrow token": narrow,
        "the wide token": wide,
        "the program's token": fuzzed.token,
        **secrets_of(system),
    }
    fuzzed.actors |= {
        "nobody": Actor(name="nobody", role="nobody"),
        "token": Actor(name="olga (narrow)", role="token", headers={"authorization": f"Bearer {narrow}"}),
        "program": Actor(name="olga (wide)", role="program", headers={"authorization": f"Bearer {wide}"}),
    }
    for role in ("viewer", "operator"):
        fuzzed.sign_in(role)


def _person(fuzzed: Fuzzed, name: str, role: str) -> Actor:
    ledger = fuzzed.system.services.ledger
    cookie = ledger.open_session(name, address="127.0.0.1", agent="fuzz")
    session = ledger.session(cookie)
    assert session is not None
    fuzzed.secrets[f"a session of {name}, {len(fuzzed.secrets)}"] = cookie
    return Actor(name=name, role=role, headers={"cookie": f"acis_session={cookie}"}, csrf=session.csrf)


def names_of_the_inside(fuzzed: Fuzzed) -> dict[str, str]:
    """What a stranger may not learn: where the servers are, what they are called, who uses the page."""
    system = fuzzed.system
    machine = os.uname().nodename
    found = {
        "PostgreSQL's port": f":{system.servers.postgres_proxy.port}",
        "Redis' port": f":{system.servers.redis_proxy.port}",
        "MLflow's port": f":{system.servers.mlflow_proxy.port}",
        "the folder": str(system.folder),
        "the machine": machine,
        "a library": "sqlalchemy",
        "the driver": "psycopg",
        "a user": "victor",
        "another user": "olga",
    }
    # A short one stands in a random token by chance.
    return {name: value for name, value in found.items() if name != "the machine" or len(value) > 8}
