"""Volumes that are full: what an error says of one, and how much is left; the standard library alone.

A full volume is an outage, not a defect: whoever meets one waits, and space that comes back is enough.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_FULL_BELOW_BYTES = 1024 * 1024
"""A volume with less than this counts as full: a write of more has failed, and PostgreSQL cannot make a segment."""
_LOW_BELOW_BYTES = 256 * 1024 * 1024
"""A start writes some 100 MB, PostgreSQL's log of a busy hour as much again."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A mounted file system, as seen from one of our folders."""

    mount: Path
    """Where it is mounted."""
    folder: Path
    """What of ours lies on it."""
    free_bytes: int
    """What we may still write; root's reserve is not in it, nor a quota."""
    total_bytes: int

    @property
    def is_full(self) -> bool:
        """Nothing can be written any more."""
        return self.free_bytes < _FULL_BELOW_BYTES

    @property
    def is_low(self) -> bool:
        """It will be full soon."""
        return self.free_bytes < _LOW_BELOW_BYTES

    def __str__(self) -> str:
        return (
            f"the volume at {self.mount} ({self.folder}) has {size(self.free_bytes)} free of {size(self.total_bytes)}"
        )


def volume_of(folder: Path) -> Volume:
    """The volume of a folder, or of the nearest one above it that exists. Raises OSError."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    mount = there.resolve()
    device = mount.stat().st_dev
    while mount != mount.parent and mount.parent.stat().st_dev == device:
        mount = mount.parent
    usage = shutil.disk_usage(there)
    return Volume(mount=mount, folder=folder, free_bytes=usage.free, total_bytes=usage.total)


def volumes_of(folders: Iterable[Path]) -> list[Volume]:
    """The volumes of some folders, each once; a folder that cannot be looked at is left out."""
    found: dict[Path, Volume] = {}
    for folder in folders:
        try:
            volume = volume_of(folder)
        except OSError:
            continue
        found.setdefault(volume.mount, volume)
    return list(found.values())


def says_full(error: BaseException) -> bool:
    """A volume was full: the error, or what it came from, says so."""
    return any(
        (isinstance(one, OSError) and one.errno in _FULL) or any(word in str(one).lower() for word in _WORDS)
        for one in _causes(error)
    )


def in_words(error: BaseException, folders: Iterable[Path] = ()) -> str:
    """Which volume is full, how much is free, and what to do: of the error's own file, else of the fullest folder."""
    named = [
        Path(os.fsdecode(one.filename)).parent
        for one in _causes(error)
        if isinstance(one, OSError) and one.errno in _FULL and isinstance(one.filename, str | bytes)
    ]
    volumes = volumes_of(named) or volumes_of([*folders, Path(tempfile.gettempdir())])
    full = [one for one in volumes if one.is_full] or sorted(volumes, key=lambda one: one.free_bytes)[:1]
    return full_in_words(full)


def full_in_words(volumes: Iterable[Volume]) -> str:
    """What to do about full volumes."""
    told = "; ".join(str(one) for one in volumes) or "a volume"
    return f"no space left: {told}; free some, and what waits for it goes on by itself"


def size(n_bytes: int) -> str:
    """`0 B`, `12 MB`, `3.4 GB`."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    value = float(n_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 1000 or unit == "TB":
            break
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    known: set[int] = set()
    while seen is not None and id(seen) not in known:
        known.add(id(seen))
        yield seen
        seen = seen.__cause__ or seen.__context__
