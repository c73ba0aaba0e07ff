"""The faults. Each is injected, lasts, and ends; then a question is left that is true once the system has recovered.

What "recovered" asks: that the stages which the fault hit are held by somebody else or have ended; where it hit none,
that a check asked for after the fault comes to its end.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil
import redis
from sqlalchemy import MetaData, Table, create_engine, text
from sqlalchemy.exc import OperationalError

from config.roles import SECRETS
from devstack.backup import back_up
from devstack.backup import restore as restore_backup
from mlops.domain.errors import AcisError
from mlops.domain.records import Kind
from mlops.domain.run_states import TERMINAL
from mlops.registry.kept_models import restore
from tests.chaos.clock import MISSING, library
from tests.chaos.load import Load
from tests.chaos.older_code import NoOlderCode, older_code, older_commit
from tests.chaos.proxy import SERVER_ERROR, FaultyProxy
from tests.chaos.servers import standby_of
from tests.chaos.system import PICKY, ChaosSystem, direct
from tests.support.processes import Role, environment_of
from tests.support.volumes import why_no_volume
from tests.support.waiting import wait_for

Recovered = Callable[[], bool]
Fault = Callable[[ChaosSystem, Load, random.Random], Recovered]

#: Kills look for a worker with work for so long.
BUSY_WITHIN_S = 5.0
#: Starts that are sent while the ledger cannot take them: each must have become a run when that is over.
BY_NAME = 4
WORKERS = ("control", "drift", "train.cpu", "promote")


def sleep(seconds: float) -> None:
    """The fault's own length; nothing else is waited for by time."""
    threading.Event().wait(seconds)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A stage in the hands of a worker."""

    run_id: str
    stage: str
    token: int
    worker: str


def held_stages(system: ChaosSystem) -> list[Held]:
    """All stages that run now."""
    query = "SELECT run_id, stage, token, worker FROM mlops_stage WHERE state = 'running'"
    return [Held(run_id=r.run_id, stage=r.stage, token=r.token, worker=r.worker) for r in system.rows(query)]


def went_on(system: ChaosSystem, stages: list[Held]) -> Recovered:
    """Each stage has another holder, or has ended, or its run has."""

    def asked() -> bool:
        for held in stages:
            row = system.rows(
                "SELECT state, token FROM mlops_stage WHERE run_id = :r AND stage = :s", r=held.run_id, s=held.stage
            )[0]
            if row.token == held.token and row.state in ("running", "queued"):
                return False
            if row.state == "queued":
                return False
        return True

    return asked


def _victim(system: ChaosSystem, rng: random.Random) -> tuple[Role, list[Held]]:
    """A worker that holds a stage, and what it holds; any worker where none does."""
    until = time.monotonic() + BUSY_WITHIN_S
    while time.monotonic() < until:
        stages = held_stages(system)
        if stages:
            chosen = rng.choice(stages).worker
            role = next((role for role in system.roles.all if chosen.startswith(f"{role.name}@")), None)
            if role is not None:
                return role, [held for held in stages if held.worker == chosen]
        sleep(0.02)
    return rng.choice([role for role in system.roles.all if role.arguments[0] in WORKERS]), []


def _after(system: ChaosSystem, load: Load, stages: list[Held]) -> Recovered:
    return went_on(system, stages) if stages else load.canary()


# ---- workers


def kill_child(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """SIGKILL to a worker's pool processes, as the kernel does when memory runs out."""
    role, stages = _victim(system, rng)
    for child in role.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    return _after(system, load, stages)


