"""What a version that predicts beside the champion costs its stage: time, and memory while it is loaded.

    .venv/bin/python bench/predict_beside.py [--json] [--repeats 5] [--names 500]

A Parquet view of 45 features, a model of the documented parameters (100 trees of depth 6). `load_s`: the file is
verified and a fast engine is found; `predict_s`: the date's rows are read and predicted; without the ledger's COPY, and
without MLflow's answer. `memory_mib`: by how much the process is larger after five more versions, each let go before
the next. One thread; medians.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost as xgb
from label_watch import FIRST, N_FEATURES, view

from mlops.domain.policies import Strategy
from mlops.domain.ports import ModelVersion
from mlops.domain.promotion.records import ModelIdentity
from mlops.features.parquet import ParquetFeatures
from mlops.stages.live.served_champion import load_version
from mlops.stages.live.universe import matrix_of, read_universe

DATES = 300
MIB = 1024 * 1024


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--names", type=int, default=500)
    options = parser.parse_args()
    figures = measured(options.names, repeats=options.repeats)
    for name, value in figures.items():
        print(f"{name:12} {value:8.3f}")
    if options.json:
        print(json.dumps({"figures": figures}))
    return 0


def measured(names: int, *, repeats: int) -> dict[str, float]:
    """Seconds of one version, and MiB of five after the first."""
    strategy, day = Strategy(name="growth"), FIRST + timedelta(days=DATES - 1)
    table = view(names, DATES)
    content = model_file(table)
    identity = ModelIdentity(sha256=hashlib.sha256(content).hexdigest(), made_by="run")
    version = ModelVersion(
        name=strategy.model_name,
        version="2",
        stage="None",
        aliases=(),
        run_id="run",
        tags={},
        metrics={},
        created_at=datetime.now(UTC),
    )
    registry = cast("Any", SimpleNamespace(version=lambda *_: version, model_file=lambda *_: content))
    loads, predictions = [], []
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        path = Path(folder) / "features.parquet"
        pq.write_table(table, path)
        del table
        source = ParquetFeatures(path)

        def one() -> None:
            began = time.perf_counter()
            served = load_version(registry, strategy, "2", identity, seq=1)
            loaded = time.perf_counter()
            rows = read_universe(source, strategy, served.model.features, day)
            served.model.predictor.probabilities(matrix_of(rows, served.model.features))
            loads.append(loaded - began)
            predictions.append(time.perf_counter() - loaded)

        one()
        before = psutil.Process().memory_info().rss
        for _ in range(max(5, repeats)):
            one()
        after = psutil.Process().memory_info().rss
    return {"load_s": median(loads[1:]), "predict_s": median(predictions[1:]), "memory_mib": (after - before) / MIB}


def model_file(table: pa.Table) -> bytes:
    """A model of the documented parameters."""
    names = [f"f{i:02}" for i in range(N_FEATURES)]
    rows = table.slice(0, 20_000).to_pandas()
    model = xgb.XGBClassifier(n_estimators=100, max_depth=6, learning_rate=0.1, n_jobs=1)
    model.fit(rows[names], (rows["target_return"] > 0).astype(int))
    return bytes(model.get_booster().save_raw("ubj"))


if __name__ == "__main__":
    sys.exit(main())
