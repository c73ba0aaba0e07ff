"""Predictions on the local disk, between the answer and the ledger.

    FOLDER / service-3f9a… / lock                  held (flock) by the process that writes here, as long as it lives
                             00000001-8c41….seg    segments, each a batch of the ledger under that id
             .refused / …                          what the ledger will never take: for a person to look at

FOLDER is of one ledger. A folder is named after who answered (`service`, `router`), which the ledger notes of a batch.

A segment is frames one after the other: length, CRC-32, body. The first frame that does not fit is where a killed
process stopped; nothing behind it was acknowledged. A folder whose lock nobody holds is taken over by whoever looks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from mlops.ledger.live.predictions import prediction_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.serving.model import ServedModel

SEGMENT_BYTES = 2 * 1024 * 1024
"""A segment ends here: some 50,000 rows, which COPY writes within a second."""
ROWS_OF_A_FRAME = 10_000

_SUFFIX = ".seg"
_LOCK = "lock"
REFUSED = ".refused"
_FRAME = struct.Struct("<II")  # bytes of the body, CRC-32 of the body
#: Rows, bytes of the model's names, bytes of the tickers, one date for all rows, microseconds since 1970.
_HEAD = struct.Struct("<IHI?q")
_DIGEST_BYTES = 16
_EPOCH = date(1970, 1, 1).toordinal()
_BETWEEN = "\x1f"  # names of a model, and tickers; `plain` leaves none in them


# ---- Frames


def encode(
    model: bytes,
    tickers: Sequence[str],
    dates: Sequence[date],
    probability: npt.NDArray[np.floating],
    digests: Sequence[bytes],
    *,
    at_us: int,
) -> bytes:
    """A frame of n rows; `model` : of `names_of`, tickers without the separator, `at_us` since 1970."""
    named = _BETWEEN.join(tickers).encode("utf-8", "replace")
    first = dates[0]
    is_one_day = all(day is first or day == first for day in dates)
    days = np.array([day.toordinal() - _EPOCH for day in (dates[:1] if is_one_day else dates)], dtype="<i4")
    head = _HEAD.pack(len(tickers), len(model), len(named), is_one_day, at_us)
    values = np.asarray(probability, dtype="<f4").tobytes()
    body = b"".join((head, model, named, days.tobytes(), values, *digests))
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def names_of(model: ServedModel) -> bytes:
    """What a frame says of its model."""
    return _BETWEEN.join((model.strategy, model.version, model.sha256, model.variant)).encode()


def plain(ticker: str) -> str:
    """The ticker as the ledger can hold it: no NUL, no separator, no half of a surrogate pair."""
    if ticker.isascii() and ticker.isprintable():  # nearly all
        return ticker
    cleaned = ticker.replace("\x00", "\ufffd").replace(_BETWEEN, "\ufffd")
    return cleaned.encode("utf-8", "replace").decode()


@dataclass(slots=True)
class _Columns:
    """What the frames of a segment add up to."""

    models: list[bytes] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    tickers: list[str] = field(default_factory=list)
    days: list[bytes] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)
    probabilities: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)

    def add(self, body: bytes) -> None:
        """Take a frame's body apart."""
        n, n_model, n_tickers, is_one_day, at_us = _HEAD.unpack_from(body)
        place = _HEAD.size
        self.models.append(body[place : (place := place + n_model)])
        self.tickers += body[place : (place := place + n_tickers)].decode().split(_BETWEEN)
        days = body[place : (place := place + 4 * (1 if is_one_day else n))]
        self.days.append(days * n if is_one_day else days)
        self.probabilities.append(body[place : (place := place + 4 * n)])
        self.digests.append(body[place:])
        self.counts.append(n)
        self.at_us.append(at_us)

    def table(self) -> pa.Table:
        """All rows as one table of the ledger's `prediction_schema()`."""
        import pyarrow as pa  # noqa: PLC0415 -- a process that only answers needs it late

        known = {model: place for place, model in enumerate(dict.fromkeys(self.models))}
        place = pa.array(np.repeat([known[model] for model in self.models], self.counts))
        names = [pa.array(one) for one in zip(*(model.decode().split(_BETWEEN) for model in known), strict=True)]
        schema = prediction_schema()
        columns = [
            *(name.take(place) for name in names),
            pa.array(self.tickers, pa.string()),
            pa.array(np.frombuffer(b"".join(self.days), "<i4")).cast(pa.date32()),
            pa.array(np.repeat(np.array(self.at_us, dtype=np.int64), self.counts)).cast(
                schema.field("predicted_at").type
            ),
            pa.array(np.frombuffer(b"".join(self.probabilities), "<f4").astype(np.float64)),
            pa.FixedSizeBinaryArray.from_buffers(
                schema.field("row_digest").type, sum(self.counts), [None, pa.py_buffer(b"".join(self.digests))]
            ),
        ]
        return pa.table(columns, schema=schema)


