"""One drift check by another library, in the environment that `make bench-deps` makes; called by bench/drift.py.

    .venv-bench/bin/python bench/drift_peers.py evidently windows.npz

Prints one JSON object: seconds of the check (data loaded, library imported), peak memory of the process, version.
`windows.npz` holds `reference` and `current`, (n, 45) float64 each. Each library does what its first page shows.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
os.environ["DO_NOT_TRACK"] = "1"

import numpy as np
import pandas as pd


def evidently(reference: pd.DataFrame, current: pd.DataFrame) -> Callable[[], object]:
    """Evidently's drift preset, its defaults."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=list(reference.columns))
    before = Dataset.from_pandas(reference, data_definition=definition)
    now = Dataset.from_pandas(current, data_definition=definition)
    return lambda: Report([DataDriftPreset()]).run(current_data=now, reference_data=before).dict()


def nannyml(reference: pd.DataFrame, current: pd.DataFrame) -> Callable[[], object]:
    """NannyML's univariate calculator with Kolmogorov-Smirnov, the current window as one chunk."""
    import nannyml as nml

    def check() -> object:
        calculator = nml.UnivariateDriftCalculator(
            column_names=list(reference.columns), continuous_methods=["kolmogorov_smirnov"], chunk_size=len(current)
        )
        calculator.fit(reference)
        return calculator.calculate(current).to_df()

    return check


def frouros(reference: pd.DataFrame, current: pd.DataFrame) -> Callable[[], object]:
    """Frouros's KS test and PSI, column by column."""
    from frouros.detectors.data_drift import PSI, KSTest

    def check() -> object:
        found = []
        for name in reference.columns:
            for detector in (KSTest(), PSI()):
                detector.fit(X=reference[name].to_numpy())
                found.append(detector.compare(X=current[name].to_numpy()))
        return found

    return check


PEERS = {"evidently": evidently, "nannyml": nannyml, "frouros": frouros}


def main() -> None:
    name, path = sys.argv[1:]
    with np.load(path, allow_pickle=False) as windows:
        frames = [pd.DataFrame(windows[key]).add_prefix("f") for key in ("reference", "current")]
    check = PEERS[name](*frames)
    started = time.perf_counter()
    check()
    seconds = time.perf_counter() - started
    # Not ru_maxrss: that starts with what the parent held when it forked.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_mib = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib, "version": version(name)}))


if __name__ == "__main__":
    main()
