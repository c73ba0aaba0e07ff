"""What it costs to ask a model that is in use.

    .venv/bin/python bench/serving.py [--quick] [--json] [--only one,batch]

A classifier of 100 trees of depth 6 on 45 features with 2 % missing values, one thread. Each figure is a ratio of two
ways that took turns in this process.

one : a row in process. `ModelRouter.predict_one` with a mapping by name against `XGBClassifier.predict_proba` on the
    same row as a pandas frame, and against `Booster.inplace_predict` on it as an array of the model's own type
    predict_proba_over_one      medians; at least 100
    inplace_over_one            medians; at least 8
    one_p99_over_median         of predict_one; at most 5
    predict_proba_over_frame_row, one_recorded_us   the same for a frame of one row, and with a recorder that keeps all
batch : `ModelRouter.predict` against `Booster.inplace_predict`, both on an array of float32
    batch_over_inplace          the worst of 500, 2,000 and 20,000 rows; at most 1.05
    few_over_inplace_N          for N = 2 to 200 rows: where onnxruntime ends to be the faster engine
follow : a router with a PostgreSQL of its own, asked until the version that was just promoted answers
    follow_s, follow_worst_s    seconds from the commit of the promotion; under 5
    follow_question_ms          what the router asks the ledger each second
http : one row over HTTP, `python -m worker serve` (with token, and each answer in the log) beside `mlflow models serve`
    http_over_mlflow_serve      requests a second, the worst of 1, 10 and 100 clients; at least 10
    http_p99_ms                 at 200 requests a second, from when each was due; under 50
log : predictions recorded, each call flushed, until all are committed, beside one COPY of the same rows, ready to send
    log_over_copy               500 rows a call; at most 2
    log_over_copy_single        one row a call
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from types import SimpleNamespace
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import xgboost as xgb
from serving_service import follow, http, log

from mlops.domain.experiments.records import ServingState
from mlops.domain.promotion.records import Champion, ModelIdentity
from mlops.registry.checkpoint_store import CheckpointStore
from mlops.registry.kept_models import MODEL, key_of
from mlops.serving.router import ModelRouter

N_FEATURES = 45
FEATURES = [f"feature_{number}" for number in range(N_FEATURES)]
BATCHES = (500, 2_000, 20_000)
FEW = (2, 10, 50, 100, 200)
STRATEGY = "growth"


def trained(n_rows: int = 20_000) -> tuple[xgb.XGBClassifier, np.ndarray]:
    """A classifier of 100 trees, and rows as it reads them."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n_rows, N_FEATURES)).astype(np.float32)
    y = (0.3 * x[:, 0] - 0.2 * x[:, 1] * x[:, 2] + rng.standard_normal(n_rows) > 0).astype(np.int8)
    x[rng.random(x.shape) < 0.02] = np.nan
    model = xgb.XGBClassifier(n_estimators=100, max_depth=6, learning_rate=0.1, n_jobs=1)
    return model.fit(pd.DataFrame(x, columns=FEATURES), y), x


def router_of(model: xgb.XGBClassifier, folder: Path, recorder: Kept | None = None) -> ModelRouter:
    """A router whose champion is the model, without servers: a ledger of one row, and the model kept in a folder."""
    content = bytes(model.get_booster().save_raw("ubj"))
    identity = ModelIdentity(sha256=hashlib.sha256(content).hexdigest(), made_by="bench")
    champion = Champion(
        namespace="", strategy=STRATEGY, version="1", seq=1, as_of=None, promotion_id=1, identity=identity
    )
    state = ServingState(champion=champion, experiment=None)
    checkpoints = CheckpointStore(str(folder / "checkpoints"))
    checkpoints.keep_model(key_of(identity), {MODEL: content})
    services: Any = SimpleNamespace(
        settings=SimpleNamespace(database_url=None, var_dir=folder, spool_bytes=2**24),
        strategies={STRATEGY: SimpleNamespace(model_name="bench")},
        ledger=SimpleNamespace(serving_state=lambda _: state, count_answers=lambda _: None),
        checkpoints=checkpoints,
    )
    return ModelRouter(STRATEGY, services=services, recorder=recorder)


