"""Stages a second through the ledger (claim, finish, publish the next, outcome) against bare Celery no-op chains.

    .venv/bin/python bench/ledger.py [--quick] [--json] [--repeats 5] [--drain 10000]

Both in one run on one worker: the same Celery settings, pool, queues and Redis, results and events on; PostgreSQL with
fsync and synchronous_commit on, as `make run` starts it. A run has three stages that do nothing, a chain three tasks
that do nothing. Medians of interleaved repeats.

    ours_over_celery_throughput    stages a second over tasks a second
    drained_growth_mib             with --drain: growth of the worker's and the reconciler's memory, from a tenth of
                                   the runs done to all of them done
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil
import redis
from celery import Celery, chain, signature
from own_servers import own_servers
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from config.endpoints import Endpoints
from config.settings import Settings, variables
from mlops.bootstrap import Services
from mlops.domain.records import Kind, RunRequest
from mlops.ledger.schema import migrate
from tasks.services import connect
from worker.routing import ROLES

ROOT = Path(__file__).resolve().parents[1]
STAGES = 3
QUEUES = ("drift", "train.cpu", "promote")
POLL_S = 0.02
GIVE_UP_S = 900.0


def settings_of(var_dir: Path, endpoints: Endpoints) -> Settings:
    return Settings(
        database_url=SecretStr(endpoints.database_url),
        celery_broker_url=SecretStr(endpoints.celery_broker_url),
        celery_result_backend=SecretStr(endpoints.celery_result_backend),
        mlflow_tracking_uri=None,
        var_dir=var_dir,
        log_level="WARNING",
    )


def environment(settings: Settings) -> dict[str, str]:
    values = {name: getattr(settings, field) for name, field in variables().items()}
    texts = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
        if value is not None
    }
    others = {name: value for name, value in os.environ.items() if name not in values}
    # The role decides how a worker's pool is made; this one serves all queues.
    own = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'bench'}", "OMP_NUM_THREADS": "1", "WORKER_ROLE": "control"}
    return {**others, **texts, **own}


@contextmanager
def process(command: list[str], settings: Settings, log: Path) -> Iterator[psutil.Process]:
    with log.open("wb") as output:
        started = subprocess.Popen(command, env=environment(settings), cwd=ROOT, stdout=output, stderr=output)
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait(30)


def wait(fact: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + GIVE_UP_S
    while not fact():
        if time.monotonic() > until:
            raise SystemExit(f"not within {GIVE_UP_S:.0f} s: {what}")
        time.sleep(POLL_S)


class Bench:
    """The running system."""

    def __init__(self, services: Services, app: Celery, backend_url: str) -> None:
        self.services, self.app = services, app
        self.redis = redis.Redis.from_url(backend_url)
        self.engine = create_engine(services.ledger.database.url)
        self.n_asked = 0

    def ask(self, n: int, kind: Kind) -> None:
        """So many runs, each of a strategy of its own, since one may have only one at a time."""
        for _ in range(n):
            self.n_asked += 1
            request = RunRequest(
                strategy=f"s{self.n_asked}", kind=kind, policy={}, reason="bench", requested_by="bench"
            )
            accepted = self.services.ledger.accept(request)
            assert accepted.publication is not None  # noqa: S101 -- a new run has one
            self.services.dispatcher.publish(accepted.publication)

    def n_ended(self) -> int:
        """Runs whose outcome is in the result backend."""
        with self.engine.connect() as connection:
            return int(connection.scalar(text("SELECT count(*) FROM mlops_outbox WHERE delivered_at IS NOT NULL")) or 0)

    def ours(self, n: int) -> float:
        """Stages a second, from the first request to the last result of a stage and of a run."""
        before = self.n_results()
        began = time.perf_counter()
        self.ask(n, Kind.PIPELINE)
        wait(lambda: self.n_results() >= before + n * (STAGES + 1), "all runs end")
        return n * STAGES / (time.perf_counter() - began)

    def celery(self, n: int) -> float:
        """Tasks a second, from the first chain that is sent to the last result."""
        before = self.n_results()
        began = time.perf_counter()
        for _ in range(n):
            links = [signature("bench.noop", app=self.app, immutable=True).set(queue=queue) for queue in QUEUES]
            chain(*links, app=self.app).apply_async()
        wait(lambda: self.n_results() >= before + n * STAGES, "all chains end")
        return n * STAGES / (time.perf_counter() - began)

    def n_results(self) -> int:
        """Results in the backend, of tasks and of runs; its database has nothing else that grows."""
        return int(self.redis.dbsize())


def mib(process_: psutil.Process) -> float:
    """Memory of a process and its children that nobody shares with them."""
    everyone = [process_, *process_.children(recursive=True)]
    return sum(one.memory_full_info().uss for one in everyone) / 2**20


def drained(bench: Bench, n: int, processes: dict[str, psutil.Process]) -> dict[str, float]:
    """Memory while so many queued runs are drained; they are all accepted before the first is looked at."""
    began = time.perf_counter()
    before = bench.n_asked
    bench.ask(n, Kind.CHECK)
    print(f"\n{n:,} runs were accepted and sent in {time.perf_counter() - began:.0f} s")
    early: dict[str, float] = {}
    began = time.perf_counter()

    def done() -> bool:
        ended = bench.n_ended() - before
        if not early and ended >= n / 10:
            early.update({name: mib(one) for name, one in processes.items()})
        return ended >= n

    wait(done, "all runs end")
    late = {name: mib(one) for name, one in processes.items()}
    for name in processes:
        print(f"  {name:<12}{early[name]:>8.0f} MiB at a tenth{late[name]:>8.0f} MiB at the end")
    with bench.engine.connect() as connection:
        n_bells = int(connection.scalar(text("SELECT max(publish_no) FROM mlops_stage")) or 0)
    print(f"  at most {n_bells} messages were sent for one stage; drained in {time.perf_counter() - began:.0f} s")
    return {"drained_growth_mib": max(late[name] - early[name] for name in processes), "drained_most_bells": n_bells}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runs", type=int, default=200, help="runs, and chains, of one repeat")
    parser.add_argument("--drain", type=int, default=0, help="queued runs to drain")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    repeats, runs = (2, 60) if options.quick else (options.repeats, options.runs)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        var_dir = Path(folder) / "var"
        with own_servers(var_dir) as endpoints:
            migrate(endpoints.database_url)
            settings = settings_of(var_dir, endpoints)
            from worker.app import create_app

            app = create_app(settings)
            worker = [
                sys.executable, "-m", "celery", "-A", "ledger_worker", "worker",
                "-Q", ",".join(name for name in ROLES if name != "train.gpu"),
                "-n", "bench@%h", "-c", str(len(os.sched_getaffinity(0))),
                "--without-mingle", "--without-gossip", "-l", "WARNING",
            ]  # fmt: skip
            reconciler = [sys.executable, "-m", "worker", "reconciler"]
            with (
                process(worker, settings, var_dir / "worker.log") as working,
                process(reconciler, settings, var_dir / "reconciler.log") as reconciling,
            ):
                bench = Bench(connect(settings), app, endpoints.celery_result_backend)
                wait(lambda: bool(app.control.inspect(timeout=0.5).ping()), "the worker answers")
                for measure in (bench.celery, bench.ours):
                    measure(20)
                found: dict[str, list[float]] = {"celery": [], "ours": []}
                for _ in range(repeats):
                    found["celery"].append(bench.celery(runs))
                    found["ours"].append(bench.ours(runs))
                ratio = median(o / c for o, c in zip(found["ours"], found["celery"], strict=True))
                print(f"{runs} chains of {STAGES} tasks, and {runs} runs of {STAGES} stages; median of {repeats}")
                print(f"  bare Celery  {median(found['celery']):>8.0f} tasks/s")
                print(f"  the ledger   {median(found['ours']):>8.0f} stages/s   {ratio:.2f} x")
                figures |= {
                    "ours_over_celery_throughput": ratio,
                    "stages_per_s": median(found["ours"]),
                    "celery_tasks_per_s": median(found["celery"]),
                }
                if options.drain:
                    figures |= drained(bench, options.drain, {"worker": working, "reconciler": reconciling})
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        versions = {name: version(name) for name in ("celery", "redis", "sqlalchemy", "psycopg2-binary")}
        shown = {name: round(value, 3) for name, value in figures.items()}
        print(json.dumps({"figures": shown, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
