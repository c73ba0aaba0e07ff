"""`python -m tests.support.neighbours`: checkouts side by side, each with `acis up`, started at once; then a look.

    --checkouts 4          how many copies of this working tree
    --folder FOLDER        where; a temporary folder otherwise, which is removed

Each runs the whole demo on servers of its own, with the documented ports as its wish and one temporary folder for all.
What must hold: every one ends its demo with four models in Production, and no run, version or report of one is in
another. It takes some minutes and a gigabyte of memory for each.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devstack.layout import Layout
from devstack.process import die_with_parent, tail
from devstack.stack import remove_var, stop_running
from tests.architecture.sources import ROOT
from tests.support.servers import origin

CODE = ("config", "worker", "tasks", "mlops", "admin", "cli", "lab", "devstack")
WITHIN_S = 1800


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 where each had its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkouts", type=int, default=4)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="acis-checkouts-") as temporary:
        place = options.folder or Path(temporary)
        findings = _look([_copied(place / f"checkout-{n}") for n in range(options.checkouts)], place / "tmp")
    told = [*findings, f"{options.checkouts} checkouts side by side: {len(findings)} findings"]
    sys.stdout.write("\n".join(told) + "\n")
    return 1 if findings else 0


def _copied(checkout: Path) -> Path:
    for package in CODE:
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


def _look(checkouts: list[Path], temporary: Path) -> list[str]:
    temporary.mkdir(exist_ok=True)
    started = [_started(checkout, temporary) for checkout in checkouts]
    try:
        findings = [
            f"{checkout}: exit code {process.returncode}\n{tail(checkout / 'err')}"
            for checkout, process in zip(checkouts, started, strict=True)
            if process.wait(WITHIN_S) != 0
        ]
        shown = [json.loads((checkout / "out").read_text() or "{}") for checkout in checkouts]
        runs = [{run["run_id"] for one in found.get("passes", []) for run in one["runs"]} for found in shown]
        ports = [(checkout / "var" / "ports.json").read_text() for checkout in checkouts]
    finally:
        for checkout, process in zip(checkouts, started, strict=True):
            process.kill()
            process.wait()
            stop_running(Layout(var_dir=checkout / "var"))
            remove_var(Layout(var_dir=checkout / "var"))
    findings += [
        f"{one}: {len(found)} runs in place of 10"
        for one, found in zip(checkouts, runs, strict=True)
        if len(found) != 10
    ]
    if len(set().union(*runs)) != sum(len(found) for found in runs):
        findings.append("a run is in two checkouts")
    if len({port for text in ports for port in json.loads(text).values()}) != 6 * len(checkouts):
        findings.append("a port is in two checkouts")
    versions = [_versions(found) for found in shown]
    findings += [
        f"{one}: versions {found} in place of 1 and 2"
        for one, found in zip(checkouts, versions, strict=True)
        if found - {"1", "2"}
    ]
    owners = [json.loads(path.read_text())["ledger"] for path in temporary.glob("drift_report_*.json")]
    if len(owners) != 10 * len(checkouts) or {owners.count(owner) for owner in owners} != {10}:
        findings.append(
            f"reports by ledger: {sorted(owners.count(owner) for owner in set(owners))} in place of 10 each"
        )
    return findings


def _versions(found: dict[str, object]) -> set[str]:
    """Numbers of what was registered: 1 and 2 where nobody else registers there."""
    passes = found.get("passes", [])
    assert isinstance(passes, list)
    return {
        str(stage["result"]["version"])
        for one in passes
        for run in one["runs"]
        for stage in run["stages"]
        if stage["stage"] == "train" and stage["result"]
    }


def _started(checkout: Path, temporary: Path) -> subprocess.Popen[bytes]:
    with (checkout / "out").open("wb") as out, (checkout / "err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-c", "from cli.app import main; main()", "up", "--once", "--json"],
            cwd=checkout,
            env={
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", "/"),
                "TMPDIR": str(temporary),
                "PYTHONPATH": str(checkout),
                "ACIS_SERVERS": origin(),
                "ACIS_TRAIN_N_JOBS": "1",
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            preexec_fn=lambda: die_with_parent(15),  # noqa: PLW1509 -- a killed look leaves nothing
        )


if __name__ == "__main__":
    sys.exit(main())
