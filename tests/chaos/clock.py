"""The clock of a server that a test moves while the server runs, by libfaketime (Debian's package `libfaketime`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")
MISSING = "no clock can be moved without libfaketime; apt-get install libfaketime"


def library() -> Path | None:
    """Where it is; None where it is not installed."""
    found = [path for place in PLACES for path in Path("/").glob(f"{place[1:]}/libfaketime.so.1")]
    return found[0] if found else None


class MovableClock:
    """Of all processes that are started with its environment; right until it is moved."""

    def __init__(self, folder: Path) -> None:
        """`folder` : one that the server can read"""
        self._file = folder / "clock"
        self.move(0)

    @property
    def environment(self) -> Mapping[str, str]:
        """Empty where the library is missing."""
        found = library()
        if found is None:
            return {}
        return {
            "LD_PRELOAD": str(found),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds from a move until everybody has seen it
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def move(self, seconds: int) -> None:
        """So far from the right time; 0: right again."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)
