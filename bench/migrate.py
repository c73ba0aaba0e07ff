"""How long `acis migrate` takes on a large ledger under load, and how long it lets running code wait.

    .venv/bin/python bench/migrate.py [--runs 1000000] [--quick] [--json]

A PostgreSQL of its own (fsync and synchronous_commit on, as `make run` starts it) gets the tables of this version and
so many runs, each with a stage, an outcome and a drift report. Then the ledger is migrated by a made-up revision with
steps of every kind (tests/support/revisions) in a process of its own, while four writers accept, claim, renew and
finish runs as code of this version does, each statement limited to the ledger's 15 s, and a reader holds the tables in
a transaction for half a minute. The process is killed (SIGKILL) while it builds an index, and a second one finishes.

    migrate_s              of both processes together
    worst_wait_ms          of any statement of the writers          p99_wait_ms   of all of them
    errors                 statements of the writers that failed
    statements             of the writers, meanwhile
    differences            between the schema at the end and what this version expects
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from own_servers import own_servers
from sqlalchemy import Engine, create_engine, exc, text

from mlops.ledger import schema
from mlops.ledger.engine import STATEMENT_TIMEOUT_S, Database
from mlops.ledger.schema import migrate, schema_differences, schema_state

ROOT = Path(__file__).resolve().parents[1]
MADE_UP = ROOT / "tests" / "support" / "revisions"
MIGRATE = """
import sys
from pathlib import Path
from mlops.ledger import schema
schema.REVISIONS = (*schema.REVISIONS, Path(sys.argv[1]))
schema.migrate(sys.argv[2], say=print)
"""
WRITERS = 4
STRATEGIES = 400
AT_ONCE = 20_000
"""Rows of one INSERT."""

_SPAN = "FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n"
SEEDING = tuple(
    f"{inserting} {_SPAN}"
    for inserting in (
        """INSERT INTO mlops_run (run_id, namespace, strategy, kind, state, executor, slot, reason, requested_by,
             policy, params, outcome, created_at, finished_at)
           SELECT 'seed-' || n, 'live', 's' || n % 400, 'check', 'succeeded', 'celery', 'slot-' || n, 'schedule', '',
             '{"drift": {"alpha": 0.05}, "execution": {"max_attempts": 3}}', '{}', '{"state": "succeeded"}',
             now() - make_interval(mins => n), now() - make_interval(mins => n)""",
        """INSERT INTO mlops_stage (run_id, stage, state, strategy, executor, device, max_attempts, deadline_s, token,
             attempt, publish_no, ring_at, ring_backoff_s, queued_at, finished_at, result)
           SELECT 'seed-' || n, 'drift', 'succeeded', 's' || n % 400, 'celery', 'auto', 3, 900, 1, 1, 1, now(), 60,
             now(), now(), '{"verdict": "stable", "rule": "calibrated", "drift_ratio": 0.1, "alert_threshold": 0.3}'""",
        """INSERT INTO mlops_outbox (run_id, state, created_at, delivered_at)
           SELECT 'seed-' || n, 'SUCCESS', now(), now()""",
        """INSERT INTO mlops_drift_report (run_id, namespace, strategy, report, created_at)
           SELECT 'seed-' || n, 'live', 's' || n % 400, '{"summary": {"drift_detected": false}}', now()""",
    )
)
#: What code of this version writes for a check, in its order.
LIFE = (
    """INSERT INTO mlops_run (run_id, namespace, strategy, kind, state, executor, reason, requested_by, policy, params,
         created_at) VALUES (:run, 'live', :strategy, 'check', 'queued', 'celery', '', 'bench', '{}', '{}', now())""",
    """INSERT INTO mlops_stage (run_id, stage, state, strategy, executor, device, max_attempts, deadline_s, token,
         attempt, publish_no, ring_at, ring_backoff_s, queued_at)
       VALUES (:run, 'drift', 'queued', :strategy, 'celery', 'auto', 3, 900, 0, 1, 1, now(), 60, now())""",
    """UPDATE mlops_stage SET state = 'running', token = token + 1, lease_until = now() + interval '60 s',
         started_at = now() WHERE run_id = :run AND state = 'queued'""",
    "UPDATE mlops_run SET state = 'running' WHERE run_id = :run",
    "UPDATE mlops_stage SET lease_until = now() + interval '60 s' WHERE run_id = :run AND state = 'running'",
    """INSERT INTO mlops_drift_report (run_id, namespace, strategy, report, created_at)
       VALUES (:run, 'live', :strategy, '{}', now())""",
    "UPDATE mlops_stage SET state = 'succeeded', finished_at = now() WHERE run_id = :run",
    "UPDATE mlops_run SET state = 'succeeded', finished_at = now(), outcome = '{}' WHERE run_id = :run",
    "INSERT INTO mlops_outbox (run_id, state, created_at) VALUES (:run, 'SUCCESS', now())",
    "SELECT run_id FROM mlops_run WHERE namespace = 'live' ORDER BY created_at DESC LIMIT 50",
)


def seed(engine: Engine, runs: int) -> None:
    with engine.connect() as connection:
        for first in range(1, runs + 1, AT_ONCE):
            span = {"first": first, "last": min(runs, first + AT_ONCE - 1)}
            for statement in SEEDING:
                connection.execute(text(statement), span)
        connection.execute(text("ANALYZE"))


class Load:
    """Writers of this version, until the block ends."""

    def __init__(self, url: str) -> None:
        limited = {"options": f"-c statement_timeout={STATEMENT_TIMEOUT_S}s", "application_name": "acis-ledger"}
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args=limited, pool_size=WRITERS)
        self.waits_ms: list[float] = []
        self.errors: list[str] = []
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Meanwhile they write."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._closing.set()
            for thread in self._threads:
                thread.join()
            self._engine.dispose()

    def _write(self, writer: int) -> None:
        n = 0
        with self._engine.connect() as connection:
            while not self._closing.is_set():
                n += 1
                values = {"run": f"load-{writer}-{n}", "strategy": f"w{writer}-{n % STRATEGIES}"}
                for statement in LIFE:
                    began = time.perf_counter()
                    try:
                        connection.execute(text(statement), values)
                    except exc.DBAPIError as error:
                        self.errors.append(f"{error.orig}".splitlines()[0])
                    self.waits_ms.append((time.perf_counter() - began) * 1000)


@contextmanager
def reading(engine: Engine, seconds: float) -> Iterator[None]:
    """Somebody's report, which holds the tables in a transaction for so long."""

    def read() -> None:
        with engine.execution_options(isolation_level="REPEATABLE READ").connect() as connection, connection.begin():
            for table in ("mlops_run", "mlops_stage", "mlops_drift_report", "mlops_audit"):
                connection.execute(text(f"SELECT 1 FROM {table} LIMIT 1"))  # noqa: S608 -- the names above
            time.sleep(seconds)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def migrate_once(url: str, *, kill_in: Engine | None = None) -> bool:
    """`acis migrate` with the made-up revision, killed in an index if `kill_in` is given; whether it came to an end."""
    process = subprocess.Popen([sys.executable, "-c", MIGRATE, str(MADE_UP), url], cwd=ROOT)
    while process.poll() is None:
        time.sleep(0.02)
        if kill_in is not None:
            with kill_in.connect() as connection:
                if connection.scalar(text("SELECT count(*) FROM pg_stat_progress_create_index WHERE blocks_done > 0")):
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    return False
    if process.returncode:
        raise SystemExit(f"acis migrate ended with {process.returncode}")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="20,000 runs, the reader for 5 s")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs, held_s = (20_000, 5.0) if options.quick else (options.runs, 30.0)
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder, own_servers(Path(folder) / "var") as endpoints:
        url = endpoints.database_url
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        older = migrate(url)
        began = time.perf_counter()
        seed(engine, runs)
        print(f"{runs:,} runs made in {time.perf_counter() - began:.0f} s", flush=True)
        load = Load(url)
        with load.running(), reading(engine, held_s):
            began = time.perf_counter()
            killed = not migrate_once(url, kill_in=engine)
            migrate_once(url)
            took_s = time.perf_counter() - began
        database = Database(url)
        differences = schema_differences(database)
        database.close()
        schema.REVISIONS = (*schema.REVISIONS, MADE_UP)
        state = schema_state(url)
        engine.dispose()
    waits = sorted(load.waits_ms)
    figures = {
        "runs": runs,
        "migrate_s": took_s,
        "killed_in_the_middle": int(killed),
        "statements": len(waits),
        "errors": len(load.errors),
        "p50_wait_ms": waits[len(waits) // 2],
        "p99_wait_ms": waits[int(len(waits) * 0.99)],
        "worst_wait_ms": waits[-1],
        "differences": len(differences) + int(not state.is_current),
    }
    print(
        f"migrated from {older.head} to {state.head} in {took_s:.1f} s, "
        f"killed {figures['killed_in_the_middle']} time; a reader held the tables for {held_s:.0f} s"
    )
    print(f"  {len(waits):,} statements of {WRITERS} writers meanwhile, {len(load.errors)} failed")
    print(f"  they waited {figures['p50_wait_ms']:.1f} ms (median), {figures['p99_wait_ms']:.0f} ms (99 %), "
          f"{figures['worst_wait_ms']:.0f} ms (worst)")  # fmt: skip
    for one in (*load.errors[:5], *(one.found for one in differences)):
        print(f"  {one}")
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        versions = {name: version(name) for name in ("alembic", "sqlalchemy", "psycopg2-binary")}
        shown = {name: round(value, 3) for name, value in figures.items()}
        print(json.dumps({"figures": shown, "machine": machine, "versions": versions}))
    sys.exit(1 if load.errors or figures["differences"] else 0)


if __name__ == "__main__":
    main()