def read_segment(path: Path) -> tuple[pa.Table | None, int]:
    """Its rows, of the ledger's `prediction_schema()`, and how many bytes at its end are no whole frame.

    None: it has no row at all.
    """
    content = path.read_bytes()
    columns, place = _Columns(), 0
    for body in _bodies(content):
        columns.add(body)
        place += _FRAME.size + len(body)
    return (columns.table() if columns.counts else None), len(content) - place


def _bodies(content: bytes) -> Iterator[bytes]:
    place, end = 0, len(content)
    while place + _FRAME.size <= end:
        n_bytes, checksum = _FRAME.unpack_from(content, place)
        place += _FRAME.size
        body = content[place : place + n_bytes]
        # A hole that a crashed machine left reads as zeros, whose checksum is zero.
        if n_bytes < _HEAD.size or len(body) < n_bytes or zlib.crc32(body) != checksum:
            return
        yield body
        place += n_bytes


# ---- Segments


class Segment:
    """A file that is being written; safe for one thread at a time."""

    def __init__(self, path: Path, file: int | None = None) -> None:
        """Raises OSError."""
        self.path = path
        self.n_bytes = 0
        self.began = time.monotonic()
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(path, how, 0o600) if file is None else file

    def append(self, frames: bytes) -> None:
        """Write all of it; what a full disk cut off is torn, and is written over the next time. Raises OSError."""
        written = 0
        while written < len(frames):
            written += os.pwrite(self._file, frames[written:], self.n_bytes + written)
        self.n_bytes += len(frames)

    def duplicate(self) -> Segment:
        """The same file, for whoever syncs it meanwhile."""
        return Segment(self.path, os.dup(self._file))

    def sync(self) -> None:
        """Have the machine's disk keep it, for a machine that crashes. Raises OSError."""
        os.fdatasync(self._file)

    def forget(self) -> None:
        """Write no more to it."""
        os.close(self._file)


def batch_of(path: Path) -> str:
    """The id of a segment's batch in the ledger."""
    return path.stem.partition("-")[2]


# ---- Folders, each with one owner


class SpoolFolder:
    """One process's folder, or one that it took over; the lock goes with the process."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock
        self._number = 0

    @property
    def origin(self) -> str | None:
        """Who answered what is in it; None: the name does not say, as those of earlier versions."""
        origin, _, rest = self.path.name.partition("-")
        return origin if rest else None

    @classmethod
    def new(cls, root: Path, origin: str) -> Self:
        """Make one; nobody sees it before its lock is held. Raises OSError."""
        name = f"{origin}-{uuid.uuid4().hex}"
        making = root / f".{name}"
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        making.mkdir(mode=0o700)
        try:
            lock = _locked(making / _LOCK)
            making.rename(root / name)
        except OSError:
            shutil.rmtree(making, ignore_errors=True)
            raise
        if lock is None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(root / name))
        return cls(root / name, lock)

    @classmethod
    def abandoned(cls, root: Path, *, not_opened: Callable[[Path, OSError], None] | None = None) -> Iterator[Self]:
        """Those whose owner is dead; each is ours from now on, whoever else looks at the same time.

        not_opened: is told of each folder that cannot be opened; None: raises OSError
        """
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            try:
                is_folder = path.is_dir() and not path.name.startswith(".")
                lock = _locked(path / _LOCK) if is_folder else None
            except OSError as error:
                if not_opened is None:
                    raise
                not_opened(path, error)
                continue
            if lock is not None:
                yield cls(path, lock)

    def segments(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.path.glob(f"*{_SUFFIX}"))

    def new_segment(self) -> Segment:
        """Raises OSError."""
        self._number += 1
        return Segment(self.path / f"{self._number:08}-{uuid.uuid4().hex}{_SUFFIX}")

    def refuse(self, segment: Path) -> Path:
        """Put a segment aside that the ledger will never take; where it is now. Raises OSError."""
        folder = self.path.parent / REFUSED
        folder.mkdir(mode=0o700, exist_ok=True)
        return segment.rename(folder / segment.name)

    def close(self) -> None:
        """Give it up; what is left in it is the next one's, and an empty one goes."""
        if not self.segments():
            (self.path / _LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # whoever looks at it now, or something of a person's
                self.path.rmdir()
        self.forget()

    def forget(self) -> None:
        """Close its lock's file; a forked child's does not end its parent's lock."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def refused_in(root: Path) -> tuple[int, int]:
    """How many segments the ledger refused for good, and their bytes. Raises OSError."""
    sizes = [path.stat().st_size for path in (root / REFUSED).glob(f"*{_SUFFIX}")]
    return len(sizes), sum(sizes)


def _locked(path: Path) -> int | None:
    """The file's lock; None where another process has it, or the folder is gone meanwhile. Raises OSError."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:  # else the one before has taken it away between the two
            return file
    except BlockingIOError:
        pass
    except OSError:
        os.close(file)
        raise
    os.close(file)
    return None
