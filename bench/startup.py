"""How long `acis up` takes to serve, cold and warm, and a pass of the loop; prints medians over the repeats.

    .venv/bin/python bench/startup.py [--quick] [--json] [--repeats 3]

Cold: a new var folder (databases made, sample loaded). Warm: the same folder again. Both on free ports, with the
servers that `make run` would choose.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def timed_start(var_dir: Path) -> dict[str, float]:
    """Seconds to the printed addresses, and from there to the end of the passes."""
    own = ("DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.app", "up", "--once"],
        cwd=ROOT,
        env={**environment, "ACIS_VAR_DIR": str(var_dir), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None  # noqa: S101 -- a pipe was asked for
    marks: dict[str, float] = {}
    for line in process.stdout:
        now = time.monotonic() - begun
        if line.startswith("MLflow"):
            marks.setdefault("up_s", now)
        elif line.startswith("Pipeline Summary"):
            marks["passes_s"] = now - marks["up_s"]
    if process.wait() != 0:
        message = f"acis up ended with {process.returncode}; look at {var_dir / 'log'}"
        raise SystemExit(message)
    return {**marks, "stop_s": time.monotonic() - begun - marks["up_s"] - marks["passes_s"]}


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one warm start, after one that is not counted")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cold: list[dict[str, float]] = []
    warm: list[dict[str, float]] = []
    for _ in range(1 if options.quick else options.repeats):
        with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
            Path(folder).chmod(0o755)
            var_dir = Path(folder) / "var"
            cold.append(timed_start(var_dir))
            warm.append(timed_start(var_dir))
            subprocess.run(
                [sys.executable, "-m", "cli.app", "clean"],
                cwd=ROOT,
                env={**os.environ, "ACIS_VAR_DIR": str(var_dir)},
                check=True,
                stdout=subprocess.DEVNULL,
            )
    figures = {
        "cold_up_s": statistics.median(run["up_s"] for run in cold),
        "warm_up_s": statistics.median(run["up_s"] for run in warm),
        "two_passes_s": statistics.median(run["passes_s"] for run in cold),
        "stop_s": statistics.median(run["stop_s"] for run in cold + warm),
    }
    for name, value in figures.items():
        print(f"{name:14} {value:6.1f}")
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
        versions = {name: version(name) for name in ("celery", "mlflow", "xgboost-cpu", "supervisor")}
        print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
