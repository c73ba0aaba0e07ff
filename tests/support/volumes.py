"""A small file system of its own, which a test fills and frees; for root where mounts are allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from tests.support.waiting import wait_for

_SLACK = 256 * 1024


class SmallVolume:
    """A tmpfs; full by the kernel's own word, and quickly: what is not used yet is taken away from it."""

    def __init__(self, mount: Path, megabytes: int) -> None:
        self.mount, self._megabytes = mount, megabytes
        self._filler = mount / "filler"

    def fill(self) -> None:
        """Nothing can be written from now on."""
        wait_for(self._shrunk, "the volume is made as small as what it holds")
        with self._filler.open("ab", buffering=0) as file:
            for n_bytes in (65536, 4096, 1):
                with suppress(OSError):
                    while True:
                        file.write(b"x" * n_bytes)
        assert shutil.disk_usage(self.mount).free < 4096

    def free(self) -> None:
        """As before."""
        _mount("-o", f"remount,size={self._megabytes}m", str(self.mount))
        self._filler.unlink(missing_ok=True)

    def _shrunk(self) -> bool:
        size = shutil.disk_usage(self.mount).used + _SLACK
        return _mount("-o", f"remount,size={size}", str(self.mount), check=False)


def _mount(*arguments: str, check: bool = True) -> bool:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stderr
    return done.returncode == 0


@contextmanager
def small_volume(mount: Path, *, megabytes: int) -> Iterator[SmallVolume]:
    """Mounted on the folder until the block ends."""
    mount.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m,mode=711", "acis-test", str(mount))
    try:
        yield SmallVolume(mount, megabytes)
    finally:
        # Lazily: a process that was killed may still be on its way out.
        subprocess.run(["umount", "--lazy", str(mount)], check=False)


@cache
def why_no_volume() -> str | None:
    """Why this machine lends no small file system; None where it does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a small file system is mounted by root on Linux alone"
    with tempfile.TemporaryDirectory(prefix="acis-mount-") as folder:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "acis-test", folder], check=False, capture_output=True, text=True
        )
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=False)
    return None if done.returncode == 0 else f"mounts are not allowed here: {done.stderr.strip()}"
