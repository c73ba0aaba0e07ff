"""Two versions side by side: how often a sequence of daily looks errs, and how many days it takes.

    python bench/experiments.py [--experiments 1000] [--quick] [--json]

The simulation of `acis evaluate-experiments --only simulation`, whose tables it prints, with its figures as JSON for
comparison between releases. --quick: 100 experiments of each kind.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from cli.experiment_evaluation import print_simulation
from lab.experiment_simulation import Simulation, simulate


def figures(found: Simulation) -> dict[str, float]:
    """Figures by name; -1: more than two years."""
    low, high = found.said_over_median
    return {
        **{f"decided {one.test}, {one.series}".replace(" ", "_"): one.decided for one in found.wrong},
        **{
            f"days_sharpe{one.sharpe:g}_names{one.n_names}": one.median if math.isfinite(one.median) else -1.0
            for one in found.waits
        },
        **{f"sharpe_names{one.n_names}": one.mark_sharpe for one in found.pairs},
        "said_over_median_least": low,
        "said_over_median_most": high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()

    def report(done: int, total: int) -> None:
        if sys.stderr.isatty():
            left = (time.monotonic() - started) * (total - done) / done
            print(f"\r{done / total:4.0%}, {left:.0f} s left ", end="\n" if done == total else "", file=sys.stderr)

    found = simulate(100 if options.quick else options.experiments, report=report)
    print_simulation(found)
    print(f"{time.monotonic() - started:.0f} s")
    if options.json:
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        print(json.dumps({"figures": figures(found), "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
