"""A drift check (KS, PSI, descriptive statistics) against the original's algorithm, plain scipy and a bare sort.

    python bench/drift.py [--quick | --from-memory] [--best] [--cpu] [--json] [--repeats 5]

50,000 x 45 against 500, and 1,000,000 x 45 against 100,000, from memory. `original`: per column scipy.ks_2samp,
PSI over closed quantile bins by np.histogram, pandas describe, skew and kurtosis. `sort`: np.sort of every
contiguous column of both windows, one thread. `calibrated` has two years of history before the reference, as
many rows of each date as the check keeps. `both` is that with a champion's profile as a second reference. `frozen` is a
check against a champion's profile alone (frozen_check_ms).
--quick: the small comparison, and the large sort; under 45 s. --from-memory: all but other libraries and PostgreSQL.

    original_over_ours_small, _large   seconds of `original` over those of `ours`
    ours_over_sort_small, _large       seconds of `ours` (all cores) over those of `sort` (one thread)
    calibrated_over_raw, _large        seconds of `calibrated` over those of `ours`: of the small size, of the large
    both_over_calibrated, _large       seconds of `both` over those of `calibrated`, likewise
    extra_memory_over_frame_large      most that one run of `ours` allocates (tracemalloc) over the bytes of the rows
    evidently_over_ours_small          seconds of Evidently's drift preset over those of `ours`; others alike
    ours_over_copy_large               from PostgreSQL: a check's seconds over those of the binary COPY of its rows
    original_over_ours_postgres_large  pandas.read_sql and `original` over that check
    rss_ours_over_original_large       most resident memory of that check's process over that of pandas and `original`

The libraries are looked for in .venv-bench (`make bench-deps`); what runs from PostgreSQL is bench/drift_postgres.py.

Medians of interleaved runs. On a machine that is busy with something else, use --best: least seconds of each; and
--cpu: seconds of processor time of all threads, which is no less than what a quiet machine would show for `ours`, the
only one with several.
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
import tracemalloc
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import scipy
from scipy import stats

from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.placements import ROWS_PER_DATE
from mlops.domain.drift.references.frozen import detect_drift_from_profile
from mlops.domain.drift.references.training_profile import (
    DriftProfile,
    make_profile,
    profile_digest,
    read_profile,
    write_profile,
)
from mlops.domain.drift.references.two_references import detect_drift_by_both
from mlops.domain.drift.report import DriftReport, ReferenceUsed
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window

N_FEATURES = 45
#: Where `make bench-deps` installs the other libraries.
PEERS_PYTHON = Path(__file__).resolve().parents[1] / ".venv-bench/bin/python"
SIZES = {"small": (50_000, 500), "large": (1_000_000, 100_000)}
REFERENCE_DATES, CURRENT_DATES, HISTORY_DATES = 62, 5, 504
FIRST = date(2020, 1, 1)


def frame(n_rows: int, first_date: int, n_dates: int, seed: int) -> FeatureFrame:
    """Rows ordered by date, a common move per date; a third of the features heavy-tailed."""
    rng = np.random.default_rng(seed)
    day = np.arange(n_rows) * n_dates // n_rows
    numbers = {}
    for i in range(N_FEATURES):
        noise = rng.standard_normal(n_rows)
        numbers[f"f{i}"] = (np.exp(noise) if i % 3 == 0 else noise) + 0.2 * rng.standard_normal(n_dates)[day]
    dates = np.datetime64(FIRST, "D") + first_date + day
    return FeatureFrame(n_rows=n_rows, numbers=numbers, categories={}, dates=dates)


def ours(reference: FeatureFrame, current: FeatureFrame, history: FeatureFrame | None, rule: str) -> None:
    report = against_trailing(reference, current, history, DriftPolicy(rule=rule))
    if history is not None and report.calibration.p_value is None:
        raise SystemExit(f"not calibrated: {report.calibration.missing}")


def against_trailing(
    reference: FeatureFrame, current: FeatureFrame, history: FeatureFrame | None, policy: DriftPolicy
) -> DriftReport:
    day = timedelta(days=1)
    border = FIRST + (HISTORY_DATES - 1) * day
    between = border + REFERENCE_DATES * day
    return detect_drift(
        reference,
        current,
        policy,
        strategy="bench",
        as_of=between + CURRENT_DATES * day,
        reference_window=Window(start=border, end=between),
        current_window=Window(start=between, end=between + CURRENT_DATES * day),
        timestamp=datetime(2022, 1, 1, tzinfo=UTC),
        history=history,
    )


@cache
def profile_before(first_current: int) -> DriftProfile:
    """Profile of two years of history, 404 trained dates and 100 later ones, 48 rows each; 50 dates pass afterwards."""
    spans = (HISTORY_DATES, 404, 100)
    first = first_current - 50 - sum(spans)
    starts = [first, first + spans[0], first + spans[0] + spans[1], first + sum(spans)]
    parts = [frame(ROWS_PER_DATE * n, start, n, 5) for n, start in zip(spans, starts, strict=False)]
    day = timedelta(days=1)
    return make_profile(
        *parts,
        strategy="bench",
        as_of=FIRST + (starts[3] - 1) * day,
        trained_window=Window(start=FIRST + (starts[1] - 1) * day, end=FIRST + (starts[2] - 1) * day),
        bins=10,
    )


def both(reference: FeatureFrame, current: FeatureFrame, history: FeatureFrame | None) -> None:
    first_current = HISTORY_DATES + REFERENCE_DATES
    report = detect_drift_by_both(
        lambda policy: against_trailing(reference, current, history, policy),
        profile_before(first_current),
        current,
        DriftPolicy(),
        current_start=FIRST + timedelta(days=first_current - 1),
        used=ReferenceUsed(choice="champion", model_version="1"),
        min_current_rows=100,
    )
    if report.trailing is None:
        raise SystemExit(f"no second reference: {report.champion.missing if report.champion else 'none asked'}")


def original(reference: FeatureFrame, current: FeatureFrame) -> None:
    original_frames(pd.DataFrame(reference.numbers, copy=False), pd.DataFrame(current.numbers, copy=False))


def original_frames(before: pd.DataFrame, now: pd.DataFrame) -> None:
    for name in before.columns:
        ref, cur = before[name].dropna(), now[name].dropna()
        stats.ks_2samp(ref, cur)
        edges = np.unique(np.percentile(ref, np.linspace(0, 100, 11)))
        r = np.histogram(ref, bins=edges)[0] / len(ref)
        c = np.histogram(cur, bins=edges)[0] / len(cur)
        r, c = np.where(r == 0, 1e-4, r), np.where(c == 0, 1e-4, c)
        np.sum((c - r) * np.log(c / r))
    for table in (before, now):
        table.describe()
        table.skew()
        table.kurtosis()


def plain_scipy(reference: FeatureFrame, current: FeatureFrame) -> None:
    for name, values in reference.numbers.items():
        stats.ks_2samp(values, current.numbers[name], method="asymp")


def sort(reference: FeatureFrame, current: FeatureFrame) -> None:
    for one in (reference, current):
        for values in one.numbers.values():
            np.sort(values)


#: What is measured, by its name: reference, current, history.
CONTENDERS: dict[str, Callable[[FeatureFrame, FeatureFrame, FeatureFrame | None], None]] = {
    "ours": lambda reference, current, _: ours(reference, current, None, "raw"),
    "calibrated": lambda reference, current, history: ours(reference, current, history, "calibrated"),
    "both": both,
    "original": lambda reference, current, _: original(reference, current),
    "scipy": lambda reference, current, _: plain_scipy(reference, current),
    "sort": lambda reference, current, _: sort(reference, current),
}


#: What seconds are measured with; `--cpu` takes the other.
MEASURE = {"clock": time.perf_counter}


def timed(work: Callable[[], None]) -> float:
    clock = MEASURE["clock"]
    started = clock()
    work()
    return clock() - started


def windows(size: str) -> tuple[FeatureFrame, FeatureFrame]:
    n_reference, n_current = SIZES[size]
    return frame(n_reference, HISTORY_DATES, REFERENCE_DATES, 1), frame(
        n_current, HISTORY_DATES + REFERENCE_DATES, CURRENT_DATES, 2
    )


def peak_growth_mib(size: str) -> float:
    """Peak of what one run of ours allocates beyond its inputs."""
    reference, current = windows(size)
    tracemalloc.start()
    ours(reference, current, None, "raw")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def compare(size: str, contenders: list[str], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contender, interleaved."""
    n_reference = SIZES[size][0]
    reference, current = windows(size)
    # As many rows as the check keeps of each date.
    history = frame(
        min(n_reference * HISTORY_DATES // REFERENCE_DATES, ROWS_PER_DATE * HISTORY_DATES), 0, HISTORY_DATES, 3
    )
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    if "both" in contenders:
        both(reference, current, history)  # the profile is made once, and its sums are kept
    for _ in range(repeats):
        for name in contenders:
            seconds[name].append(timed(lambda work=CONTENDERS[name]: work(reference, current, history)))
    return seconds


def frozen(repeats: int, middle: Callable[[list[float]], float] = median) -> tuple[float, float]:
    """Seconds of a check of 500 current rows against a champion's profile: one in memory, one read from its file."""
    day, first_current = timedelta(days=1), HISTORY_DATES + 404 + 100 + 50
    profile = profile_before(first_current)
    content, current = write_profile(profile), frame(500, first_current, CURRENT_DATES, 6)
    as_of = FIRST + (first_current + CURRENT_DATES - 1) * day

    def check(kept: DriftProfile) -> None:
        report = detect_drift_from_profile(
            kept,
            current,
            DriftPolicy(),
            as_of=as_of,
            current_window=Window(start=as_of - CURRENT_DATES * day, end=as_of),
            timestamp=datetime(2022, 1, 1, tzinfo=UTC),
            used=ReferenceUsed(choice="champion", model_version="1"),
        )
        if report.calibration.p_value is None:
            raise SystemExit(f"not calibrated: {report.calibration.missing}")

    digest = profile_digest(content)
    warm, cold = [], []
    for _ in range(2 * repeats + 1):
        cold.append(timed(lambda: check(read_profile(content, expected_sha256=digest))))
        warm.append(timed(lambda: check(profile)))
    # The first of each makes what the process keeps.
    return middle(warm[1:]), middle(cold[1:])


def peers(repeats: int) -> dict[str, float]:
    """Each library's seconds over ours, small; nothing where they are not installed."""
    if not PEERS_PYTHON.exists():
        print("\nother libraries: not installed; `make bench-deps` installs them")
        return {}
    reference, current = windows("small")
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        path = Path(folder) / "windows.npz"
        np.savez(path, **{name: np.column_stack(list(one.numbers.values())) for name, one in
                          (("reference", reference), ("current", current))})  # fmt: skip
        script = Path(__file__).with_name("drift_peers.py")
        theirs = {}
        for name in ("evidently", "nannyml", "frouros"):
            told = subprocess.run(
                [PEERS_PYTHON, script, name, path], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            theirs[name] = json.loads(told.stdout.splitlines()[-1])
    seconds = median(timed(lambda: ours(reference, current, None, "raw")) for _ in range(repeats))
    print(f"\nsmall, one run of each in a process of its own: ours {1000 * seconds:.1f} ms")
    for name, found in theirs.items():
        ratio = found["seconds"] / seconds
        print(f"  {name + ' ' + found['version']:<18}{1000 * found['seconds']:>10.1f} ms{ratio:>10.1f} x ours")
    return {f"{name}_over_ours_small": found["seconds"] / seconds for name, found in theirs.items()}


def from_postgres(repeats: int) -> dict[str, float]:
    """The large size from a PostgreSQL server of its own."""
    from drift_postgres import compare as compare_in_postgres  # that module takes `original_frames` from this one

    found = compare_in_postgres(*SIZES["large"], repeats)
    print(f"\nlarge, from PostgreSQL, median of {repeats}")
    for name, one in found.items():
        print(f"  {name:<11}{one['seconds']:>9.2f} s{one['peak_mib']:>9.0f} MiB peak")
    return {
        "ours_over_copy_large": found["ours"]["seconds"] / found["copy"]["seconds"],
        "original_over_ours_postgres_large": found["original"]["seconds"] / found["ours"]["seconds"],
        "rss_ours_over_original_large": found["ours"]["peak_mib"] / found["original"]["peak_mib"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--from-memory", action="store_true", help="without other libraries and PostgreSQL")
    parser.add_argument("--cpu", action="store_true", help="processor time of all threads instead of time passed")
    parser.add_argument("--best", action="store_true", help="least seconds of each instead of the median")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    middle = min if options.best else median
    MEASURE["clock"] = time.process_time if options.cpu else time.perf_counter
    figures: dict[str, float] = {}
    for size in SIZES:
        contenders = list(CONTENDERS) if size == "small" or not options.quick else ["ours", "sort"]
        repeats = options.repeats if size == "small" or not options.quick else 2
        seconds = {name: middle(values) for name, values in compare(size, contenders, repeats).items()}
        print(f"\n{size}: {SIZES[size][0]:,} x {N_FEATURES} against {SIZES[size][1]:,}, {middle.__name__} of {repeats}")
        for name, value in seconds.items():
            print(f"  {name:<11}{1000 * value:>10.1f} ms   {value / seconds['ours']:>7.2f} x ours")
        if "original" in seconds:
            figures[f"original_over_ours_{size}"] = seconds["original"] / seconds["ours"]
            figures[f"scipy_over_ours_{size}"] = seconds["scipy"] / seconds["ours"]
        if "calibrated" in seconds:
            figures["calibrated_over_raw" if size == "small" else "calibrated_over_raw_large"] = (
                seconds["calibrated"] / seconds["ours"]
            )
            name = "both_over_calibrated" if size == "small" else "both_over_calibrated_large"
            figures[name] = seconds["both"] / seconds["calibrated"]
        figures[f"ours_over_sort_{size}"] = seconds["ours"] / seconds["sort"]
    if not options.quick:
        in_memory, from_file = frozen(options.repeats, middle)
        print(f"\nfrozen: 500 x {N_FEATURES} against a profile, {middle.__name__} of {2 * options.repeats}")
        print(f"  in memory {1000 * in_memory:>8.1f} ms, calibrated\n  from file {1000 * from_file:>8.1f} ms")
        figures["frozen_check_ms"], figures["frozen_check_from_file_ms"] = 1000 * in_memory, 1000 * from_file
        frame_mib = sum(SIZES["large"]) * N_FEATURES * 8 / 2**20
        peak = peak_growth_mib("large")
        print(f"\nlarge: ours allocates {peak:.0f} MiB beyond the {frame_mib:.0f} MiB of the rows")
        figures["extra_memory_over_frame_large"] = peak / frame_mib
        if not options.from_memory:
            figures |= peers(options.repeats)
            figures |= from_postgres(min(options.repeats, 3))
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        versions = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "pandas": pd.__version__,
        }
        shown = {name: round(value, 3) for name, value in figures.items()}
        print(json.dumps({"figures": shown, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
