"""What a drift check costs at one, three and ten million reference rows, sampled above `max_reference_rows`.

    python bench/drift_sampling.py [--source parquet|postgres] [--features 8] [--repeats 3] [--quick] [--json]

Medians of interleaved runs, each in a process of its own: reading both windows and the history, then the check; in
brackets the seconds of processor time of this process, which other programs on the machine move less. 90 dates of
reference, 100,000 current rows, a year of history of 1,000 names a date. `whole` reads all rows (max_reference_rows =
"none"), once. For `postgres` a server is started from the wheel's or the machine's programs and removed again; its
tables have an index on (strategy, date). --quick: 100,000 to 1,000,000 rows with a limit of 100,000, under 45 s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlops.domain.drift.detect import detect_drift
from mlops.domain.frame import feature_frame
from mlops.domain.policies import DataPolicy, DriftPolicy, Strategy
from mlops.features.postgres import libpq_uri
from mlops.features.source import open_source
from mlops.stages.drift_windows import read_windows

AS_OF = date(2024, 12, 31)
REFERENCE_DAYS, CURRENT_DAYS, HISTORY_DAYS = 90, 7, 400
CURRENT_ROWS, HISTORY_NAMES = 100_000, 1000


def day_rows(day: date, n: int, n_features: int) -> pa.Table:
    """One date of the view, with a common move."""
    rng = np.random.default_rng(day.toordinal())
    common = 0.2 * rng.standard_normal(n_features)
    values = {f"f{i}": rng.standard_normal(n) + common[i] for i in range(n_features)}
    return pa.table(
        {
            "ticker": [f"T{i:06}" for i in range(n)],
            "date": pa.array([day] * n, pa.date32()),
            "strategy": ["growth"] * n,
            **values,
            "target_return": rng.standard_normal(n),
        }
    )


def days(n_reference: int, n_features: int) -> Iterator[pa.Table]:
    """All dates, oldest first, one at a time."""
    first = AS_OF - timedelta(days=HISTORY_DAYS + REFERENCE_DAYS + CURRENT_DAYS - 1)
    for i in range(HISTORY_DAYS + REFERENCE_DAYS + CURRENT_DAYS):
        if i < HISTORY_DAYS:
            n = HISTORY_NAMES
        elif i < HISTORY_DAYS + REFERENCE_DAYS:
            n = n_reference // REFERENCE_DAYS
        else:
            n = CURRENT_ROWS // CURRENT_DAYS
        yield day_rows(first + timedelta(days=i), n, n_features)


def fill_parquet(path: Path, n_reference: int, n_features: int) -> str:
    """A file with a row group per date."""
    writer = None
    for table in days(n_reference, n_features):
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()
    return str(path)


def fill_postgres(url: str, relation: str, n_reference: int, n_features: int) -> str:
    """A table with an index, as a view of features that is asked every day has one."""
    mode = "create"
    with adbc.connect(libpq_uri(url)) as connection, connection.cursor() as cursor:
        for table in days(n_reference, n_features):
            cursor.adbc_ingest(relation, table, mode=mode)
            mode = "append"
        cursor.execute(f"CREATE INDEX ON {relation} (strategy, date)")
        connection.commit()
    with adbc.connect(libpq_uri(url), autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"VACUUM ANALYZE {relation}")
    return url


def check(url: str, relation: str, limit: int | None) -> dict[str, float]:
    """Seconds of each part, and the process's peak of memory."""
    data = DataPolicy(reference_days=REFERENCE_DAYS, current_days=CURRENT_DAYS, max_reference_rows=limit)
    strategy = Strategy(
        name="growth", data=data, drift=DriftPolicy(calibration_days=HISTORY_DAYS, min_calibration_days=365)
    )
    source = open_source(url, relation=relation)
    source.columns()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, busy = time.perf_counter(), time.process_time()
    read = read_windows(source, strategy, as_of=AS_OF, today=AS_OF)
    read_s, read_cpu_s = time.perf_counter() - started, time.process_time() - busy
    started, busy = time.perf_counter(), time.process_time()
    report = detect_drift(
        feature_frame(read.reference, read.features),
        feature_frame(read.current, read.features),
        strategy.drift,
        strategy=strategy.name,
        as_of=read.as_of,
        reference_window=read.reference_window,
        current_window=read.current_window,
        timestamp=datetime(2025, 1, 1, tzinfo=UTC),
        history=feature_frame(read.history, read.features),
    )
    check_s, check_cpu_s = time.perf_counter() - started, time.process_time() - busy
    if report.calibration.p_value is None:
        raise SystemExit(f"not calibrated: {report.calibration.missing}")
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {
        "kept": float(read.reference.num_rows),
        "read_s": read_s,
        "read_cpu_s": read_cpu_s,
        "check_s": check_s,
        "check_cpu_s": check_cpu_s,
        "peak_mib": peak,
    }


