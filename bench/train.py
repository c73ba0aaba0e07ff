"""The train stage against a script written by hand that does the same work, and the memory of a large fit.

    .venv/bin/python bench/train.py [--quick] [--json] [--repeats 5] [--rows 50000] [--folds 0] [--profile]

Starts PostgreSQL and MLflow of its own and loads rows of 45 features. `stage`: a whole run of kind train, from its
acceptance in the ledger to its version in Staging, which registers what it judged (`training.refit = false`). `refit`:
the same with a refit beside its judged twin, the default; `refit_over_single`: one over the other. `script`:
bench/train_script.py. All with one thread, in turns, in one process, after one pass of each that is not counted;
medians. Memory: a process of its own reads and fits 1,000,000 x 45 rows (--quick: 200,000) from PostgreSQL; its peak
growth over the float32 matrix (rows x 45 x 4 bytes), the same with the refit after it (`refit_peak_ratio`), and of one
fit alone on the rows of the refit (`all_rows_peak_ratio`). `stage_peak_mb`, `refit_stage_peak_mb`: the resident memory
of a process that runs a whole training on these rows, without the refit and with it. --only-peak: the memory alone.
Without missing values: with any (--peak-missing 0.02), XGBoost's own binned copy takes 4 bytes a value in place of 1.
--folds N: the stage with a stability table of N folds, which the script does not make. --profile: where the stage's
time goes, by function.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import logging
import os
import platform
import pstats
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ACIS_TRAIN_N_JOBS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

N_FEATURES = 45
FEATURES = tuple(f"f{number}" for number in range(N_FEATURES))
N_DATES = 500
LAST = date(2022, 12, 30)
PEAK_ROWS, QUICK_PEAK_ROWS = 1_000_000, 200_000
#: Functions that the train stage calls, and the part of its time they are.
PARTS = {
    "read_labelled": "read",
    "read_recent": "read",
    "fit": "fit",
    "fit_twin_and_refit": "fit",
    "score_rows": "evaluate",
    "check_training": "findings and folds",
    "_profile": "frozen drift profile",
    "tags_of": "fingerprint",
    "record_of": "plots, SHAP, card",
    "_to_staging": "to Staging",
}


def load(url: str, n_rows: int, *, missing: float = 0.02) -> None:
    """Business days up to LAST, as many names a date; 2 % missing values."""
    import adbc_driver_postgresql.dbapi as adbc
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(7)
    names = n_rows // N_DATES
    days = np.busday_offset(LAST, np.arange(1 - N_DATES, 1), roll="backward")
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS ml_training_features")
        per_piece = max(1, 50_000 // names)
        for start in range(0, N_DATES, per_piece):
            piece = np.repeat(days[start : start + per_piece], names)
            x = rng.standard_normal((len(piece), N_FEATURES))
            target = 0.02 * x[:, 0] + 0.05 * rng.standard_normal(len(piece))
            x[rng.random(x.shape) < missing] = np.nan
            table = pa.table(
                {
                    "ticker": [f"T{number:05}" for number in range(names)] * (len(piece) // names),
                    "date": piece.astype("datetime64[D]"),
                    "strategy": ["growth"] * len(piece),
                    **{name: x[:, place] for place, name in enumerate(FEATURES)},
                    "target_return": target,
                }
            )
            cursor.adbc_ingest("ml_training_features", table, mode="append" if start else "create")
        cursor.execute("CREATE INDEX ON ml_training_features (strategy, date)")
        cursor.execute("ANALYZE ml_training_features")
        connection.commit()


def services_of(
    url: str, tracking_uri: str, folder: Path, *, folds: int = 0, refit: bool = False, rounds: int | None = None
) -> Any:  # noqa: ANN401 -- Services
    """The system's services on these servers, with a migrated ledger."""
    from config.settings import Settings
    from mlops.bootstrap import Services
    from mlops.domain.policies import TrainingPolicy
    from mlops.ledger.schema import migrate

    strategies = folder / f"strategies-{'refit' if refit else 'single'}.toml"
    policy = f"folds = {folds}\nrefit = {str(refit).lower()}\n"
    if rounds is not None:
        params = {**TrainingPolicy().params, "n_estimators": rounds}
        policy += f"params = {{ {', '.join(f'{name} = {value}' for name, value in params.items())} }}\n"
    strategies.write_text(f"[strategies.growth.training]\n{policy}", encoding="utf-8")
    migrate(url)
    settings = Settings(
        database_url=url,
        mlflow_tracking_uri=tracking_uri,
        strategies_file=strategies,
        var_dir=folder,
        report_dir=folder,
        train_n_jobs=1,
    )
    return Services(settings)


