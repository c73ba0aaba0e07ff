"""`python -m devstack.supervisord -c FILE`: supervisord, whose logs may find their volume full.

supervisord prints the error of a log that it cannot write, into a log that it cannot write, and ends by that, with
every server that it keeps. Here a line that has no room is dropped and counted, the count stands in the log once there
is room, and what writes to it never notices.

It also counts the starts of each program, which supervisord does not tell: `acis.starts` of its control.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from supervisor import events, loggers, supervisord


class PatientLog(loggers.RotatingFileHandler):  # type: ignore[misc]  # the library has no types
    """A rotating log that outlives a full volume."""

    stream: Any
    n_lost = 0

    def __init__(self, filename: str, mode: str = "ab", maxBytes: int = 0, backupCount: int = 0) -> None:  # noqa: N803 -- the library's names
        super().__init__(filename, mode, maxBytes, backupCount)

    def emit(self, record: Any) -> None:  # noqa: ANN401 -- the library's record
        """Write a record, or drop it."""
        try:
            if self.stream.closed:  # the last rotation found no room for a new file
                self.stream = Path(self.baseFilename).open("ab")  # noqa: SIM115 -- stays open
            if self.n_lost:
                self.stream.write(
                    f"({self.n_lost} writes found no room on this volume and are missing here)\n".encode()
                )
                self.stream.flush()
                self.n_lost = 0
            text = record.msg if self.fmt == "%(message)s" else self.fmt % record.asdict()
            self.stream.write(text if isinstance(text, bytes) else text.encode())
            self.stream.flush()
            self.doRollover()
        except (OSError, ValueError):
            self.n_lost += 1

    def flush(self) -> None:
        """Of what is buffered, as far as there is room."""
        try:
            super().flush()
        except (OSError, ValueError):
            self.n_lost += 1

    def close(self) -> None:
        """What had no room is given up."""
        try:
            super().close()
        except (OSError, ValueError):
            self.closed = True


class SilentStream:
    """Standard output and error, which lead to a file as well: a line that has no room is dropped."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 -- a text stream
        self._stream = stream

    def write(self, text: str) -> int:
        """All of it, or nothing."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            return 0
        return len(text)

    def flush(self) -> None:
        """Done at each write."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever else a stream has
        return getattr(self._stream, name)


class _StartCounter:
    """The namespace `acis` of supervisord's control."""

    def __init__(self) -> None:
        self._starts: Counter[str] = Counter()
        events.subscribe(events.ProcessStateStartingEvent, self._count)

    def _count(self, event: Any) -> None:  # noqa: ANN401 -- the library's event
        self._starts[event.process.config.name] += 1

    def starts(self) -> dict[str, int]:
        """How often each program was started."""
        return dict(self._starts)


def make_start_counter(_supervisor: object) -> _StartCounter:
    """What the configuration names as factory."""
    return _StartCounter()


def main(arguments: list[str]) -> None:
    """Run supervisord until it is asked to end."""
    loggers.RotatingFileHandler = PatientLog
    sys.stdout, sys.stderr = SilentStream(sys.stdout), SilentStream(sys.stderr)
    supervisord.main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
