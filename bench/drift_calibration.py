"""False alarms and power of the drift verdict on simulated panels, beside the raw rule's.

    python bench/drift_calibration.py [--replications 200] [--quick] [--json]
    python bench/drift_calibration.py --year [--replications 200] [--quick] [--json]

Panels of 50 assets and 20 features, two years of history, 90/7 days; a day's common move has 0, 5 or 20 % of the
variance and an autocorrelation of 0, 0.5 or 0.9. --quick: 10 replications, under 45 s; 2 of --year.

--year: weekly checks of the year after a champion's training, 20 assets and 10 features, against the trailing window
and against the champion's dates: the share of alarms without drift, and the dates until a ramp of one standard
deviation in that year is seen.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from lab.drift_simulation import Check, PanelDesign, YearCheck, simulate_checks, simulate_year

COMMON, AR, SHIFTS = (0.0, 0.05, 0.2), (0.0, 0.5, 0.9), (0.0, 0.1, 0.3)
ALPHA, ALERT_SHARE = 0.05, 0.3


def cell(task: tuple[int, float, float, int, float]) -> list[list[Check]]:
    replications, common, ar, current_dates, own = task
    design = PanelDesign(common=common, ar=ar, own_ar=own * ar, current_dates=current_dates)
    rng = np.random.default_rng([7, int(common * 100), int(ar * 10), current_dates])
    return [simulate_checks(design, SHIFTS, rng) for _ in range(replications)]


def rates(checks: list[list[Check]], shift: int) -> tuple[float, float, float]:
    """P at most alpha; the calibrated verdict; the raw rule."""
    of_shift = [row[shift] for row in checks]
    return (
        float(np.mean([check.p_value <= ALPHA for check in of_shift])),
        float(np.mean([check.drifted(alpha=ALPHA, alert_share=ALERT_SHARE) for check in of_shift])),
        float(np.mean([check.share >= ALERT_SHARE for check in of_shift])),
    )


def year(task: tuple[int, float, float, float]) -> list[list[YearCheck]]:
    replications, common, ar, ramp = task
    design = PanelDesign(common=common, ar=ar, n_assets=20, n_features=10)
    rng = np.random.default_rng([11, int(common * 100), int(ar * 10), int(ramp)])
    return [simulate_year(design, ramp, rng, every=5) for _ in range(replications)]


#: Alarms of a check, by what is asked: each at alpha alone, both at half of it, both at all of it.
ALARMS = {
    "trailing": lambda one, share: one.trailing.drifted(alpha=ALPHA, alert_share=share),
    "champion's": lambda one, share: one.champion.drifted(alpha=ALPHA, alert_share=share),
    "both": lambda one, share: one.both(alpha=ALPHA, alert_share=share),
    "both, each at alpha": lambda one, share: one.both(alpha=2 * ALPHA, alert_share=share),
}


def print_years(n: int) -> dict[str, float | None]:
    """Print, and give, the share of checks with an alarm without drift, by p alone, and the dates until a ramp is seen.

    Given of the ramp: the median by name, None where it is not seen.
    """
    figures: dict[str, float | None] = {}
    designs = [(common, ar) for common in COMMON for ar in AR if common or not ar]
    tasks = [(n, *design, ramp) for design in designs for ramp in (0.0, 1.0)]
    print(f"{n} years of weekly checks each. No drift: share of the checks with p <= {ALPHA:g}.")
    print("Ramp: dates until the verdict is drifted, the median and from least to most.")
    print(f"{'common':>7} {'AR(1)':>6}  {'':<10}" + "".join(f"{name:>26}" for name in ALARMS))
    with ProcessPoolExecutor() as pool:
        for (_, common, ar, ramp), years in zip(tasks, pool.map(year, tasks), strict=True):
            cells = []
            for name, is_alarm in ALARMS.items():
                figure = f"{'ramp' if ramp else 'no_drift'}_common{common:g}_ar{ar:g}_{name}"
                if not ramp:
                    share = float(np.mean([is_alarm(one, 0.0) for checks in years for one in checks]))
                    figures[figure] = share
                    cells.append(f"{share:.3f}")
                    continue
                seen = [next((one.n_dates for one in checks if is_alarm(one, ALERT_SHARE)), np.inf) for checks in years]
                middle = float(np.median(seen))
                figures[figure] = middle if np.isfinite(middle) else None
                cells.append(f"{_dates(middle)} ({_dates(min(seen))} to {_dates(max(seen))})")
            what = "ramp" if ramp else "no drift"
            print(f"{common:>7.0%} {ar:>6}  {what:<10}" + "".join(f"{cell:>26}" for cell in cells), flush=True)
    return figures


def _dates(n: float) -> str:
    return f"{n:.0f}" if np.isfinite(n) else "not seen"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--current-dates", type=int, default=5)
    parser.add_argument("--own-ar", action="store_true", help="each asset's own part is autocorrelated too")
    parser.add_argument("--year", action="store_true", help="two references over the year after a training")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.year:
        show_json(print_years(2 if options.quick else options.replications), wanted=options.json)
        return
    n = 10 if options.quick else options.replications
    tasks = [(n, common, ar, options.current_dates, float(options.own_ar)) for common in COMMON for ar in AR]
    started = time.monotonic()
    print(f"{n} replications, {options.current_dates} current dates; each cell: p <= .05 / verdict / raw rule")
    print(f"{'common':>7} {'AR(1)':>6}   {'no drift':^20}   {'shift 0.1 sd':^20}   {'shift 0.3 sd':^20}")
    figures: dict[str, float] = {}
    with ProcessPoolExecutor() as pool:
        for (_, common, ar, *_), checks in zip(tasks, pool.map(cell, tasks), strict=True):
            shown = [rates(checks, shift) for shift in range(len(SHIFTS))]
            print(
                f"{common:>7.0%} {ar:>6}   "
                + "   ".join(f"{p:.3f} / {verdict:.3f} / {raw:.3f}" for p, verdict, raw in shown),
                flush=True,
            )
            figures[f"false_alarm_common{common:g}_ar{ar:g}"] = shown[0][0]
    figures["false_alarm_worst_but_last"] = max(list(figures.values())[:-1])
    print(f"{time.monotonic() - started:.0f} s")
    show_json(figures, wanted=options.json)


def show_json(figures: Mapping[str, float | None], *, wanted: bool) -> None:
    """Print the figures, the machine and the versions as one line."""
    if wanted:
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))


if __name__ == "__main__":
    main()
