"""Takes in what models answered, and brings it to the ledger: memory, local spool, COPY.

    record()   memory alone, while the caller waits
    flush()    written to the spool: survives a kill of the process; a second later, one of the machine too
    shipper    a segment after the other into the ledger, each once; whatever a dead process left, as well

A ledger that is away costs nothing until the spool has reached its limit; then, as on a full disk, `record` raises
PredictionLogFull, since an answer that nobody can keep is not given. Called by the router and by the service.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self, TypeAlias

import structlog

from config.settings import load_settings
from mlops.domain.errors import AcisError, ConfigurationError, DataError, PredictionLogFull
from mlops.failpoints import reach
from mlops.registry.opening import ModelServices
from mlops.serving.places import folder_of_ledger
from mlops.serving.spool import (
    REFUSED,
    ROWS_OF_A_FRAME,
    SEGMENT_BYTES,
    Segment,
    SpoolFolder,
    batch_of,
    encode,
    names_of,
    plain,
    read_segment,
    refused_in,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from config.settings import Settings
    from mlops.serving.model import Probabilities, ServedModel

log = structlog.get_logger(__name__)

_WRITE_EVERY_S = 0.05
_SYNC_EVERY_S = 1.0
_SEAL_AFTER_S = 1.0
"""A segment goes to the ledger so soon, however small it is; while the ledger is away it grows to its full size."""
_ADOPT_EVERY_S = 30.0
_RETRY_S = (0.5, 15.0)
#: In memory, for callers that do not flush and are quicker than the disk: 200,000 rows are some 30 MB.
_MOST_PENDING = 200_000
_ENDING = "this process is ending"

Origin = Literal["run", "service", "router"]
"""Who answered."""
_Recorded: TypeAlias = "tuple[ServedModel, Sequence[str], Sequence[date], Probabilities, Sequence[bytes], int]"


class PredictionLedger(Protocol):
    """Where predictions are kept: `mlops.ledger.live.predictions`."""

    def write_predictions(self, batch_id: str, origin: str, rows: pa.Table) -> bool:
        """Write a batch, all of it or nothing; False where a batch of this id was written before."""
        ...


@dataclass(frozen=True, kw_only=True)
class LogState:
    """How far the log is behind."""

    spooled_bytes: int
    limit_bytes: int
    full: str | None
    """Why nothing is taken in; None: it is."""
    behind: str | None
    """What the ledger says; None: it takes what comes."""
    n_refused: int
    """Segments in `.refused`, which the ledger will never take and a person must look at."""
    refused_bytes: int
    """Of those; they count towards the limit."""
    n_unwritten: int
    """Predictions since the start that could not be written down at all: a defect, named in the log."""


class _Sealed(NamedTuple):
    """A segment that waits for the ledger."""

    folder: SpoolFolder
    path: Path
    n_bytes: int


class PredictionLog:
    """The recorder of one process; safe to use from several threads, and not across a fork.

    Opens its folder and its threads with the first record.
    """

    def __init__(
        self,
        ledger: PredictionLedger,
        root: Path,
        *,
        limit_bytes: int,
        origin: Origin,
    ) -> None:
        """ledger: not asked before the first segment. root: the folder of all spools that are for this ledger."""
        self._ledger, self._root, self._limit_bytes, self._origin = ledger, root, limit_bytes, origin
        self._begin()
        forked = weakref.WeakMethod(self._forked)
        os.register_at_fork(after_in_child=lambda: _call(forked()))

    @classmethod
    def open(cls, settings: Settings | None = None, *, origin: Origin = "router") -> Self:
        """The log of this process, with these settings or those of the environment. Raises NothingConfigured."""
        services = ModelServices(settings or load_settings())
        found = services.settings
        return cls(services.ledger, folder_of_ledger(found, "spool"), limit_bytes=found.spool_bytes, origin=origin)

    def _begin(self) -> None:
        """Nothing recorded, nothing open."""
        self._is_inherited = False
        self._pending: deque[_Recorded] = deque()
        self._n_pending = 0
        self._gate = threading.Lock()  # of the two above, and of the end: nothing is taken in after it
        self._lock = threading.RLock()  # of all below
        self._own: SpoolFolder | None = None
        self._segment: Segment | None = None
        self._unsynced: list[Segment] = []
        """Sealed ones, whose files are open."""
        self._sealed: deque[_Sealed] = deque()
        self._spooled_bytes = 0
        self._n_refused = self._refused_bytes = self._n_unwritten = 0
        self._is_given_up = False
        """The own folder is the next process's; nothing is written any more."""
        self._not_opened: set[Path] = set()
        """Folders of others that were said to be unreadable."""
        self._full: str | None = None
        self._behind: str | None = None
        self._names: dict[int, tuple[ServedModel, bytes]] = {}
        self._closing = threading.Event()
        self._due = threading.Event()
        self._threads: tuple[threading.Thread, ...] = ()

    def _forked(self) -> None:
        """In a child: what was recorded is the parent's, and so are its files, whose lock must not outlive it.

        So are the ledger's connections, which is why a child cannot go on with this log.
        """
        for inherited in (self._own, self._segment, *self._unsynced, *(one.folder for one in self._sealed)):
            if inherited is not None:
                inherited.forget()
        self._begin()
        self._is_inherited, self._full = True, "the log was opened before this process was forked"

    # ---- what callers do

    def record(
        self,
        model: ServedModel,
        tickers: Sequence[str],
        dates: Sequence[date],
        probability: Probabilities,
        digests: Sequence[bytes],
    ) -> None:
        """Take in n answers; in memory until the next flush, of the caller or of a twentieth of a second.

        Raises PredictionLogFull: it cannot be kept, and must not be answered. ConfigurationError in a forked child.
        """
        if not self._threads:
            self.start()
        with self._gate:
            if self._full is not None or self._closing.is_set():
                raise self._refusal()
            self._pending.append((model, tickers, dates, probability, digests, time.time_ns() // 1000))
            self._n_pending += len(tickers)
        if self._n_pending > _MOST_PENDING:
            self.flush()

    def flush(self) -> None:
        """Return when everything that was recorded before survives a kill of this process.

        Raises PredictionLogFull: it is in memory alone, and is written once there is room. DataError: some of it cannot
        be written down.
        """
        if not self._pending:  # what is being written now is still in it
            return
        with self._lock:
            n_before = self._n_unwritten
            self._write()
            if self._pending:
                raise self._refusal()
            if self._n_unwritten > n_before:
                message = f"{self._n_unwritten - n_before} predictions cannot be written down; the log names them"
                raise DataError(message)

    def state(self) -> LogState:
        """How far it is behind."""
        return LogState(
            spooled_bytes=self._spooled_bytes,
            limit_bytes=self._limit_bytes,
            full=self._full or (_ENDING if self._closing.is_set() else None),
            behind=self._behind,
            n_refused=self._n_refused,
            refused_bytes=self._refused_bytes,
            n_unwritten=self._n_unwritten,
        )

    def start(self) -> None:
        """Bring what a dead process left to the ledger, before the first record."""
        with self._lock:
            if self._threads or self._is_inherited or self._closing.is_set():
                return
            self._threads = (
                threading.Thread(target=self._write_for_ever, name="prediction-writer", daemon=True),
                threading.Thread(target=self._ship_for_ever, name="prediction-shipper", daemon=True),
            )
            for thread in self._threads:
                thread.start()

    def close(self, *, within_s: float = 5.0) -> None:
        """Take nothing in any more, write down everything, and bring it to the ledger if that takes it in time.

        The rest is the next process's.
        """
        until = time.monotonic() + within_s
        with self._gate:
            self._closing.set()
        with self._lock:
            threads = self._threads
        self._due.set()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if self._pending:
            log.error("predictions.lost", n=self._n_pending, cause=self._full)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- memory to spool

    def _write_for_ever(self) -> None:
        synced_at = time.monotonic()
        while not self._closing.wait(_WRITE_EVERY_S):
            try:
                with self._lock:
                    self._write()
                    self._seal_if_due()
                if time.monotonic() - synced_at > _SYNC_EVERY_S:
                    self._sync()
                    synced_at = time.monotonic()
            except Exception:
                log.exception("predictions.writer_crashed")
        with self._lock:
            self._write()
            self._seal()
        self._sync()

    def _write(self) -> None:
        """Everything that is pending, as far as there is room."""
        if self._is_given_up:
            return
        if self._spooled_bytes + self._refused_bytes >= self._limit_bytes:
            aside = f", {self._refused_bytes:,} are in {self._root / REFUSED}" if self._refused_bytes else ""
            self._is_full(
                f"{self._spooled_bytes:,} bytes wait for the ledger{aside}, and ACIS_SPOOL_BYTES allows no more"
            )
            return
        while self._pending:
            try:
                self._append(self._encoded(self._pending[0]))
            except OSError as error:
                self._is_full(f"the spool {self._root} cannot be written: {error.strerror or error}")
                return
            except Exception:  # nothing that comes later waits for what cannot be written down at all
                model, tickers, dates, *_ = self._pending[0]
                self._n_unwritten += len(tickers)
                log.exception(
                    "predictions.unwritable",
                    n=len(tickers),
                    strategy=model.strategy,
                    version=model.version,
                    tickers=[repr(one) for one in tickers[:5]],
                    dates=[repr(one) for one in dates[:5]],
                    next="they are not in the log",
                )
            with self._gate:
                self._n_pending -= len(self._pending.popleft()[1])
        if self._full is not None and not self._closing.is_set():
            log.warning("predictions.taken_in_again", was=self._full)
            self._full = None

    def _append(self, frames: bytes) -> None:
        if self._own is None:
            self._own = SpoolFolder.new(self._root, self._origin)
        try:
            self._segment = self._segment or self._own.new_segment()
        except FileNotFoundError:  # somebody has cleaned up: another folder the next time
            self._own.forget()
            self._own = None
            raise
        self._segment.append(frames)
        self._spooled_bytes += len(frames)
        if self._segment.n_bytes >= SEGMENT_BYTES:
            self._seal()

    def _encoded(self, recorded: _Recorded) -> bytes:
        model, tickers, dates, probability, digests, at_us = recorded
        known = self._names.get(id(model))
        if known is None or known[0] is not model:
            known = self._names[id(model)] = (model, names_of(model))
            while len(self._names) > 64:  # models of before
                del self._names[next(iter(self._names))]
        named = [plain(ticker) for ticker in tickers]
        parts = range(0, len(named), ROWS_OF_A_FRAME)
        cuts = [slice(place, place + ROWS_OF_A_FRAME) for place in parts]
        return b"".join(
            encode(known[1], named[cut], dates[cut], probability[cut], digests[cut], at_us=at_us) for cut in cuts
        )

    def _seal_if_due(self) -> None:
        """Soon, where the ledger waits for it; while it is away or busy, only at its full size."""
        is_old = self._segment is not None and time.monotonic() - self._segment.began > _SEAL_AFTER_S
        if is_old and not self._sealed and self._behind is None:
            self._seal()

    def _seal(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None or self._own is None:
            return
        self._unsynced.append(segment)
        self._sealed.append(_Sealed(self._own, segment.path, segment.n_bytes))
        self._due.set()

    def _sync(self) -> None:
        """Have the disk keep what is not in the ledger yet. Without the lock: nobody waits for a disk."""
        with self._lock:
            sealed, self._unsynced = self._unsynced, []
            open_now = None if self._segment is None else self._segment.duplicate()
        for segment in (*sealed, *([open_now] if open_now is not None else [])):
            try:
                if segment.path.exists():
                    segment.sync()
            except OSError as error:
                log.warning("predictions.not_synced", error=str(error), next="a crash of the machine would lose them")
            finally:
                segment.forget()

    def _is_full(self, why: str) -> None:
        told = f"{why} ({self._behind})" if self._behind else why
        if self._full is None:
            log.error("predictions.refused", cause=told, action="bring the ledger back, or make room for the spool")
        self._full = told

    def _refusal(self) -> AcisError:
        if self._is_inherited:
            return ConfigurationError(f"{self._full}; open a PredictionLog in each process")
        why = self._full or _ENDING
        return PredictionLogFull(f"no prediction is given now, since none could be kept: {why}", delay_s=5.0)

    # ---- spool to ledger

    def _ship_for_ever(self) -> None:
        pause_s, adopted_at = _RETRY_S[0], -_ADOPT_EVERY_S
        while True:
            if time.monotonic() - adopted_at > _ADOPT_EVERY_S:
                adopted_at = time.monotonic()
                self._adopt()
            try:
                while self._sealed:
                    self._ship_first()
                    pause_s = _RETRY_S[0]
            except Exception as error:  # noqa: BLE001 -- whatever it is, the segment stays until it is written
                self._say_behind(error)
                if self._closing.is_set():
                    break
                self._closing.wait(pause_s)
                pause_s = min(2 * pause_s, _RETRY_S[1])
                continue
            if self._closing.is_set() and not self._threads[0].is_alive():
                self._write_the_rest()  # there may be room now
                if not self._sealed:
                    break
            self._due.clear()
            if not self._sealed:
                self._due.wait(_WRITE_EVERY_S if self._closing.is_set() else _SEAL_AFTER_S)
        self._threads[0].join()
        self._give_up()

    def _write_the_rest(self) -> None:
        with self._lock:
            self._write()
            self._seal()
        self._sync()

    def _give_up(self) -> None:
        """Leave what is still here to the next process."""
        self._write_the_rest()
        with self._lock:
            self._is_given_up = True
            folders = {id(one): one for one in (self._own, *(one.folder for one in self._sealed)) if one is not None}
            self._own = None
            for folder in folders.values():
                folder.close()

    def _ship_first(self) -> None:
        """Bring the oldest segment to the ledger. Raises what may pass."""
        sealed = self._sealed[0]
        try:
            self._ship(sealed.folder, sealed.path)
        except OSError as error:
            if sealed.folder is self._own:
                raise
            self._leave(sealed.folder, error)
            return
        with self._lock:
            self._sealed.popleft()
            self._spooled_bytes -= sealed.n_bytes
        if sealed.folder is not self._own and not sealed.folder.segments():
            sealed.folder.close()

    def _ship(self, folder: SpoolFolder, path: Path) -> None:
        """One segment: written, or refused for good and put aside. Raises what may pass."""
        if not path.exists():
            log.error("predictions.segment_gone", segment=str(path), cause="it was removed by somebody else")
            return
        try:
            rows, n_torn = read_segment(path)
            if n_torn:
                log.info("predictions.torn_tail", segment=path.name, n_bytes=n_torn, next="it was not acknowledged")
            if rows is not None:
                self._ledger.write_predictions(batch_of(path), folder.origin or self._origin, rows)
        except (DataError, ValueError) as error:
            kept = folder.refuse(path)
            log.warning("predictions.not_written", segment=str(kept), error=str(error), action="look at it by hand")
            self._count_refused()
        else:
            reach("predictions.before_unlink")
            path.unlink()
        if self._behind is not None:
            log.info("predictions.written_again", was=self._behind)
            self._behind = None

    def _adopt(self) -> None:
        """Take over the folders of dead processes; one that cannot be opened holds up nothing."""
        try:
            self._count_refused()
            for folder in SpoolFolder.abandoned(self._root, not_opened=self._say_not_opened):
                self._take_over(folder)
        except OSError as error:
            self._say_not_opened(self._root, error)

    def _take_over(self, folder: SpoolFolder) -> None:
        try:
            found = [_Sealed(folder, path, path.stat().st_size) for path in folder.segments()]
        except OSError as error:
            folder.forget()
            self._say_not_opened(folder.path, error)
            return
        if not found:
            folder.close()
            return
        log.info("predictions.spool_taken_over", folder=folder.path.name, n_segments=len(found))
        with self._lock:
            self._spooled_bytes += sum(one.n_bytes for one in found)
            self._sealed.extend(found)

    def _leave(self, folder: SpoolFolder, error: OSError) -> None:
        """Give back a folder that was taken over and cannot be read; it is looked at again later."""
        with self._lock:
            left = [one for one in self._sealed if one.folder is folder]
            self._sealed = deque(one for one in self._sealed if one.folder is not folder)
            self._spooled_bytes -= sum(one.n_bytes for one in left)
        folder.forget()
        self._say_not_opened(folder.path, error)

    def _count_refused(self) -> None:
        n_refused, n_bytes = refused_in(self._root)
        with self._lock:
            self._n_refused, self._refused_bytes = n_refused, n_bytes

    def _say_not_opened(self, folder: Path, error: OSError) -> None:
        if folder not in self._not_opened:  # once, and not each half minute
            self._not_opened.add(folder)
            log.warning(
                "predictions.folder_not_opened",
                folder=str(folder),
                error=str(error),
                action="let this process's user read and write it: predictions may wait there",
            )

    def _say_behind(self, error: Exception) -> None:
        if self._behind is None:
            known = isinstance(error, AcisError)
            log.warning("predictions.wait", error=str(error), exc_info=not known, next="they are kept in the spool")
        self._behind = str(error)


def _call(method: Callable[[], None] | None) -> None:
    if method is not None:  # its log lives
        method()