def in_a_process(place: tuple[str, str], limit: int | None) -> dict[str, float]:
    """The check's figures, so that each has a peak of its own."""
    command = [sys.executable, __file__, "--check", *place, "--limit", str(limit or 0)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def shown(figures: dict[str, float]) -> str:
    return (
        f"{figures['read_s']:>7.2f} s ({figures['read_cpu_s']:>6.2f}) {figures['check_s']:>7.2f} s "
        f"({figures['check_cpu_s']:>6.2f}) {figures['peak_mib']:>5.0f} MiB"
    )


def measure(source: str, sizes: tuple[int, ...], limit: int, n_features: int, repeats: int) -> dict[str, float]:
    """Fill, run interleaved, print."""
    figures: dict[str, float] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acis-bench-")))
        places: dict[int, tuple[str, str]] = {}
        if source == "postgres":
            # The tests' own server: it picks the program, and is gone afterwards.
            from tests.support.servers import run_postgres

            server = stack.enter_context(run_postgres(folder))
            for n in sizes:
                places[n] = (fill_postgres(server, f"features_{n}", n, n_features), f"features_{n}")
        else:
            for n in sizes:
                places[n] = (fill_parquet(folder / f"{n}.parquet", n, n_features), "none")
        print(f"{source}, {n_features} features, at most {limit:,} reference rows, 100,000 current")
        runs = [{n: in_a_process(places[n], limit) for n in sizes} for _ in range(repeats)]
        sampled = {n: {part: median(run[n][part] for run in runs) for part in runs[0][n]} for n in sizes}
        print(f"{'rows':>11} {'kept':>10} {'read':>10} {'':>7} {'check':>10} {'':>7} {'peak':>10}")
        for n, found in sampled.items():
            print(f"{n:>11,} {found['kept']:>10,.0f} {shown(found)}", flush=True)
        for n in sizes:
            whole = in_a_process(places[n], None)
            print(f"{n:>11,} {'whole':>10} {shown(whole)}", flush=True)
            for part in ("read_s", "read_cpu_s", "check_s", "check_cpu_s", "peak_mib"):
                figures[f"{part}_{n}"], figures[f"{part}_{n}_whole"] = sampled[n][part], whole[part]
    small, large = sampled[sizes[0]], sampled[sizes[-1]]
    for name, part in (("check", "check_cpu_s"), ("read", "read_s"), ("peak", "peak_mib")):
        figures[f"{name}_largest_over_smallest"] = large[part] / small[part]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=("parquet", "postgres"), default="parquet")
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--check", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=int, default=1_000_000, help="max_reference_rows")
    options = parser.parse_args()
    if options.check:
        print(json.dumps(check(*options.check, options.limit or None)))
        return
    sizes = (100_000, 300_000, 1_000_000) if options.quick else (1_000_000, 3_000_000, 10_000_000)
    limit = 100_000 if options.quick else options.limit
    figures = measure(options.source, sizes, limit, options.features, 1 if options.quick else options.repeats)
    for name in ("check", "read", "peak"):
        print(f"{name}: {figures[f'{name}_largest_over_smallest']:.2f} x from the smallest to the largest")
    if options.json:
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        versions = {"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__}
        print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
