"""What the watch on newly known labels adds to a drift check.

    .venv/bin/python bench/label_watch.py [--json] [--repeats 5] [--names 100] [--dates 900]

A Parquet view of 45 features; a champion that was judged on 60 dates and trained 150 dates ago. `check`: the windows
are read and compared by the calibrated rule, as a check does beside the ledger and MLflow. `watch`: `watch_champion`,
after its first time in a process, which simulates the bound (`first_s`). In turns, one thread;
`check_and_watch_over_check` is the median of the turns' own ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost as xgb

from mlops.domain.drift.detect import detect_drift
from mlops.domain.frame import feature_frame
from mlops.domain.policies import Strategy
from mlops.domain.promotion.records import Champion
from mlops.features.parquet import ParquetFeatures
from mlops.stages.drift_windows import read_windows
from mlops.stages.judged_model import JudgedModel
from mlops.stages.live.label_watch import watch_champion

N_FEATURES = 45
FIRST = date(2020, 1, 1)
#: Dates since the champion's training; before them the horizon, then what its twin held out.
AGE_DATES, HORIZON, HELD_OUT = 150, 20, 60


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--names", type=int, default=100)
    parser.add_argument("--dates", type=int, default=900)
    options = parser.parse_args()
    figures = measured(options.names, options.dates, repeats=options.repeats)
    for name, value in figures.items():
        print(f"{name:28} {value:8.3f}")
    if options.json:
        print(json.dumps({"figures": figures}))
    return 0


def measured(names: int, dates: int, *, repeats: int) -> dict[str, float]:
    """Seconds of both, and their ratio."""
    strategy, as_of = Strategy(name="growth"), FIRST + timedelta(days=dates - 1)
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        path = Path(folder) / "features.parquet"
        table = view(names, dates)
        pq.write_table(table, path)
        source, services = ParquetFeatures(path), champion_of(table, as_of)
        champion = Champion(strategy="growth", namespace="live", seq=1, version="1", as_of=None, promotion_id=None)

        def check() -> None:
            read = read_windows(source, strategy, as_of=as_of, today=as_of)
            history, reference, current = (
                feature_frame(rows, read.features) for rows in (read.history, read.reference, read.current)
            )
            detect_drift(
                reference,
                current,
                strategy.drift,
                strategy=strategy.name,
                as_of=as_of,
                reference_window=read.reference_window,
                current_window=read.current_window,
                timestamp=datetime.now(UTC),
                min_current_rows=strategy.data.min_current_rows,
                history=history,
            )

        def watch() -> None:
            found = watch_champion(services, source, strategy, champion, as_of=as_of)
            if found["why_not"] is not None:
                raise SystemExit(found["words"])

        first_s = seconds(watch)
        turns = [(seconds(check), seconds(watch)) for _ in range(repeats)]
    return {
        "check_s": median(one for one, _ in turns),
        "watch_s": median(other for _, other in turns),
        "first_s": first_s,
        "check_and_watch_over_check": median((one + other) / one for one, other in turns),
    }


def view(names: int, dates: int) -> pa.Table:
    """Rows of random features, whose label follows the first."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(names * dates, N_FEATURES))
    days = [FIRST + timedelta(days=day) for day in range(dates) for _ in range(names)]
    return pa.table(
        {
            "ticker": [f"T{number:04}" for number in range(names)] * dates,
            "date": pa.array(days, pa.date32()),
            "strategy": ["growth"] * len(x),
            **{f"f{i:02}": x[:, i] for i in range(N_FEATURES)},
            "target_return": 0.01 * x[:, 0] + 0.02 * generator.normal(size=len(x)),
        }
    )


def champion_of(table: pa.Table, as_of: date) -> Any:  # noqa: ANN401 -- stands for the services of a check
    """A champion of the documented parameters that stands for itself and its twin."""
    names = [f"f{i:02}" for i in range(N_FEATURES)]
    rows = table.slice(0, 20_000).to_pandas()
    model = xgb.XGBClassifier(n_estimators=100, max_depth=6, learning_rate=0.1, n_jobs=1)
    model.fit(rows[names], (rows["target_return"] > 0).astype(int))
    trained = as_of - timedelta(days=AGE_DATES)
    last = trained - timedelta(days=HORIZON)
    tags = {
        "training_date": trained.isoformat(),
        "train_end": last.isoformat(),
        "holdout_start": (last - timedelta(days=HELD_OUT - 1)).isoformat(),
        "holdout_end": last.isoformat(),
    }
    judged = JudgedModel(classifier=model, itself=model, twin_sha256=None, train_end=None)
    champions = SimpleNamespace(judged=lambda *_: (judged, tags))
    return cast("Any", SimpleNamespace(champions=champions, ledger=None))


def seconds(work: Any) -> float:  # noqa: ANN401 -- a function
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
