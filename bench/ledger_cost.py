"""What each statement of the ledger costs beside a backlog of queued stages: time and pages of PostgreSQL.

    .venv/bin/python bench/ledger_cost.py [--quick] [--json] [--repeats 200]

A ledger with 100, 1,000, 10,000 and 100,000 stages that wait, each run of a strategy of its own; beside them runs are
accepted, noted as sent, claimed and finished, and the reconciler passes. Medians; pages by `pg_stat_statements` are not
asked for, since not every server has it: they are of `pg_statio`, of tables and indexes, read from cache or from disk.
--quick: up to 10,000, 50 repeats; under 45 s.

    cost_at_100000_over_1000           time of accept, sent, claim and finish of a run, with 100,000 over with 1,000
    pages_at_100000_over_1000          pages that they touch, likewise (`_10000_` with --quick)
    pass_us_a_stage_at_100000          a pass of the reconciler that finds nothing to do, by the stage that waits
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from own_servers import own_servers
from sqlalchemy import Engine, create_engine, text

from mlops.domain.records import Kind, RunRequest, RunState, Sent, Stage, StageOutcome
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate

BACKLOGS = (100, 1_000, 10_000, 100_000)
RESULT = {"verdict": "stable", "share": 0.1, "n_reference": 50_000, "n_current": 500, "reason": "x" * 200}
#: Stages that wait with their messages sent, as a broker that is slow leaves them.
FILL = (
    """
    INSERT INTO mlops_run (run_id, namespace, strategy, kind, state, executor, reason, requested_by, policy, params,
                           created_at)
    SELECT 'waits-' || n, 'live', 'w' || n, 'check', 'queued', 'celery', 'bench', 'bench', '{}', '{}', now()
    FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n
    """,
    """
    INSERT INTO mlops_stage (run_id, stage, state, strategy, executor, device, max_attempts, deadline_s, token, attempt,
                             publish_no, published_at, ring_at, ring_backoff_s, queue, queued_at)
    SELECT 'waits-' || n, 'drift', 'queued', 'w' || n, 'celery', 'auto', 3, 900, 0, 1, 1, now(), now(), 60, 'drift',
           now()
    FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS n
    """,
)
PAGES = """
SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0)) FROM pg_statio_user_tables
"""
Found = TypeVar("Found")
STEPS = ("accept", "sent", "claim", "finish")


class Bench:
    """A ledger and what it costs."""

    def __init__(self, ledger: SqlLedger, engine: Engine) -> None:
        self.ledger, self.engine, self.n_runs, self.n_waiting = ledger, engine, 0, 0

    def fill(self, n: int) -> None:
        """So many stages wait from now on."""
        with self.engine.begin() as connection:
            for statement in FILL:
                connection.execute(text(statement), {"first": self.n_waiting + 1, "last": n})
        self.n_waiting = n
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))

    def one_run(self) -> dict[str, float]:
        """Seconds of each step of a run from its acceptance to its end."""
        self.n_runs += 1
        took: dict[str, float] = {}

        def timed(step: str, call: Callable[[], Found]) -> Found:
            began = time.perf_counter()
            found = call()
            took[step] = time.perf_counter() - began
            return found

        request = RunRequest(
            strategy=f"s{self.n_runs}", kind=Kind.CHECK, policy={}, reason="bench", requested_by="bench"
        )
        accepted = timed("accept", lambda: self.ledger.accept(request))
        assert accepted.publication is not None  # noqa: S101 -- a new run has one
        sent = Sent(publication=accepted.publication, queue="drift", task_id=accepted.run_id)
        timed("sent", lambda: self.ledger.published([sent]))
        grant = timed("claim", lambda: self.ledger.claim(accepted.run_id, Stage.DRIFT, worker="bench"))
        assert grant is not None  # noqa: S101 -- nobody else claims
        timed("finish", lambda: self.ledger.finish(grant, StageOutcome(result=RESULT, run_state=RunState.SUCCEEDED)))
        self.ledger.outcomes_delivered([accepted.run_id])
        return took

    def passed(self) -> float:
        """Seconds of a pass of the reconciler that finds every message in its queue."""
        began = time.perf_counter()
        self.ledger.due_publications({"drift": self.n_waiting})
        return time.perf_counter() - began

    def pages(self) -> int:
        """Pages that all statements so far have touched."""
        time.sleep(1.1)  # PostgreSQL tells what a connection did once a second
        self.ledger.now()
        time.sleep(0.1)
        with self.engine.connect() as connection:
            return int(connection.scalar(text(PAGES)) or 0)


def measured(bench: Bench, repeats: int) -> dict[str, float]:
    """Milliseconds of each step, and of a pass; pages of a run."""
    for _ in range(20):
        bench.one_run()
        bench.passed()
    before = bench.pages()
    runs = [bench.one_run() for _ in range(repeats)]
    pages = (bench.pages() - before) / repeats
    found = {step: 1000 * median(run[step] for run in runs) for step in STEPS}
    passes = 1000 * median(bench.passed() for _ in range(5))
    return {**found, "run": 1000 * median(sum(run.values()) for run in runs), "pages": pages, "pass": passes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    repeats, backlogs = (50, BACKLOGS[:-1]) if options.quick else (options.repeats, BACKLOGS)
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder, own_servers(Path(folder) / "var") as endpoints:
        migrate(endpoints.database_url)
        ledger = open_ledger(endpoints.database_url)
        bench = Bench(ledger, create_engine(ledger.database.url))
        found: dict[int, dict[str, float]] = {}
        print(f"ms, medians of {repeats}      " + "".join(f"{name:>9}" for name in (*STEPS, "run", "pages", "pass")))
        for backlog in backlogs:
            bench.fill(backlog)
            found[backlog] = measured(bench, repeats)
            line = "".join(f"{found[backlog][name]:>9.2f}" for name in (*STEPS, "run", "pages", "pass"))
            print(f"{backlog:>9,} stages wait      {line}", flush=True)
        ledger.close()
    most = backlogs[-1]
    figures = {
        f"cost_at_{most}_over_1000": found[most]["run"] / found[1_000]["run"],
        f"pages_at_{most}_over_1000": found[most]["pages"] / found[1_000]["pages"],
        f"pass_us_a_stage_at_{most}": 1000 * found[most]["pass"] / most,
    }
    for name, value in figures.items():
        print(f"  {name:<32}{value:>8.2f}")
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        versions = {name: version(name) for name in ("sqlalchemy", "psycopg2-binary")}
        shown = {name: round(value, 3) for name, value in figures.items()}
        print(json.dumps({"figures": shown, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
