"""What it costs that a training can be resumed: segments, and their checkpoints, against boosting in one piece.

    .venv/bin/python bench/segments.py [--quick] [--json] [--repeats 5] [--rows 50000] [--rounds 300]

Rows of 45 features with a weak signal and 2 % missing values; one thread, subsample 0.8, depth 6. In turns: the trainer
in one segment of all rounds, and in segments of 100, 50 (the default) and 10; seconds of CPU. Quality is the ROC AUC on
as many rows again that no fit saw, the mean over the seeds of the repeats. A checkpoint is what the last border saves,
written to a local folder with its digest.

    segments_over_one_piece_50     time of segments of 50 over time in one piece
    segments_auc_difference_50     AUC of segments of 50 less AUC in one piece
    checkpoint_ms                  to keep the last booster
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median, stdev
from time import perf_counter, process_time

os.environ |= {"OMP_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import xgboost as xgb
from sklearn.metrics import roc_auc_score

from mlops.domain.ports import Progress, TrainingData
from mlops.domain.training.trainer import XGBoostTrainer
from mlops.registry.checkpoint_store import CheckpointStore

N_FEATURES = 45
FEATURES = tuple(f"f{number}" for number in range(N_FEATURES))
SEGMENTS = (100, 50, 10)


class Kept:
    """A training's control that keeps the newest checkpoint in memory, as a worker does between two saves."""

    def __init__(self) -> None:
        self.checkpoint: tuple[str, bytes] | None = None

    def report(self, progress: Progress) -> None:
        """Nobody looks."""

    def check(self) -> None:
        """It goes on."""

    def check_before_write(self) -> None:
        """It goes on."""

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """In memory."""
        self.checkpoint = (name, payload)

    def load_checkpoint(self) -> tuple[str, bytes] | None:
        """Every fit begins anew."""
        return None


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels; three features carry a little."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, N_FEATURES)).astype(np.float32)
    y = (0.3 * x[:, 0] - 0.2 * x[:, 1] * x[:, 2] + rng.standard_normal(n) > 0).astype(np.int8)
    x[rng.random(x.shape) < 0.02] = np.nan
    return x, y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="4,000 rows, 2 repeats")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    n_rows, repeats = (4_000, 2) if options.quick else (options.rows, options.repeats)
    x, y = rows(n_rows, 1)
    x_new, y_new = rows(n_rows, 2)
    days = np.datetime64("2019-01-01", "D") + np.arange(n_rows) // 100
    data = TrainingData(x=x, y=y, dates=days, features=FEATURES)
    lengths = (options.rounds, *SEGMENTS)
    seconds: dict[int, list[float]] = {length: [] for length in lengths}
    scores: dict[int, list[float]] = {length: [] for length in lengths}
    control = Kept()
    for seed in range(repeats):
        for length in lengths:
            began = process_time()
            model = XGBoostTrainer().fit(
                data,
                params={"n_estimators": options.rounds, "max_depth": 6, "learning_rate": 0.05, "subsample": 0.8},
                seed=seed,
                device="cpu",
                n_jobs=1,
                segment_rounds=length,
                control=control,
            )
            seconds[length].append(process_time() - began)
            scores[length].append(float(roc_auc_score(y_new, model.predict_proba(x_new)[:, 1])))
    print(f"{n_rows:,} x {N_FEATURES}, {options.rounds} rounds of depth 6, one thread; {repeats} seeds")
    print(f"  {'segments of':<14}{'median':>9}{'over one piece':>17}{'AUC':>9}{'less one piece':>24}")
    figures: dict[str, float] = {}
    one = options.rounds
    for length in lengths:
        ratio = median(a / b for a, b in zip(seconds[length], seconds[one], strict=True))
        differences = [a - b for a, b in zip(scores[length], scores[one], strict=True)]
        shown = "" if length == one else f"{mean(differences):+.4f} +- {stdev(differences) / repeats**0.5:.4f}"
        words = "one piece" if length == one else str(length)
        print(f"  {words:<14}{median(seconds[length]):>7.2f} s{ratio:>15.3f} x{mean(scores[length]):>9.4f}{shown:>24}")
        if length != one:
            figures[f"segments_over_one_piece_{length}"] = ratio
            figures[f"segments_auc_difference_{length}"] = mean(differences)
    figures |= saved(control)
    print(f"  a checkpoint at the end: {figures['checkpoint_mib']:.1f} MiB, kept in {figures['checkpoint_ms']:.1f} ms")
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        versions = {name: version(name) for name in ("numpy", "fsspec")} | {"xgboost": xgb.__version__}
        shown_figures = {name: round(value, 5) for name, value in figures.items()}
        print(json.dumps({"figures": shown_figures, "machine": machine, "versions": versions}))


def saved(control: Kept) -> dict[str, float]:
    """Size of the last checkpoint, and how long the store takes to keep it."""
    assert control.checkpoint is not None  # noqa: S101 -- every fit ends at a border
    name, payload = control.checkpoint
    took: list[float] = []
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        store = CheckpointStore(folder)
        for token in range(9):
            began = perf_counter()
            store.write("run", token, name, payload)
            took.append(perf_counter() - began)
    return {"checkpoint_mib": len(payload) / 2**20, "checkpoint_ms": 1000 * median(took)}


if __name__ == "__main__":
    main()
