"""A process that really runs out of its memory limit, in a memory cgroup of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import ROOT
from tests.support.waiting import wait_for

LIMIT_MIB = 96
#: A parent that stays below the limit, and its child, which is killed; in the cgroup from its first line on.
PARENT = """
import subprocess, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text("0")
from tasks.request import KilledForMemory
killed = KilledForMemory()
before = killed.n_killed()
child = subprocess.run([sys.executable, "-c", "b'x' * (1 << 30)"])
print(child.returncode, killed.reason(before))
child = subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
print(child.returncode, killed.reason(before))
"""


@pytest.fixture
def limited() -> Iterator[Path]:
    """A memory cgroup below the test's own that has a limit."""
    mounted = Path("/sys/fs/cgroup")
    is_version_2 = (mounted / "cgroup.controllers").exists()
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    wanted = "" if is_version_2 else "memory"
    own = next((path for _, controllers, path in lines if wanted in controllers.split(",")), "/")
    folder = (mounted if is_version_2 else mounted / "memory") / own.lstrip("/") / f"acis-test-{os.getpid()}"
    files = ("memory.max", "memory.swap.max") if is_version_2 else ("memory.limit_in_bytes",)
    try:
        folder.mkdir()
    except OSError as exc:
        pytest.skip(f"this user may make no memory cgroup: {exc}")
    try:
        (folder / files[0]).write_text(str(LIMIT_MIB << 20))
        for name in files[1:]:
            if (folder / name).exists():
                (folder / name).write_text("0")
        yield folder
    except OSError as exc:
        pytest.skip(f"this user may limit no memory: {exc}")
    finally:
        wait_for(lambda: not (folder / "cgroup.procs").read_text(), "the cgroup is empty", within_s=10.0)
        folder.rmdir()


def test_a_child_that_the_kernel_killed_for_its_memory_is_told_from_one_that_somebody_killed(limited: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(limited)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    of_memory, of_somebody = done.stdout.splitlines()
    assert of_memory.startswith(f"-9 out of memory: limit {LIMIT_MIB} MiB, peak {LIMIT_MIB} MiB")
    assert of_somebody.startswith("-9 memory was not the reason")
