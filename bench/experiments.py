"""Two versions side by side: how often a sequence of daily looks errs, and how many days it takes.

    python bench/experiments.py [--experiments 1000] [--quick] [--json]

First table: no true difference, labels of 20 days, each version's noise an AR(1), looked at each day for two years.
Second: trading days to a decision, by the annual Sharpe ratio of the difference of the two daily marks and by the
number of names; the wait that was predicted from 60 other days of such versions; and in the last rows what many names
are worth: the same two versions on more of them. --quick: 100 experiments, under a minute.
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
import numpy.typing as npt

from lab.experiment_simulation import (
    Differences,
    ExperimentDesign,
    annual_sharpe,
    asymptotic_sequence,
    peeked_t_test,
    simulate_differences,
)
from mlops.domain.experiments.duration import expected_duration, planned_days
from mlops.domain.experiments.sequence import first_decision, mixture_variance
from mlops.domain.training.trading import TRADING_DAYS

ALPHA, NAMES, RATIOS = 0.05, (10, 100, 500), (0.5, 1.0, 2.0, 3.5, 7.0)
SKILL = 0.1
BETTER = 0.15
HELD_OUT = 60

Vector = npt.NDArray[np.float64]


def decided(differences: Vector, sharpe: float) -> tuple[Vector, Vector]:
    """(k,) days to a decision, infinite: none, and its sign."""
    spread = float(np.std(differences[:, :HELD_OUT]))
    r = mixture_variance(spread=spread, days=planned_days(sharpe, alpha=ALPHA), alpha=ALPHA)
    days, signs = first_decision(differences, r=r, alpha=ALPHA)
    return np.where(days > 0, days, np.inf), signs


def shown(days: float) -> str:
    return f"{days:.0f}" if math.isfinite(days) else f"> {2 * TRADING_DAYS}"


def false_decisions(null: Differences) -> dict[str, float]:
    """Share of experiments without a difference that end with one, within two years."""
    planned = planned_days(3.5, alpha=ALPHA)
    gain = null.gain[:, :-20]  # known 20 days later
    return {
        "sequence_on_marks": float(np.isfinite(decided(null.mark, 3.5)[0]).mean()),
        "sequence_on_increments": float(np.isfinite(decided(null.increment, 3.5)[0]).mean()),
        "peeked_test_on_marks": float(np.isfinite(peeked_t_test(null.mark, alpha=ALPHA)).mean()),
        "peeked_test_on_losses": float(np.isfinite(peeked_t_test(gain, alpha=ALPHA)).mean()),
        "asymptotic_sequence_on_losses": float(
            np.isfinite(asymptotic_sequence(gain, alpha=ALPHA, planned=planned)).mean()
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    n = 100 if options.quick else options.experiments
    started, figures = time.monotonic(), {}
    nulls = {}
    for names in NAMES:
        count = n if names <= 100 else max(20, n // 10)
        design = ExperimentDesign(n_names=names, skill=(SKILL, SKILL))
        nulls[names] = simulate_differences(design, count, np.random.default_rng([17, names]))
    print(f"no true difference, {n} experiments of 100 names, looked at daily for two years: share decided")
    for name, share in false_decisions(nulls[100]).items():
        print(f"  {name.replace('_', ' '):<32}{share:.3f}")
        figures[f"false_{name}"] = share

    print("\ntrading days to a decision: median (share within a year); predicted from 60 days")
    print(f"{'Sharpe ratio':>14}" + "".join(f"{f'{names} names':>34}" for names in NAMES))
    worst = 1.0
    for ratio in RATIOS:
        cells = []
        for names in NAMES:
            null = nulls[names].mark
            marks = null + ratio / math.sqrt(TRADING_DAYS) * np.std(null, axis=1, keepdims=True)
            days, _ = decided(marks, ratio)
            median, within = float(np.median(days)), float(np.mean(days <= TRADING_DAYS))
            said = [expected_duration(one[:HELD_OUT], sharpe=ratio, alpha=ALPHA).median for one in null[:20]]
            predicted = float(np.median([math.inf if one is None else one for one in said]))
            cells.append(f"{shown(median)} ({within:.0%}); {shown(predicted)}")
            figures[f"days_sharpe{ratio:g}_names{names}"] = median if math.isfinite(median) else -1.0
            if math.isfinite(median) and math.isfinite(predicted):
                worst = max(worst, predicted / median, median / predicted)
        print(f"{ratio:>14g}" + "".join(f"{cell:>34}" for cell in cells), flush=True)
    figures["predicted_over_realised_worst"] = worst

    print(f"\none pair of versions, which see the return with a correlation of {BETTER} and of {SKILL}")
    print(f"{'names':>6}{'Sharpe ratio of marks':>24}{'of increments':>16}{'days, marks':>14}{'increments':>12}")
    for names in NAMES:
        design = ExperimentDesign(n_names=names, skill=(BETTER, SKILL))
        found = simulate_differences(design, max(10, n // 10), np.random.default_rng([18, names]))
        ratios = annual_sharpe(found.mark), annual_sharpe(found.increment)
        medians = [float(np.median(decided(one, 3.5)[0])) for one in (found.mark, found.increment)]
        print(f"{names:>6}{ratios[0]:>24.2f}{ratios[1]:>16.2f}{shown(medians[0]):>14}{shown(medians[1]):>12}")
        figures[f"sharpe_names{names}"] = ratios[0]
    print(f"{time.monotonic() - started:.0f} s")
    if options.json:
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
