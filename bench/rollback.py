"""Champions that are watched beside former ones for two years of daily looks: how many give their place back.

    python bench/rollback.py [--champions 1000] [--names 20] [--quick] [--json]

Wrongly, where the former ones are as good; and rightly, where one of three sees more of the return. Labels of 20 days,
each version's noise an AR(1). Seeds stand in lab/rollback_simulation.py. --quick: 50 champions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from lab.experiment_simulation import SKILL
from lab.rollback_simulation import BETTER, Watched, better_former, watch_champions


def show(found: list[Watched]) -> None:
    for one in found:
        median = "more than two years" if one.median_days is None else f"{one.median_days:.0f}"
        print(f"{one.measure:<11}{one.k:>3}{one.n:>8}{one.rolled_back:>14.1%}   {median}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--champions", type=int, default=1000)
    parser.add_argument("--names", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    n, started = 50 if options.quick else options.champions, time.monotonic()
    head = f"{'measure':<11}{'k':>3}{'n':>8}{'rolled back':>14}   median days"
    print(f"former champions as good as the champion, {options.names} names: wrong rollbacks in two years\n{head}")
    equal = [one for k in (1, 3) for one in watch_champions(n, k=k, n_names=options.names)]
    show(equal)
    better = []
    for n_names, count in ((options.names, max(20, n // 5)), (5 * options.names, max(20, n // 25))):
        print(
            f"\none of three former ones sees the return of {n_names} names with a correlation of {BETTER}, the others"
        )
        print(f"and the champion of {SKILL}\n{head}")
        found = better_former(count, n_names=n_names)
        show(found)
        better += found
    print(f"{time.monotonic() - started:.0f} s")
    if options.json:
        figures = {"equal": [asdict(one) for one in equal], "better": [asdict(one) for one in better]}
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