class Kept:
    """A recorder that keeps all in memory, as the prediction log does between two writes."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def record(self, *row: object) -> None:
        """In memory."""
        self.rows.append(row)

    def flush(self) -> None:
        """Nothing is written."""


def taken_us(ways: Sequence[Callable[[int], Any]], *, calls: int, turns: int) -> list[np.ndarray]:
    """(turns, calls) µs of each way, which take turns in blocks; the argument counts the calls."""
    found = [np.empty((turns, calls)) for _ in ways]
    for way in ways:
        for call in range(20):
            way(call)
    gc.collect()
    gc.disable()
    for turn in range(turns):
        in_turn = list(zip(ways, found, strict=True))
        for way, out in in_turn if turn % 2 else reversed(in_turn):
            for call in range(calls):
                began = perf_counter_ns()
                way(turn + call)
                out[turn, call] = (perf_counter_ns() - began) / 1000
    gc.enable()
    return found


def one_row(model: xgb.XGBClassifier, x: np.ndarray, folder: Path, *, quick: bool) -> dict[str, float]:
    """A row in process."""
    n = 200
    frames = [pd.DataFrame(x[i : i + 1], columns=FEATURES) for i in range(n)]
    arrays = [np.ascontiguousarray(x[i : i + 1]) for i in range(n)]
    mappings = [dict(zip(FEATURES, map(float, x[i]), strict=True)) for i in range(n)]
    booster, day = model.get_booster(), datetime.now(UTC).date()
    with router_of(model, folder / "plain") as router, router_of(model, folder / "recorded", Kept()) as recorded:
        ask, record = router.predict_one, recorded.predict_one
        for i in range(n):
            exact = float(model.predict_proba(frames[i])[0, 1])
            assert abs(ask(mappings[i]).probability - exact) < 1e-6  # noqa: S101 -- else nothing is compared
        calls, turns = (100, 5) if quick else (n, 20)
        proba, inplace, ours, ours_frame, ours_recorded = taken_us(
            (
                lambda i: model.predict_proba(frames[i % n]),
                lambda i: booster.inplace_predict(arrays[i % n], missing=np.nan, validate_features=False),
                lambda i: ask(mappings[i % n]),
                lambda i: ask(frames[i % n]),
                lambda i: record(mappings[i % n], ticker="AAPL", as_of=day),
            ),
            calls=calls,
            turns=turns,
        )
        # More calls of the quick way alone, for a 99th percentile that some hundred would not give.
        (tail,) = taken_us((lambda i: ask(mappings[i % n]),), calls=5_000, turns=3 if quick else 10)
        print(f"one row, engine {router.model.engine}: {router.model.check.reason}")
    typical = {
        "XGBClassifier.predict_proba, frame": median(proba.ravel()),
        "Booster.inplace_predict, array": median(inplace.ravel()),
        "predict_one, mapping": median(ours.ravel()),
        "predict_one, frame of one row": median(ours_frame.ravel()),
        "predict_one, mapping, recorded": median(ours_recorded.ravel()),
    }
    for name, took in typical.items():
        print(f"  {name:<38}{took:>10.1f} µs")
    p99 = float(np.median(np.percentile(tail, 99, axis=1)))
    figures = {
        "one_us": median(ours.ravel()),
        "predict_proba_over_one": median(proba.ravel()) / median(ours.ravel()),
        "inplace_over_one": median(inplace.ravel()) / median(ours.ravel()),
        "one_p99_us": p99,
        "one_p99_over_median": p99 / float(np.median(tail)),
        "predict_proba_over_frame_row": median(proba.ravel()) / median(ours_frame.ravel()),
        "one_recorded_us": median(ours_recorded.ravel()),
    }
    print(
        f"  predict_proba / ours {figures['predict_proba_over_one']:.0f}, inplace_predict / ours "
        f"{figures['inplace_over_one']:.1f}, ours p99 / median {figures['one_p99_over_median']:.1f}"
    )
    return figures


def batches(model: xgb.XGBClassifier, x: np.ndarray, folder: Path, *, quick: bool) -> dict[str, float]:
    """Many rows in process."""
    figures: dict[str, float] = {}
    booster = model.get_booster()
    booster.set_param({"nthread": 1})
    with router_of(model, folder) as router:
        print("many rows, an array of float32")
        for n in (*FEW, *BATCHES):
            rows = np.ascontiguousarray(x[:n])
            plain, ours = taken_us(
                (
                    lambda _, rows=rows: booster.inplace_predict(rows, missing=np.nan, validate_features=False),
                    lambda _, rows=rows: router.predict(rows),
                ),
                calls=1,  # one after the other, so that what else the machine does meets both
                turns=max(20, (20_000 if quick else 100_000) // max(n, 100)),
            )
            ratio = float(np.median(ours) / np.median(plain))
            name = f"few_over_inplace_{n}" if n in FEW else f"batch_over_inplace_{n}"
            figures[name] = ratio
            print(f"  {n:>7,} rows  inplace_predict {np.median(plain):>10.1f} µs   ours / it {ratio:>6.3f}")
    figures["batch_over_inplace"] = max(figures[f"batch_over_inplace_{n}"] for n in BATCHES)
    return figures


SECTIONS: dict[str, Callable[..., dict[str, float]]] = {
    "one": one_row,
    "batch": batches,
    "follow": follow,
    "http": http,
    "log": log,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, comma between them")
    options = parser.parse_args()
    model, x = trained()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        for name in options.only.split(","):
            figures |= SECTIONS[name](model, x, Path(folder) / name, quick=options.quick)
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        versions = {name: version(name) for name in ("numpy", "pandas", "onnxruntime")} | {"xgboost": xgb.__version__}
        shown = {name: round(float(value), 5) for name, value in figures.items()}
        print(json.dumps({"figures": shown, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
