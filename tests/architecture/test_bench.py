"""Every module of bench/ finds what it imports: none of them is run by the other tests."""

from __future__ import annotations

import os
import subprocess
import sys

from config.settings import ROOT

_IMPORT_ALL = """
import pathlib, runpy, sys
sys.path.append("bench")  # of each other, as when one is run
for path in sorted(pathlib.Path("bench").glob("*.py")):
    try:
        runpy.run_path(str(path), run_name=f"bench_{path.stem}")
    except Exception as error:
        print(f"{path}: {type(error).__name__}: {error}")
"""


def test_every_benchmark_can_be_imported() -> None:
    found = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL],
        cwd=ROOT,
        env={**os.environ, "CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (found.returncode, found.stdout) == (0, ""), found.stderr
