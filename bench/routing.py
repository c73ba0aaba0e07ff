"""What an experiment costs whoever asks, and what changes under load cost.

    .venv/bin/python bench/routing.py [--quick] [--json]

The classifiers of bench/serving.py, one thread, no servers. Ratios are of ways that took turns in this process.

routed_over_plain           `predict_one` with a key while an experiment divides the keys, over it without one; medians
routed_p99_over_plain       the same of the 99th percentiles
shadow_over_plain           while the challenger is a shadow, the time of handing the row over included; medians
shadow_p99_over_plain       the same of the 99th percentiles
counted_over_uncounted      `predict_one` over it with the counting of answers taken out; medians
hash_us                     which version answers a key that was not asked before
routed_frame_over_plain     `predict` of 500 rows by name with their keys, half of them the challenger's; processor time
requests, failed            of four threads, during 20 rollbacks and 200 changes of the share
moved, fewest, expected     keys of 500 that changed their version at a change of share; by how many the challenger's
                            number of keys grew, which no rule undercuts; keys times the changes of the share
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import process_time_ns
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import xgboost as xgb
from serving import FEATURES, Kept, taken_us, trained

from mlops.domain.experiments.assignment import Assignment
from mlops.domain.experiments.decision import Mode
from mlops.domain.experiments.records import Experiment
from mlops.serving.router import ModelRouter
from tests.support.routing_load import VERSIONS, Found, RoutingLoad
from tests.support.serving import NEVER_S, ChampionServices, champion, model_bytes, new_experiment, running


@contextmanager
def router_of(folder: Path, models: dict[str, xgb.XGBClassifier], **experiment: Any) -> Iterator[ModelRouter]:  # noqa: ANN401 -- options of `new_experiment`
    """A router without servers: the first model its champion, the second the challenger of what is asked for."""
    services = ChampionServices(folder)
    services.promote("1", 1, models["1"])
    if experiment:
        services.challenge(models["2"], **experiment)
    with ModelRouter("growth", services=services, poll_s=NEVER_S, recorder=Kept()) as router:
        yield router


def processor_us(ask: Callable[[], Any]) -> float:
    """Processor time of a call that is too long not to be interrupted."""
    began = process_time_ns()
    ask()
    return (process_time_ns() - began) / 1000


def latency(models: dict[str, xgb.XGBClassifier], x: np.ndarray, folder: Path, *, quick: bool) -> dict[str, float]:
    """`predict_one` and `predict` in four routers that take turns."""
    n = 500
    rows = [dict(zip(FEATURES, map(float, x[i]), strict=True)) for i in range(n)]
    keys, frame = [f"K{i}" for i in range(n)], pd.DataFrame(x[:n], columns=FEATURES)
    fresh, assignment = count(), Assignment(salt="bench", share=0.5)
    with (
        router_of(folder / "plain", models) as plain,
        router_of(folder / "bare", models) as bare,
        router_of(folder / "routed", models, share=0.5) as routed,
        router_of(folder / "shadow", models, mode=Mode.SHADOW, share=0.0) as shadow,
    ):
        bare._counter.count = lambda *_, **__: None  # type: ignore[method-assign]  # noqa: SLF001 -- what it costs
        split = routed.predict(frame, keys=keys).versions
        assert 200 < split.count("2") < 300  # noqa: S101 -- else nothing is compared

        def one(router: ModelRouter) -> Callable[[int], Any]:
            return lambda i: router.predict_one(rows[i % n], key=keys[i % n])

        ways = [one(plain), one(bare), one(routed), one(shadow), lambda _: assignment.is_challengers(f"N{next(fresh)}")]
        took = taken_us(ways, calls=n, turns=20 if quick else 100)
        frames = [
            [processor_us(lambda router=router: router.predict(frame, keys=keys)) for router in (plain, routed)]  # type: ignore[misc]
            for _ in range(100 if quick else 500)
        ]
    mid = [float(np.median(part)) for part in took]
    p99 = [float(np.median(np.percentile(part, 99, axis=1))) for part in took]
    figures = {
        "plain_us": mid[0],
        "routed_over_plain": mid[2] / mid[0],
        "routed_p99_over_plain": p99[2] / p99[0],
        "shadow_over_plain": mid[3] / mid[0],
        "shadow_p99_over_plain": p99[3] / p99[0],
        "counted_over_uncounted": mid[0] / mid[1],
        "hash_us": mid[4],
        "routed_frame_over_plain": float(np.divide(*np.median(frames, axis=0)[::-1])),
    }
    print(f"one row {mid[0]:.1f} µs; with an experiment {figures['routed_over_plain']:.2f} times as long")
    print(f"  while the challenger is a shadow {figures['shadow_over_plain']:.2f} times")
    return figures


class Memory:
    """The writing side, in memory."""

    def __init__(self, services: ChampionServices, content: dict[str, bytes]) -> None:
        self._services, self._content, self._seq = services, content, 0

    def place(self, version: str) -> None:
        """Make it the champion."""
        self._seq += 1
        self._services.one.champion_now = champion(version, self._seq, self._content[version])

    def start(self, challenger: str, steps: tuple[float, ...], number: int) -> Experiment:
        """Start a canary."""
        new = new_experiment(
            self._content[challenger],
            version=challenger,
            champion_seq=self._seq,
            mode=Mode.CANARY,
            steps=steps,
            number=number,
        )
        self._services.one.experiment_now = made = running(new, number=number)
        return made

    def advance(self) -> Experiment:
        """Give the challenger its next share."""
        here = self._services.one.experiment_now
        assert here is not None  # noqa: S101 -- it was started
        self._services.one.experiment_now = made = running(here, number=here.id, step=here.step + 1)
        return made


def under_load(models: dict[str, xgb.XGBClassifier], x: np.ndarray, folder: Path) -> Found:
    """Twenty rollbacks and 200 changes of the share, while four threads ask."""
    frame = pd.DataFrame(x[:500], columns=FEATURES)
    services = ChampionServices(folder)
    content = {version: model_bytes(model) for version, model in models.items()}
    for one in content.values():
        services.keep(one)
    product = Memory(services, content)
    product.place(VERSIONS[0])
    load = RoutingLoad(frame, {version: model.predict_proba(frame)[:, 1] for version, model in models.items()})
    with ModelRouter("growth", services=services, poll_s=NEVER_S, recorder=Kept()) as router:
        load.begin(VERSIONS[0])
        for ask in (load.one_by_one(router), load.in_frames(router)) * 2:
            load.ask(ask)
        load.drive(product, router)
        return load.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    first, x = trained()
    models = {"1": first}
    for version in VERSIONS[1:]:
        z = np.nan_to_num(x)  # another sample of the same, so that the versions take equally long
        noise = np.random.default_rng(int(version)).standard_normal(len(z))
        y = (0.3 * z[:, 0] - 0.2 * z[:, 1] * z[:, 2] + noise > 0).astype(np.int8)
        models[version] = xgb.XGBClassifier(n_estimators=100, max_depth=6, learning_rate=0.1, n_jobs=1)
        models[version].fit(pd.DataFrame(x, columns=FEATURES), y)
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
        figures = latency(models, x, Path(folder) / "latency", quick=options.quick)
        found = under_load(models, x, Path(folder) / "load")
    for fault in found.faults[:10]:
        print(f"  {fault}")
    print(
        f"{found.n_rollbacks} rollbacks and {found.n_shares} changes of share: {found.n_requests:,} requests, "
        f"{len(found.faults)} failed or wrong; keys moved {found.n_moved:,}, the fewest possible {found.n_fewest:,}, "
        f"expected {found.expected_moved:,.0f}"
    )
    figures |= {
        "requests": found.n_requests,
        "failed": len(found.faults),
        "moved": found.n_moved,
        "fewest": found.n_fewest,
        "expected": found.expected_moved,
    }
    if options.json:
        machine = {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()}
        shown = {name: round(float(value), 5) for name, value in figures.items()}
        print(json.dumps({"figures": shown, "machine": machine, "versions": {"xgboost": xgb.__version__}}))


if __name__ == "__main__":
    main()