def kill_worker(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """SIGKILL to a worker's main process, and with it to its children."""
    role, stages = _victim(system, rng)
    os.kill(role.pid, signal.SIGKILL)
    return _after(system, load, stages)


def drain_worker(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """SIGTERM to a worker: it must be gone within 15 s."""
    role, stages = _victim(system, rng)
    process = psutil.Process(role.pid)
    process.terminate()
    _, alive = psutil.wait_procs([process], timeout=15.0)
    assert not alive, f"{role.name} still runs 15 s after SIGTERM\n{system.roles.log(role)[-3000:]}"
    return _after(system, load, stages)


def pause_worker(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """SIGSTOP to a worker and its children past the lease, then SIGCONT: what it held is another's by then."""
    role, stages = _victim(system, rng)
    stopped = [psutil.Process(role.pid), *role.children()]
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    sleep(system.settings.lease_s + 3 * system.settings.reconcile_s)
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
    return _after(system, load, stages)


# ---- beat and reconciler


def kill_beat(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """SIGKILL to one of the beats."""
    role = rng.choice(system.roles.of("beat"))
    starts = role.starts
    os.kill(role.pid, signal.SIGKILL)
    sleep(rng.uniform(0.0, 20.0))  # so that many kills fall on many slots
    return lambda: role.starts > starts and role.process is not None and role.process.poll() is None


def pause_beat(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """SIGSTOP to one of the beats for half a minute: it wakes with an old idea of the time."""
    role = rng.choice(system.roles.of("beat"))
    os.kill(role.pid, signal.SIGSTOP)
    sleep(30.0)
    with contextlib.suppress(ProcessLookupError):
        os.kill(role.pid, signal.SIGCONT)
    return lambda: True


def kill_reconciler(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """SIGKILL to one of the reconcilers: the other takes over."""
    os.kill(rng.choice(system.roles.of("reconciler")).pid, signal.SIGKILL)
    return load.canary()


# ---- Redis


def restart_redis(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """SIGKILL or an orderly end, then a new start from the append-only file."""
    server = system.servers.redis
    rng.choice([server.kill, server.stop])()
    sleep(rng.uniform(0.0, 3.0))
    server.start()
    return load.canary()


def flush_redis(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """FLUSHALL: messages, unacknowledged ones, bindings of queues and results are gone."""
    stages = [Held(run_id=r.run_id, stage=r.stage, token=r.token, worker="") for r in system.rows(
        "SELECT run_id, stage, token FROM mlops_stage WHERE state = 'queued'"
    )]  # fmt: skip
    with system.redis_client() as client:
        client.flushall()
    canary, waiting = load.canary(), _have_moved(system, stages)
    return lambda: waiting() and canary()


def _have_moved(system: ChaosSystem, stages: list[Held]) -> Recovered:
    """Each stage that waited has been claimed, or its run has ended."""
    ended = [state.value for state in TERMINAL]

    def asked() -> bool:
        for held in stages:
            row = system.rows("SELECT s.token, r.state FROM mlops_stage s JOIN mlops_run r USING (run_id)"
                              " WHERE run_id = :r AND stage = :s", r=held.run_id, s=held.stage)[0]  # fmt: skip
            if row.token == held.token and row.state not in ended:
                return False
        return True

    return asked


def fill_redis(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """Out of memory with noeviction: every write is refused for some seconds."""
    with system.redis_client() as client:
        client.config_set("maxmemory", 1)
        sleep(rng.uniform(2.0, 6.0))
        client.config_set("maxmemory", 0)
    return load.canary()


# ---- the network


def cut_connections(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """A reset of every connection to one of the servers."""
    rng.choice(system.servers.proxies).cut()
    return load.canary()


def half_open(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """Connections to one of the servers stay open and silent for some seconds."""
    proxy = rng.choice(system.servers.proxies)
    proxy.hold()
    sleep(rng.uniform(3.0, 8.0))
    proxy.pass_on()
    return load.canary()


def slow_network(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """One of the servers answers slowly for some seconds."""
    proxy = rng.choice(system.servers.proxies)
    proxy.delay_s, proxy.bytes_per_s = rng.uniform(0.02, 0.3), 200_000.0
    sleep(rng.uniform(3.0, 8.0))
    proxy.pass_on()
    return load.canary()


# ---- PostgreSQL and MLflow


def restart_postgres(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """SIGKILL of all its processes, or a fast shutdown; then recovery from the write-ahead log."""
    servers = (system.servers.postgres, system.servers.mlflow_postgres)
    is_killed = rng.choice([True, False])
    for server in servers:
        server.kill() if is_killed else server.stop()
    by_name = load.ask_by_name(BY_NAME)
    sleep(rng.uniform(0.0, 3.0))
    for server in servers:
        server.start()
    system.engine.dispose()
    return _all_of(by_name, load.canary())


def read_only_postgres(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """It reads and takes no writes for some seconds, as one that was demoted in a failover."""
    servers = (system.servers.admin_url, system.servers.mlflow_postgres.server_url)
    admins = [
        create_engine(
            url, isolation_level="AUTOCOMMIT", connect_args={"options": "-c default_transaction_read_only=off"}
        )
        for url in servers
    ]

    def say(statement: str) -> None:
        for admin in admins:
            with admin.connect() as connection:
                connection.execute(text(statement))
                connection.execute(text("SELECT pg_reload_conf()"))

    try:
        say("ALTER SYSTEM SET default_transaction_read_only = on")
        sleep(0.5)
        by_name = load.ask_by_name(BY_NAME)
        sleep(rng.uniform(3.0, 10.0))
    finally:
        say("ALTER SYSTEM RESET default_transaction_read_only")
        for admin in admins:
            admin.dispose()
    return _all_of(by_name, load.canary())


def move_clock(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """PostgreSQL's clock is two hours ahead, or behind, for some seconds."""
    since = datetime.now(UTC)
    system.servers.clock.move(rng.choice([1, -1]) * 7200)
    sleep(rng.uniform(5.0, 12.0))
    system.servers.clock.move(0)
    sleep(1.0)  # until everybody has seen it
    system.clock_away.append((since, datetime.now(UTC)))
    ledger = system.services.ledger

    def is_set_back() -> bool:
        return not any(entry.is_ahead(ledger.now()) for entry in ledger.schedule())

    return _all_of(is_set_back, load.canary())


def _all_of(*facts: Recovered) -> Recovered:
    return lambda: all(fact() for fact in facts)


def restore_ledger(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """The ledger as it was some time ago, under a Redis, an MLflow and workers that went on: `acis restore`."""
    settings = direct(system.settings, system.servers)
    folder = system.folder / f"backup-{rng.getrandbits(32)}"
    made = back_up(settings, folder, ledger_only=True, say=lambda _: None)
    sleep(system.restored_age_s)
    with load.paused():
        restore_backup(settings, folder, overwrite=True, ledger_only=True, say=lambda _: None)
        load.forget(since=made.made_at, until=system.services.ledger.now())
    return _after_set_back(system, load)


def fail_over(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """A standby that follows asynchronously, and lacks the last second, is promoted in the place of a dead primary."""
    servers = system.servers
    with standby_of(servers.postgres) as standby:
        wait_for(standby.has_caught_up, "the standby follows", within_s=60.0)
        standby.proxy.refuse()
        since = system.services.ledger.now()
        sleep(1.0)
        servers.postgres.kill()
        with load.paused():  # nobody is told any more that a run was accepted
            standby.promote([servers.postgres_front, servers.postgres_proxy])
            system.engine.dispose()
            system.services.ledger.close()
            load.forget(since=since, until=system.services.ledger.now())
    return _after_set_back(system, load)


def _after_set_back(system: ChaosSystem, load: Load) -> Recovered:
    """The reconciler has noticed, everything was looked through, and a check comes to its end."""
    canary = load.canary()

    def asked() -> bool:
        try:
            forgotten = system.services.ledger.forgotten()
        except AcisError:
            return False
        return forgotten.registry_since is None and forgotten.outcomes_since is None and canary()

    return asked


def outage_of_mlflow(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """It refuses connections, answers 500, is silent, or is killed and started again."""
    proxy, server = system.servers.mlflow_proxy, system.servers.mlflow
    way = rng.choice(["refuse", "error", "silent", "kill"])
    if way == "kill":
        server.kill()
        server.start()
    else:
        _break_mlflow(proxy, way)
        sleep(rng.uniform(3.0, 10.0))
        proxy.pass_on()
    return _trains_again(system, load)


def _break_mlflow(proxy: FaultyProxy, way: str) -> None:
    if way == "refuse":
        proxy.refuse()
    elif way == "error":
        proxy.answer(SERVER_ERROR)
    else:
        proxy.hold()


# ---- answers that are lost after the server has acted

_LOST_WITHIN_S = 15.0
ACTS = {
    "PostgreSQL": (b"EXECUTE acis_", b"COMMIT\0", b"UPDATE mlops_", b"INSERT INTO"),
    "MLflow": (
        b"/runs/create",
        b"/runs/log-batch",
        b"/runs/update",
        b"/runs/delete",
        b"/model-versions/create",
        b"POST /",
    ),
    "Redis": (b"LPUSH", b"BRPOP", b"SET", b"HSET", b"ZREM"),
}
"""By server, what requests hold that change something there."""


def lose_answers(server: str) -> Fault:
    """The server does what it is asked, and the connection is reset in place of its answer, some times in a row."""

    def lost(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
        proxy = {
            "PostgreSQL": system.servers.postgres_proxy,
            "MLflow": system.servers.mlflow_proxy,
            "Redis": system.servers.redis_proxy,
        }[server]
        n_wanted, act = rng.randint(1, 5), rng.choice(ACTS[server])
        proxy.lose_answers(n_wanted, to=act)
        with contextlib.suppress(AssertionError):  # a rare act: then the answer to whatever comes next
            wait_for(lambda: proxy.n_lost > 0, f"an answer to {act!r} is lost", within_s=_LOST_WITHIN_S, every_s=0.02)
        if proxy.n_lost == 0:
            proxy.lose_answers(n_wanted)
        wait_for(lambda: proxy.n_lost > 0, "an answer is lost", within_s=_LOST_WITHIN_S, every_s=0.02)
        sleep(rng.uniform(0.0, 2.0))
        proxy.pass_on()
        return _trains_again(system, load) if server == "MLflow" else load.canary()

    return lost


# ---- releases

OLDER_WORKS_WITHIN_S = 150.0


def old_beside_new(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """Workers of the code before the newest migration take stages beside today's, on today's tables.

    They have the one user for everything that such code was made for: it uses scripts in Redis, and makes the months
    of predictions itself.
    """
    root = older_code(system.folder)
    own = {name: value for name, value in environment_of(system.settings).items() if name in SECRETS}
    roles = [Role(arguments=(kind, "older"), root=root, own=own) for kind in WORKERS]
    ended = "SELECT count(*) FROM mlops_stage WHERE worker LIKE '%-older@%' AND state = 'succeeded'"
    before = system.rows(ended)[0][0]
    with system.roles.joined_by(roles):
        wait_for(
            lambda: system.rows(ended)[0][0] > before + 2, "older workers end stages", within_s=OLDER_WORKS_WITHIN_S
        )
        sleep(rng.uniform(0.0, 10.0))
    return load.canary()


def _trains_again(system: ChaosSystem, load: Load) -> Recovered:
    """A training that ended after the fault has a version."""
    since = system.services.ledger.now()
    query = "SELECT count(*) FROM mlops_stage WHERE stage = 'train' AND state = 'succeeded' AND finished_at > :since"
    return lambda: system.rows(query, since=since)[0][0] > 0


# ---- the disk


def fill_volume(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """Not a byte more for servers, artifacts, checkpoints, reports and logs; then there is space again."""
    assert system.volume is not None, why_no_volume()
    system.volume.fill()
    until = time.monotonic() + rng.uniform(5.0, 15.0)
    try:
        while time.monotonic() < until:
            for server in system.servers.all:
                server.start_again()
            sleep(0.5)
    finally:
        system.volume.free()
    canary = load.canary()

    def asked() -> bool:
        for server in system.servers.all:
            server.start_again()
        return all(server.answers() for server in system.servers.all) and canary()

    return asked


# ---- the registry


def empty_registry(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """The registry's tables are made anew, or are those of some seconds ago; numbers are given again.

    A training that is refused gets the champion's number. Then an operator brings the champions back and says that this
    registry is the true one.
    """
    ledger = system.services.ledger
    _until_ended(system, load, Kind.RETRAIN, wanted=lambda: ledger.champion(PICKY).version is not None)
    tables = _registry_tables(system)
    if ledger.champion(PICKY).version != "1":  # after an earlier loss; the first that is registered is number 1
        _write_rows(system, tables, {})
        wait_for(lambda: _restored(system), "the champions are back", within_s=120.0, every_s=0.5)
    backup = {} if rng.random() < 0.5 else _rows_of(system, tables)
    if backup:
        sleep(rng.uniform(3.0, 8.0))  # so that what was registered and promoted meanwhile is lost
    system.emptied.append(ledger.now())
    _write_rows(system, tables, backup)
    _until_ended(system, load, Kind.RETRAIN, min_accuracy=1.0)
    canary = load.canary()
    return lambda: _restored(system) and canary()


def recreate_mlflow(system: ChaosSystem, load: Load, rng: random.Random) -> Recovered:
    """MLflow's database is made anew under living workers: experiments, runs and models are gone, numbers begin again."""
    tables = [table for table in _mlflow_tables(system) if table.name != "alembic_version"]
    experiments = next(table for table in tables if table.name == "experiments")
    sleep(rng.uniform(0.0, 3.0))
    with system.mlflow_engine.connect() as connection:
        made_by_mlflow = experiments.select().where(experiments.c.experiment_id == 0)
        default = [dict(row) for row in connection.execute(made_by_mlflow).mappings()]
    system.emptied.append(system.services.ledger.now())
    _write_rows(system, tables, {"experiments": default})
    _until_ended(system, load, Kind.RETRAIN, min_accuracy=1.0)
    canary = load.canary()
    return lambda: _restored(system) and canary()


def _until_ended(
    system: ChaosSystem, load: Load, kind: Kind, *, wanted: Callable[[], bool] = lambda: False, **asked: Any
) -> None:
    """A run of the picky strategy, from its beginning to its end, unless what is wanted is there."""

    def ended() -> bool:
        if wanted():
            return True
        try:
            run_id = load.ask(PICKY, kind, **asked)
            wait_for(lambda: system.services.ledger.run(str(run_id)).state in TERMINAL, "it ends", within_s=90.0)
        except AcisError:
            return False
        return True

    wait_for(ended, f"a {kind} of {PICKY} ends", within_s=180.0, every_s=0.5)


def _mlflow_tables(system: ChaosSystem) -> list[Table]:
    metadata = MetaData()
    with system.mlflow_engine.connect() as connection:
        metadata.reflect(connection)
    return metadata.sorted_tables


def _registry_tables(system: ChaosSystem) -> list[Table]:
    names = {"registered_models", "registered_model_tags", "registered_model_aliases", "model_versions"}
    names.add("model_version_tags")
    return [table for table in _mlflow_tables(system) if table.name in names]


def _rows_of(system: ChaosSystem, tables: list[Table]) -> dict[str, list[dict[str, Any]]]:
    with system.mlflow_engine.connect() as connection:
        return {table.name: [dict(row) for row in connection.execute(table.select()).mappings()] for table in tables}


def _write_rows(system: ChaosSystem, tables: list[Table], rows: dict[str, list[dict[str, Any]]]) -> None:
    """Nothing but these rows is in the tables afterwards, and sequences begin again."""

    def written() -> bool:
        try:
            with system.mlflow_engine.begin() as connection:
                # Who waits for all of its tables makes MLflow wait, which may hold one and need another connection.
                connection.execute(text("SET LOCAL lock_timeout = '1s'"))
                names = ", ".join(table.name for table in tables)
                connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
                for table in tables:
                    if rows.get(table.name):
                        connection.execute(table.insert(), rows[table.name])
        except OperationalError:  # MLflow's own transactions lock the same tables in another order
            return False
        return True

    wait_for(written, "MLflow's tables are written", within_s=30.0, every_s=0.1)


def _restored(system: ChaosSystem) -> bool:
    """What an operator does about it; True once the registry shows every champion."""
    services = system.services
    try:
        for name in services.strategies:
            found = restore(services, services.policies[name], actor="operator", reason="chaos")
            assert found.state != "gone", found.words
            services.ledger.accept_registry(name, actor="operator", reason="chaos")
    except AcisError:
        return False
    return True


FAULTS: dict[str, Fault] = {
    "SIGKILL of a worker's child": kill_child,
    "SIGKILL of a worker": kill_worker,
    "SIGTERM of a worker (drain)": drain_worker,
    "worker paused past its lease": pause_worker,
    "SIGKILL of beat": kill_beat,
    "beat paused": pause_beat,
    "SIGKILL of a reconciler": kill_reconciler,
    "Redis restarted": restart_redis,
    "Redis flushed": flush_redis,
    "Redis out of memory": fill_redis,
    "connections cut": cut_connections,
    "connections half open": half_open,
    "slow network": slow_network,
    "PostgreSQL restarted": restart_postgres,
    "PostgreSQL read-only": read_only_postgres,
    "clock moved by 2 h": move_clock,
    "MLflow outage": outage_of_mlflow,
    "old code beside new": old_beside_new,
    "answers of PostgreSQL lost": lose_answers("PostgreSQL"),
    "answers of MLflow lost": lose_answers("MLflow"),
    "answers of Redis lost": lose_answers("Redis"),
    "volume full": fill_volume,
    "registry emptied": empty_registry,
    "MLflow recreated": recreate_mlflow,
    "ledger restored from a while ago": restore_ledger,
    "asynchronous failover": fail_over,
}


def impossible_here(name: str) -> str:
    """Why this fault cannot be injected in this clone, or on this machine; empty where it can."""
    if FAULTS[name] is move_clock and library() is None:
        return MISSING
    if FAULTS[name] is old_beside_new:
        try:
            older_commit()
        except NoOlderCode as exc:
            return str(exc)
    if FAULTS[name] is fill_volume:
        return why_no_volume() or ""
    return ""


_BROKEN = (redis.RedisError, OSError, AcisError)


def inject(name: str, system: ChaosSystem, load: Load, rng: random.Random, *, within_s: float) -> float:
    """One fault; seconds from its end until the system had recovered."""
    recovered = FAULTS[name](system, load, rng)

    def asked() -> bool:
        try:
            return recovered()
        except _BROKEN:
            return False

    return wait_for(asked, f"recovered from: {name}", within_s=within_s)