def stage_of(services: Any) -> Callable[..., dict[str, float]]:  # noqa: ANN401 -- Services
    """Runs a training as `acis train` does, and says what its parts took; its keywords are the request's."""
    from mlops.domain.records import Executor, Kind, RunState
    from mlops.runs.inline import run_inline
    from mlops.runs.request import run_request
    from mlops.stages import train as train_stage

    parts: dict[str, float] = {}

    def timed(part: str, function: Any) -> Any:  # noqa: ANN401 -- any function
        def run(*given: Any, **named: Any) -> Any:  # noqa: ANN401
            began = perf_counter()
            try:
                return function(*given, **named)
            finally:
                parts[part] = perf_counter() - began

        return run

    for name, part in PARTS.items():
        setattr(train_stage, name, timed(part, getattr(train_stage, name)))
    services.registry.log_training = timed("log and register", services.registry.log_training)  # type: ignore[method-assign]

    def stage(**asked: Any) -> dict[str, float]:  # noqa: ANN401 -- of several types
        parts.clear()
        request = run_request(
            services.strategies,
            "growth",
            Kind.TRAIN,
            reason="bench",
            requested_by="bench",
            executor=Executor.INLINE,
            **{"as_of": LAST, **asked},
        )
        began = perf_counter()
        view = run_inline(services, request, on_accept=lambda _: None, on_stage=lambda *_: None)
        whole = perf_counter() - began
        if view.state is not RunState.SUCCEEDED:
            raise SystemExit(f"the training ended {view.state}: {view.stages[-1].error}")
        return {**parts, "ledger and rest": whole - sum(parts.values()), "whole": whole}

    return stage


def peak_child(fits: str) -> None:
    """In a process of its own: read and fit, and print the growth of the resident memory over where it began."""
    from dataclasses import replace

    from config.settings import Settings
    from mlops.domain.policies import Strategy
    from mlops.domain.training.splits import all_known
    from mlops.domain.training.trainer import XGBoostTrainer
    from mlops.features.source import open_source
    from mlops.stages.fitting import fit, fit_twin_and_refit
    from mlops.stages.labelled_rows import read_labelled, split_rows
    from tests.support.models import RecordingControl, training_data

    control, settings = RecordingControl(), Settings(train_n_jobs=1)
    # Libraries load and allocate at first use.
    params = {"n_estimators": 1}
    XGBoostTrainer().fit(
        training_data(), params=params, seed=1, device="cpu", n_jobs=1, segment_rounds=50, control=control
    )
    control.checkpoint = None
    source = open_source(os.environ["ACIS_BENCH_URL"])
    source.columns()
    before = _memory("VmRSS")
    strategy = Strategy(name="growth")
    policy = replace(strategy.training, params={**strategy.training.params, "n_estimators": 10})
    rows = read_labelled(source, strategy, as_of=LAST)
    split = split_rows(rows, policy)
    everything = all_known(split, rows.dates, rows.known)
    if fits == "refit":
        fit_twin_and_refit(policy, rows, split, everything, settings=settings, control=control)
    else:
        fit(policy, rows, split if fits == "single" else everything, settings=settings, control=control)
    print(json.dumps({"growth": _memory("VmHWM") - before, "matrix": rows.x.shape[0] * rows.x.shape[1] * 4}))


def stage_peak_child(folder: Path, *, refit: bool) -> None:
    """In a process of its own: a whole training of 10 rounds; print the peak of the resident memory, libraries too."""
    quiet()
    url, tracking_uri = os.environ["ACIS_BENCH_URL"], os.environ["ACIS_BENCH_MLFLOW"]
    stage_of(services_of(url, tracking_uri, folder, refit=refit, rounds=10))()
    print(json.dumps({"peak_mb": _memory("VmHWM") / 2**20}))


def _memory(what: str) -> int:
    """Bytes. Not ru_maxrss, which starts with what the parent held when it forked."""
    return int(Path("/proc/self/status").read_text(encoding="ascii").partition(f"{what}:")[2].split()[0]) * 1024


