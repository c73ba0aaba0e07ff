"""An incremental training against a full one of the same day.

    .venv/bin/python bench/incremental.py [--quick] [--json] [--repeats 5] [--rows 50000]

The stage of bench/train.py on PostgreSQL and MLflow of its own, one thread: a champion trained as of two months
earlier is made, then full trainings and incremental ones of the same day take turns; medians. `full_over_incremental`:
reading and fitting, the part that depends on rows and rounds. `stage_full_over_incremental`: the whole stage; profile,
plots, SHAP and MLflow cost both the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from statistics import median

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ACIS_TRAIN_N_JOBS": "1"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from train import LAST, load, quiet, services_of, stage_of

#: Between the champion's training and these.
CHAMPION_AGE = timedelta(days=60)


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=50_000)
    options = parser.parse_args()
    figures = measured(options.rows, repeats=2 if options.quick else options.repeats)
    for name, value in figures.items():
        print(f"{name:28} {value:8.2f}")
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
        versions = {name: version(name) for name in ("mlflow", "xgboost-cpu", "numpy")}
        print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))
    return 0


def measured(n_rows: int, *, repeats: int) -> dict[str, float]:
    """All figures; the table of the parts is printed on the way."""
    from mlops.domain.promotion.records import PromotionDecision
    from mlops.features.postgres import libpq_uri
    from tests.support.servers import Databases, run_mlflow, run_postgres

    quiet()
    with tempfile.TemporaryDirectory(prefix="acis-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with run_postgres(folder) as server:
            databases = Databases(server_url=server)
            url = databases.make()
            load(libpq_uri(url), n_rows)
            with run_mlflow(folder, databases.make()) as tracking_uri:
                services = services_of(url, tracking_uri, folder, folds=0)
                stage = stage_of(services)
                stage(as_of=LAST - CHAMPION_AGE)
                services.ledger.record_transition(
                    "growth",
                    PromotionDecision(
                        decision="promote",
                        version="1",
                        model_name="acis_growth_classifier",
                        reasons=("bench",),
                        evidence={},
                        evidence_digest="",
                        actor="bench",
                        target_stage="Production",
                        expected_seq=0,
                    ),
                )
                fulls, updates = [], []
                for _ in range(repeats):
                    fulls.append(stage())
                    updates.append(stage(incremental=True))
    return summary(fulls, updates)


def summary(fulls: list[dict[str, float]], updates: list[dict[str, float]]) -> dict[str, float]:
    """Print the medians of the parts; the figures."""
    print(f"{'part':24} {'full s':>8} {'incremental s':>14}")
    for part in fulls[0]:
        print(f"{part:24} {median(one[part] for one in fulls):8.2f} {median(one[part] for one in updates):14.2f}")

    def ratio(*parts: str) -> float:
        pairs = zip(fulls, updates, strict=True)
        return median(sum(full[part] for part in parts) / sum(one[part] for part in parts) for full, one in pairs)

    return {
        "full_over_incremental": ratio("read", "fit"),
        "fit_full_over_incremental": ratio("fit"),
        "stage_full_over_incremental": ratio("whole"),
    }


if __name__ == "__main__":
    sys.exit(main())
