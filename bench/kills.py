"""Checks while a worker is killed every ten seconds, against the same checks left alone; and whether age decides.

    .venv/bin/python bench/kills.py [--quick] [--json] [--checks 500] [--every 10] [--lease 60]

Real drift checks of a small panel by the workers, the reconciler and the servers that `make run` starts, with its
settings: leases of 60 s, passes of 30 s; two drift workers with the cores between them. All are accepted at once. Calm
first, then with SIGKILL to one worker after the other (its children die with it); it is started again at once, as
a supervisor does. --quick: 80 checks, a kill every 5 s, leases of 5 s and passes of 1 s.

    kills_over_calm       seconds from the first request to the last end, with kills over without
    overtaken_most        runs younger than a stage that was in the queue again, and claimed before it: at most
    kills, dead           workers that were killed; runs that did not succeed
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import pyarrow as pa
from ledger import environment, settings_of, wait
from own_servers import own_servers
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from mlops.bootstrap import Services
from mlops.domain.records import Kind
from mlops.ledger.schema import migrate
from mlops.runs.request import run_request
from tasks.services import connect
from tests.chaos.invariants import OVERTAKEN
from tests.support.features import parquet_file
from tests.support.processes import Roles

ROOT = Path(__file__).resolve().parents[1]
STRATEGY = "growth"
STRATEGIES = f"""
[defaults.data]
as_of = "latest"
[defaults.execution]
max_attempts = 100
[strategies.{STRATEGY}]
"""
#: Large enough that a check takes about as long as one of the sample's strategies.
N_DATES, N_TICKERS, N_FEATURES = 600, 60, 30


def panel() -> pa.Table:
    """Features that do not drift, of business days up to the last one of 2025."""
    generator = np.random.default_rng(1)
    days = pd.bdate_range(end="2025-12-31", periods=N_DATES).date
    n = N_DATES * N_TICKERS
    return pa.table(
        {
            "ticker": [f"T{number:02}" for number in range(N_TICKERS)] * N_DATES,
            "date": pa.array(np.repeat(days, N_TICKERS), pa.date32()),
            "strategy": [STRATEGY] * n,
            **{f"f{number:02}": generator.normal(size=n) for number in range(N_FEATURES)},
            "target_return": generator.normal(size=n) * 0.01,
        }
    )


class Killer:
    """Kills one drift worker after the other, every so many seconds, until the block ends."""

    def __init__(self, roles: Roles, *, every_s: float) -> None:
        self.n_kills = 0
        self._roles, self._every_s = roles, every_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._kill, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._closing.wait(self._every_s):
            victims = self._roles.of("drift")
            os.kill(victims[self.n_kills % len(victims)].pid, signal.SIGKILL)
            self.n_kills += 1


class Bench:
    """The running system."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.engine = create_engine(services.ledger.database.url)

    def checks(self, n: int, phase: str) -> float:
        """Seconds from the first request to the last end; each in a namespace of its own, to be active at once."""
        request = run_request(
            self.services.policies, STRATEGY, Kind.CHECK, reason="bench", requested_by="bench", namespace=phase
        )
        began = time.perf_counter()
        for number in range(n):
            accepted = self.services.ledger.accept(replace(request, namespace=f"{phase}{number}"))
            assert accepted.publication is not None  # noqa: S101 -- a new run has one
            self.services.dispatcher.publish(accepted.publication)
        wait(lambda: self.n_open(phase) == 0, f"all checks of {phase!r} end")
        return time.perf_counter() - began

    def n_open(self, phase: str) -> int:
        """Checks that have not ended."""
        query = "SELECT count(*) FROM mlops_run WHERE namespace LIKE :phase || '%' AND state IN ('queued', 'running')"
        time.sleep(0.2)  # what asks all the time takes from what it measures
        return int(self.scalar(query, phase))

    def scalar(self, query: str, phase: str) -> float:
        """A number of a phase."""
        with self.engine.connect() as connection:
            return float(connection.scalar(text(query), {"phase": phase}) or 0)

    def overtaken(self, phase: str) -> list[tuple[float, int]]:
        """Of each stage that came back: seconds in the queue, and how many younger runs were claimed before it."""
        with self.engine.connect() as connection:
            return [(float(r.waited_s), int(r.n_before)) for r in connection.execute(text(OVERTAKEN), {"phase": phase})]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=500)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two kills")
    parser.add_argument("--workers", type=int, default=2, help="drift workers, each with its share of the cores")
    parser.add_argument("--lease", type=float, default=60.0, help="seconds of a lease")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    n, every_s, lease_s = (80, 5.0, 5.0) if options.quick else (options.checks, options.every, options.lease)
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        var_dir = Path(folder) / "var"
        strategies = Path(folder) / "strategies.toml"
        strategies.write_text(STRATEGIES)
        with own_servers(var_dir, strategies_file=strategies) as endpoints:
            migrate(endpoints.database_url)
            settings = settings_of(var_dir, endpoints).model_copy(
                update={
                    "feature_source": SecretStr(parquet_file(panel(), Path(folder) / "features.parquet")),
                    "strategies_file": strategies,
                    "report_dir": var_dir / "reports",
                    "drift_concurrency": max(1, (os.cpu_count() or 1) // options.workers),
                    "lease_s": lease_s,
                    "renew_s": lease_s / 6,
                    "reconcile_s": lease_s / 2 if lease_s >= 60 else 1.0,
                }
            )
            variables = environment(settings)
            del variables["WORKER_ROLE"]
            bench = Bench(connect(settings))
            drift = [("drift", f"w{number}") for number in range(options.workers)]
            with Roles([("control",), *drift, ("reconciler",)], variables, var_dir / "log") as roles:
                bench.checks(4, "warm-up-")
                calm_s = bench.checks(n, "calm-")
                with Killer(roles, every_s=every_s) as killer:
                    kills_s = bench.checks(n, "kills-")
            overtaken = bench.overtaken("kills-")
            dead = bench.scalar(
                "SELECT count(*) FROM mlops_run WHERE namespace LIKE :phase || '%' AND state <> 'succeeded'", "kills-"
            )
    ratio = kills_s / calm_s
    print(f"{n} checks, drift workers: {options.workers}, cores: {os.cpu_count()}, leases of {lease_s:g} s")
    print(f"  calm                        {calm_s:>8.1f} s")
    print(f"  a kill every {every_s:g} s{'':<11}{kills_s:>8.1f} s   {ratio:.2f} x   {killer.n_kills} kills")
    if overtaken:
        print(
            f"  {len(overtaken)} stages came back; at most {overtaken[0][1]} younger runs were claimed before one that "
            f"waited, the longest wait was {max(one[0] for one in overtaken):.1f} s"
        )
    if options.json:
        figures = {
            "kills_over_calm": ratio,
            "overtaken_most": float(max((one[1] for one in overtaken), default=0)),
            "kills": float(killer.n_kills),
            "dead": dead,
        }
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        versions = {name: version(name) for name in ("celery", "redis", "sqlalchemy", "psycopg2-binary")}
        shown = {name: round(value, 3) for name, value in figures.items()}
        print(json.dumps({"figures": shown, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