def in_child(what: str, url: str, tracking_uri: str = "") -> dict[str, float]:
    """What a process of its own tells."""
    told = subprocess.run(
        [sys.executable, __file__, "--child", what],
        env={**os.environ, "ACIS_BENCH_URL": url, "ACIS_BENCH_MLFLOW": tracking_uri},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def peaks(url: str, tracking_uri: str) -> dict[str, float]:
    """Peak growth of reading and fitting over the float32 matrix, and the peak of a whole stage."""
    ratios = {"matrix_peak_ratio": "single", "refit_peak_ratio": "refit", "all_rows_peak_ratio": "all_rows"}
    figures = {}
    for name, fits in ratios.items():
        found = in_child(fits, url)
        figures[name] = found["growth"] / found["matrix"]
    for name in ("stage", "refit_stage"):
        figures[f"{name}_peak_mb"] = in_child(name, url, tracking_uri)["peak_mb"]
    return figures


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--no-peak", action="store_true", help="leave the memory out")
    parser.add_argument("--only-peak", action="store_true", help="measure the memory alone")
    parser.add_argument("--peak-missing", type=float, default=0.0, help="share of missing values in that table")
    parser.add_argument(
        "--child", choices=["single", "refit", "all_rows", "stage", "refit_stage"], help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.child in ("stage", "refit_stage"):
        with tempfile.TemporaryDirectory(prefix="acis-bench-") as name:
            stage_peak_child(Path(name), refit=options.child == "refit_stage")
        return 0
    if options.child:
        peak_child(options.child)
        return 0
    figures = measured(options)
    for name, value in figures.items():
        print(f"{name:24} {value:8.2f}")
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
        versions = {name: version(name) for name in ("mlflow", "xgboost-cpu", "matplotlib", "numpy")}
        print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))
    return 0


def measured(options: argparse.Namespace) -> dict[str, float]:
    """All figures; tables of the parts are printed on the way."""
    from mlops.features.postgres import libpq_uri
    from tests.support.servers import Databases, run_mlflow, run_postgres

    quiet()
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with run_postgres(folder) as server:
            databases = Databases(server_url=server)
            url = databases.make()
            if not options.only_peak:
                load(libpq_uri(url), options.rows)
            with run_mlflow(folder, databases.make()) as tracking_uri:
                figures = {} if options.only_peak else summary(**in_turns(url, tracking_uri, folder, options))
                if not options.no_peak:
                    n_rows = QUICK_PEAK_ROWS if options.quick else PEAK_ROWS
                    load(libpq_uri(url), n_rows, missing=options.peak_missing)
                    figures |= peaks(url, tracking_uri)
    return figures


def quiet() -> None:
    """Neither the library's advice nor our own log lines belong into the table."""
    import structlog

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def in_turns(
    url: str, tracking_uri: str, folder: Path, options: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """Parts of each pass of the stage, of the stage with a refit, and of the script."""
    from train_script import train_by_hand

    from mlops.domain.policies import TrainingPolicy
    from mlops.features.postgres import libpq_uri

    stage, refit = (
        stage_of(services_of(url, tracking_uri, folder, folds=options.folds, refit=refits)) for refits in (False, True)
    )

    def script() -> dict[str, float]:
        began = perf_counter()
        parts = train_by_hand(libpq_uri(url), tracking_uri, model_name="by_hand", params=dict(TrainingPolicy().params))
        return {**parts, "whole": perf_counter() - began}

    works = {"stages": stage, "refits": refit, "scripts": script}
    for work in works.values():
        work()
    passes: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    for _ in range(2 if options.quick else options.repeats):
        for name, work in works.items():
            passes[name].append(work())
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(stage)
        pstats.Stats(profile).sort_stats("cumtime").print_stats(60)
    return passes


def summary(
    stages: list[dict[str, float]], refits: list[dict[str, float]], scripts: list[dict[str, float]]
) -> dict[str, float]:
    """Print the medians of the parts; the figures."""
    stage, refit, script = (
        {part: median(one[part] for one in passes) for part in passes[0]} for passes in (stages, refits, scripts)
    )
    print(f"{'part':24} {'stage s':>8} {'refit s':>8} {'script s':>9}")
    for part in [*stage, *(part for part in script if part not in stage)]:
        shown = (f"{found[part]:.2f}" if part in found else "" for found in (stage, refit, script))
        print("{:24} {:>8} {:>8} {:>9}".format(part, *shown))
    return {
        "stage_s": stage["whole"],
        "refit_s": refit["whole"],
        "script_s": script["whole"],
        "refit_over_single": median(
            ours["whole"] / theirs["whole"] for ours, theirs in zip(refits, stages, strict=True)
        ),
        "stage_over_script": median(
            ours["whole"] / theirs["whole"] for ours, theirs in zip(stages, scripts, strict=True)
        ),
        "stage_over_read_fit": stage["whole"] / (stage["read"] + stage["fit"]),
    }


if __name__ == "__main__":
    sys.exit(main())
