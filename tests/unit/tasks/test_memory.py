"""Whether memory was the reason, by the files of both versions of the kernel's memory cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.request import UNKNOWN, KilledForMemory, MemoryFigures, memory_figures

MIB = 2**20


class Cgroup:
    """A folder with `proc` and `sys` as a process in a cgroup of that version sees them."""

    def __init__(self, root: Path, version: int) -> None:
        self.root, self._version = root, version
        self._own = root / ("sys/fs/cgroup/box" if version == 2 else "sys/fs/cgroup/memory/box")
        self._own.mkdir(parents=True)
        (root / "proc/self").mkdir(parents=True)
        line = "0::/box\n" if version == 2 else "9:pids:/\n4:memory:/box\n0::/\n"
        (root / "proc/self/cgroup").write_text(line)

    def tell(self, *, n_killed: int, limit: int | None, peak: int) -> None:
        if self._version == 2:
            files = {
                "memory.events": f"low 0\nhigh 0\nmax 12\noom 3\noom_kill {n_killed}\noom_group_kill 0\n",
                "memory.max": "max" if limit is None else str(limit),
                "memory.peak": str(peak),
            }
        else:
            files = {
                "memory.oom_control": f"oom_kill_disable 0\nunder_oom 0\noom_kill {n_killed}\n",
                "memory.limit_in_bytes": "9223372036854771712" if limit is None else str(limit),
                "memory.max_usage_in_bytes": str(peak),
            }
        for name, text in files.items():
            (self._own / name).write_text(f"{text}\n")


@pytest.fixture(params=[1, 2])
def cgroup(request: pytest.FixtureRequest, tmp_path: Path) -> Cgroup:
    return Cgroup(tmp_path, request.param)


def test_the_kernels_figures_are_read(cgroup: Cgroup) -> None:
    cgroup.tell(n_killed=2, limit=512 * MIB, peak=500 * MIB)
    assert memory_figures(cgroup.root) == MemoryFigures(n_killed=2, limit=512 * MIB, peak=500 * MIB)
    cgroup.tell(n_killed=0, limit=None, peak=500 * MIB)
    assert memory_figures(cgroup.root) == MemoryFigures(n_killed=0, limit=None, peak=500 * MIB)


def test_a_limit_of_the_cgroup_around_it_counts(cgroup: Cgroup) -> None:
    cgroup.tell(n_killed=0, limit=None, peak=1)
    around = next(cgroup.root.glob("sys/fs/cgroup/**/box")).parent
    (around / "memory.max").write_text(f"{256 * MIB}\n")
    (around / "memory.limit_in_bytes").write_text(f"{256 * MIB}\n")
    assert memory_figures(cgroup.root).limit == 256 * MIB


def test_a_kill_that_the_kernel_counted_since_the_work_began_is_out_of_memory(cgroup: Cgroup) -> None:
    cgroup.tell(n_killed=1, limit=2048 * MIB, peak=1000 * MIB)
    killed = KilledForMemory(cgroup.root)
    before = killed.n_killed()
    assert killed.reason(before) == "memory was not the reason: limit 2,048 MiB, peak 1,000 MiB"
    cgroup.tell(n_killed=2, limit=2048 * MIB, peak=2048 * MIB)
    assert killed.reason(before).startswith("out of memory: limit 2,048 MiB, peak 2,048 MiB")
    # The one kill explains one death: a sibling that began at the same time was killed by somebody else.
    assert killed.reason(before).startswith("memory was not the reason")


def test_without_a_limit_the_machines_memory_is_named(cgroup: Cgroup) -> None:
    cgroup.tell(n_killed=1, limit=None, peak=1000 * MIB)
    assert "MiB (the machine's), peak 1,000 MiB" in KilledForMemory(cgroup.root).reason(0)


def test_a_kernel_that_does_not_tell_is_said_to_be_so(tmp_path: Path) -> None:
    assert memory_figures(tmp_path) == UNKNOWN
    assert "is not known" in KilledForMemory(tmp_path).reason(0)
