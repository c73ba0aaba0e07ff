"""A drift check from PostgreSQL: the bytes alone, ours, and the original's way; called by bench/drift.py.

    .venv/bin/python bench/drift_postgres.py [--rows 1000000 100000] [--repeats 3]

Starts a server of its own, loads both windows of 45 features, and runs each contender in a process of its own, so
that its peak memory is its own:

    copy        COPY (the same rows and columns) TO STDOUT (FORMAT binary), thrown away: the floor
    ours        what a check does: look at the view, count its dates, read both windows, compare (there is no history)
    original    pandas.read_sql of both windows, then the original's algorithm
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

N_FEATURES = 45
REFERENCE_DAYS, CURRENT_DAYS = 90, 7
AS_OF = date(2020, 6, 30)
BORDER = AS_OF - timedelta(days=CURRENT_DAYS)
START = BORDER - timedelta(days=REFERENCE_DAYS)
FEATURES = [f"f{i}" for i in range(N_FEATURES)]
COLUMNS = ["ticker", "date", *FEATURES]


class Nowhere:
    """A file that keeps nothing."""

    def write(self, _: bytes) -> None:
        """Throw it away."""


def copy(url: str) -> None:
    import psycopg2

    from mlops.features.postgres import libpq_uri

    selected = ", ".join(COLUMNS)
    query = f"SELECT {selected} FROM ml_training_features WHERE strategy = 'growth' AND date > '{START}'"  # noqa: S608
    with psycopg2.connect(libpq_uri(url)) as connection, connection.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query} AND date <= '{AS_OF}') TO STDOUT (FORMAT binary)", Nowhere())


def ours(url: str) -> None:
    from mlops.domain.drift.detect import detect_drift
    from mlops.domain.frame import feature_frame
    from mlops.domain.policies import DriftPolicy, Strategy
    from mlops.features.source import open_source
    from mlops.stages.drift_windows import read_windows

    strategy = Strategy(name="growth", drift=DriftPolicy(rule="raw"))
    read = read_windows(open_source(url), strategy, as_of=AS_OF, today=AS_OF)
    detect_drift(
        feature_frame(read.reference, read.features),
        feature_frame(read.current, read.features),
        strategy.drift,
        strategy=strategy.name,
        as_of=AS_OF,
        reference_window=read.reference_window,
        current_window=read.current_window,
        timestamp=datetime(2020, 7, 1, tzinfo=UTC),
    )


def original(url: str) -> None:
    import pandas as pd
    from drift import original_frames
    from sqlalchemy import create_engine, text

    query = text("SELECT * FROM ml_training_features WHERE strategy = 'growth' AND date > :after AND date <= :to")
    with create_engine(url).connect() as connection:
        before, now = (
            pd.read_sql(query, connection, params={"after": after, "to": to})
            for after, to in ((START, BORDER), (BORDER, AS_OF))
        )
    original_frames(before[FEATURES], now[FEATURES])


CONTENDERS: dict[str, Callable[[str], None]] = {"copy": copy, "ours": ours, "original": original}


def load(url: str, n_reference: int, n_current: int) -> None:
    """Both windows, day by day with the tickers in order; a third of the features heavy-tailed."""
    import adbc_driver_postgresql.dbapi as adbc
    import numpy as np
    import pyarrow as pa

    from mlops.features.postgres import libpq_uri

    rng = np.random.default_rng(1)
    columns = ", ".join(f"{name} double precision" for name in FEATURES)
    with adbc.connect(libpq_uri(url)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE ml_training_features (ticker text, date date, strategy text, {columns})")
        for n, first, n_days in ((n_reference, START, REFERENCE_DAYS), (n_current, BORDER, CURRENT_DAYS)):
            day = np.arange(n) * n_days // n
            first_of_day = np.searchsorted(day, day)
            for piece in np.array_split(np.arange(n), max(1, n // 100_000)):
                shared = rng.standard_normal((n_days, N_FEATURES)) * 0.2
                noise = rng.standard_normal((len(piece), N_FEATURES))
                noise[:, ::3] = np.exp(noise[:, ::3])
                noise += shared[day[piece]]
                table = {
                    "ticker": pa.array([f"T{i - first_of_day[i]:06d}" for i in piece]),
                    "date": pa.array(np.datetime64(first, "D") + 1 + day[piece]),
                    "strategy": pa.array(["growth"] * len(piece)),
                }
                table |= {name: pa.array(noise[:, i]) for i, name in enumerate(FEATURES)}
                cursor.adbc_ingest("ml_training_features", pa.table(table), mode="append")
        cursor.execute("CREATE INDEX ON ml_training_features (strategy, date)")
        connection.commit()
        cursor.execute("ANALYZE ml_training_features")
        connection.commit()


def measured(contender: str, url: str) -> dict[str, float]:
    """Seconds and peak memory in MiB of one contender, libraries loaded, in a process of its own."""
    told = subprocess.run(
        [sys.executable, __file__, "--child", contender], check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "ACIS_BENCH_URL": url},
    )  # fmt: skip
    result: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return result


def compare(n_reference: int, n_current: int, repeats: int) -> dict[str, dict[str, float]]:
    """Medians of seconds and peak MiB of each contender, interleaved."""
    from tests.support.servers import run_postgres

    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        Path(folder).chmod(0o755)
        with run_postgres(Path(folder)) as url:
            load(url, n_reference, n_current)
            for _ in range(repeats):
                for name, found in runs.items():
                    found.append(measured(name, url))
    return {name: {key: median(one[key] for one in found) for key in found[0]} for name, found in runs.items()}


def child(contender: str) -> None:
    """Run one contender once, its libraries imported first."""
    url = os.environ["ACIS_BENCH_URL"]
    if contender == "ours":
        import mlops.domain.drift.detect
        import mlops.features.postgres  # noqa: F401
    elif contender == "original":
        import drift  # noqa: F401 -- pandas and scipy.stats with it
        import sqlalchemy  # noqa: F401
    started = time.perf_counter()
    CONTENDERS[contender](url)
    seconds = time.perf_counter() - started
    # Not ru_maxrss: that starts with what the parent held when it forked.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_mib = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=(1_000_000, 100_000), metavar=("REFERENCE", "CURRENT"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    n_reference, n_current = options.rows
    print(f"PostgreSQL: {n_reference:,} x {N_FEATURES} against {n_current:,}, median of {options.repeats}")
    for name, result in compare(n_reference, n_current, options.repeats).items():
        print(f"  {name:<11}{result['seconds']:>9.2f} s{result['peak_mib']:>9.0f} MiB peak")


if __name__ == "__main__":
    main()
