"""What was answered reaches the ledger once, or is refused aloud."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from mlops.domain.errors import ConfigurationError, DataError, LedgerUnavailable, PredictionLogFull
from mlops.serving import prediction_log
from mlops.serving.model import ServedModel
from mlops.serving.prediction_log import PredictionLog
from mlops.serving.spool import SpoolFolder
from tests.support.waiting import wait_for

DAY = date(2026, 11, 12)
MODEL = ServedModel(
    strategy="growth",
    version="7",
    sha256="a" * 64,
    seq=1,
    features=("a",),
    predictor=None,  # type: ignore[arg-type]
)
MIB = 1024 * 1024


class Kept:
    """A ledger that can be away, refuse, and lose its answer."""

    def __init__(self) -> None:
        self.batches: dict[str, pa.Table] = {}
        self.sent: list[str] = []
        self.error: Exception | None = None
        self.error_after: Exception | None = None
        self.origins: list[str] = []

    def write_predictions(self, batch_id: str, origin: str, rows: pa.Table) -> bool:
        self.sent.append(batch_id)
        self.origins.append(origin)
        if self.error is not None:
            raise self.error
        is_new = batch_id not in self.batches
        self.batches.setdefault(batch_id, rows)
        if self.error_after is not None:
            error, self.error_after = self.error_after, None
            raise error
        return is_new

    @property
    def tickers(self) -> list[str]:
        return [ticker for rows in self.batches.values() for ticker in rows["ticker"].to_pylist()]


@pytest.fixture
def ledger() -> Kept:
    return Kept()


Opening = Callable[..., PredictionLog]


@pytest.fixture
def opened(ledger: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opening]:
    monkeypatch.setattr(prediction_log, "_SEAL_AFTER_S", 0.05)
    monkeypatch.setattr(prediction_log, "_RETRY_S", (0.02, 0.05))
    logs: list[PredictionLog] = []

    def open_log(**changes: Any) -> PredictionLog:
        found = PredictionLog(ledger, tmp_path / "spool", **{"limit_bytes": 64 * MIB, "origin": "service", **changes})
        logs.append(found)
        return found

    yield open_log
    for one in logs:
        one.close(within_s=10)


def record(log: PredictionLog, *tickers: str) -> None:
    n = len(tickers)
    log.record(MODEL, tickers, [DAY] * n, np.full(n, 0.25, dtype=np.float32), [bytes(16)] * n)


def segments(root: Path) -> list[Path]:
    return sorted((root / "spool").glob("*/*.seg"))


def test_what_was_recorded_reaches_the_ledger_by_itself(opened: Opening, ledger: Kept, tmp_path: Path) -> None:
    log = opened()
    record(log, "AAPL", "MSFT")
    record(log, "NVDA")
    wait_for(lambda: len(ledger.tickers) == 3, "it was written")
    assert ledger.tickers == ["AAPL", "MSFT", "NVDA"]
    wait_for(lambda: not segments(tmp_path), "the spool is empty")
    assert log.state().spooled_bytes == 0


def test_what_was_flushed_is_on_the_disk(opened: Opening, ledger: Kept, tmp_path: Path) -> None:
    ledger.error = LedgerUnavailable()
    log = opened()
    record(log, "AAPL")
    log.flush()
    (segment,) = segments(tmp_path)
    rows, n_torn = prediction_log.read_segment(segment)
    assert rows is not None
    assert (rows["ticker"].to_pylist(), n_torn) == (["AAPL"], 0)
    ledger.error = None
    wait_for(lambda: ledger.tickers == ["AAPL"], "the ledger is back")


def test_a_ledger_that_is_away_is_waited_for_and_loses_nothing(opened: Opening, ledger: Kept) -> None:
    ledger.error = LedgerUnavailable("PostgreSQL is away")
    log = opened()
    for n in range(300):
        record(log, f"T{n}")
        log.flush()
    wait_for(lambda: log.state().behind == "PostgreSQL is away", "it says so")
    ledger.error = None
    wait_for(lambda: len(ledger.tickers) == 300, "all are written")
    assert ledger.tickers == [f"T{n}" for n in range(300)]
    assert log.state().behind is None


def test_a_commit_whose_answer_was_lost_is_not_written_again(opened: Opening, ledger: Kept) -> None:
    ledger.error_after = LedgerUnavailable("the connection broke")
    log = opened()
    record(log, "AAPL")
    wait_for(lambda: len(ledger.sent) == 2, "it was sent again")
    assert ledger.sent[0] == ledger.sent[1]
    assert ledger.tickers == ["AAPL"]


def test_tables_that_are_missing_are_waited_for(opened: Opening, ledger: Kept) -> None:
    ledger.error = ConfigurationError("make them with `acis migrate`")
    log = opened()
    record(log, "AAPL")
    wait_for(lambda: log.state().behind, "it says so")
    ledger.error = None
    wait_for(lambda: ledger.tickers == ["AAPL"], "all are written")


def test_a_batch_that_the_ledger_never_takes_is_put_aside_and_holds_up_nobody(
    opened: Opening, ledger: Kept, tmp_path: Path
) -> None:
    ledger.error = DataError("the table cannot hold it")
    log = opened()
    record(log, "odd")
    wait_for(lambda: list((tmp_path / "spool" / ".refused").glob("*.seg")), "it is put aside")
    ledger.error = None
    record(log, "AAPL")
    wait_for(lambda: ledger.tickers == ["AAPL"], "the next one is written")
    state = log.state()
    assert state.n_refused == 1
    assert state.refused_bytes > 0


def test_whatever_a_caller_calls_its_rows_the_others_of_the_batch_are_written(opened: Opening, ledger: Kept) -> None:
    log = opened()
    record(log, "AAPL", "nul\x00", "half \ud800", "\x1f", "")
    wait_for(lambda: len(ledger.tickers) == 5, "all are written")
    assert ledger.tickers == ["AAPL", "nul\ufffd", "half ?", "\ufffd", ""]


def test_one_record_of_many_rows_comes_in_parts_and_whole(opened: Opening, ledger: Kept) -> None:
    log = opened()
    record(log, *(f"T{n}" for n in range(25_000)))
    log.flush()
    wait_for(lambda: len(ledger.tickers) == 25_000, "all are written", within_s=30)
    assert ledger.tickers == [f"T{n}" for n in range(25_000)]


def test_a_spool_at_its_limit_refuses_aloud_and_goes_on_when_the_ledger_is_back(opened: Opening, ledger: Kept) -> None:
    ledger.error = LedgerUnavailable("PostgreSQL is away")
    log = opened(limit_bytes=20_000)
    acknowledged: set[str] = set()

    def fill() -> None:
        for number in range(10_000):
            record(log, f"T{number}")
            log.flush()
            acknowledged.add(f"T{number}")

    with pytest.raises(PredictionLogFull, match=r"ACIS_SPOOL_BYTES allows no more") as refused:
        fill()
    assert refused.value.delay_s > 0
    assert 50 < len(acknowledged) < 1000
    assert log.state().full
    ledger.error = None
    wait_for(lambda: log.state().full is None, "it takes in again")
    record(log, "last")
    log.flush()
    wait_for(lambda: "last" in ledger.tickers, "all are written")
    assert acknowledged <= set(ledger.tickers)
    assert len(ledger.tickers) == len(set(ledger.tickers))


def test_a_full_disk_refuses_aloud_and_keeps_what_is_in_memory(
    opened: Opening, ledger: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real = opened(), os.pwrite
    record(log, "before")
    log.flush()

    def full(file: int, data: bytes, place: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    record(log, "caught")
    with pytest.raises(PredictionLogFull, match="cannot be written: No space left on device"):
        log.flush()
    with pytest.raises(PredictionLogFull):
        record(log, "refused")
    monkeypatch.setattr(os, "pwrite", real)
    wait_for(lambda: log.state().full is None, "there is room again")
    record(log, "after")
    wait_for(lambda: len(ledger.tickers) == 3, "all are written")
    assert ledger.tickers == ["before", "caught", "after"]


def test_a_folder_that_cannot_be_made_refuses_aloud(ledger: Kept, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log = PredictionLog(ledger, tmp_path / "file" / "spool", limit_bytes=MIB, origin="service")
    record(log, "AAPL")
    with pytest.raises(PredictionLogFull, match="Not a directory"):
        log.flush()
    log.close()


def test_what_a_dead_process_left_is_brought_to_the_ledger_by_the_next(
    opened: Opening, ledger: Kept, tmp_path: Path
) -> None:
    dead = opened()
    ledger.error = LedgerUnavailable()
    record(dead, "AAPL")
    dead.flush()
    dead.close()
    (left,) = segments(tmp_path)
    with left.open("ab") as file:
        file.write(b"half a fra")
    ledger.error = None
    opened(origin="router").start()
    wait_for(lambda: ledger.tickers == ["AAPL"], "it is written")
    wait_for(lambda: not left.parent.exists(), "its folder is gone")
    assert set(ledger.origins) == {"service"}, "who answered, not who brought it"


def test_an_end_brings_the_rest_to_the_ledger(opened: Opening, ledger: Kept, tmp_path: Path) -> None:
    log = opened()
    for n in range(100):
        record(log, f"T{n}")
    log.close(within_s=20)
    assert len(ledger.tickers) == 100
    assert list((tmp_path / "spool").iterdir()) == []


def test_nothing_is_taken_in_after_the_end(opened: Opening) -> None:
    log = opened()
    log.close()
    with pytest.raises(PredictionLogFull, match="ending"):
        record(log, "AAPL")


def test_a_forked_child_opens_a_log_of_its_own(opened: Opening, ledger: Kept, tmp_path: Path) -> None:
    ledger.error = LedgerUnavailable()
    log = opened()
    record(log, "parent")
    log.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with pytest.raises(ConfigurationError, match="open a PredictionLog in each process"):
                record(log, "lost")
            own = opened()
            record(own, "child")
            own.flush()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert len({path.parent for path in segments(tmp_path)}) == 2
    record(log, "parent again")
    log.flush()
    ledger.error = None
    opened().start()  # takes the child's over
    wait_for(lambda: len(ledger.tickers) == 3, "all are written")
    assert sorted(ledger.tickers) == ["child", "parent", "parent again"]


def test_a_spool_that_somebody_removed_is_made_anew(opened: Opening, ledger: Kept, tmp_path: Path) -> None:
    log = opened()
    record(log, "before")
    wait_for(lambda: ledger.tickers == ["before"], "it is written")
    wait_for(lambda: not segments(tmp_path), "the spool is empty")
    shutil.rmtree(tmp_path / "spool")
    with contextlib.suppress(PredictionLogFull):
        record(log, "after")
        log.flush()
    wait_for(lambda: log.state().full is None, "it takes in again")
    wait_for(lambda: ledger.tickers == ["before", "after"], "it is written")


def test_what_is_put_aside_counts_towards_the_limit(opened: Opening, ledger: Kept, tmp_path: Path) -> None:
    ledger.error = DataError("the table cannot hold it")
    log = opened(limit_bytes=2_000)
    record(log, *(f"odd{n}" for n in range(100)))
    wait_for(lambda: ".refused, and ACIS_SPOOL_BYTES allows no more" in (log.state().full or ""), "it is put aside")
    with pytest.raises(PredictionLogFull, match=r"0 bytes wait for the ledger, 2,\d+ are in .*\.refused"):
        record(log, "AAPL")
    shutil.rmtree(tmp_path / "spool" / ".refused")
    ledger.error = None
    log._adopt()  # it looks each half minute
    wait_for(lambda: log.state().full is None, "there is room again")


def test_a_segment_that_somebody_removed_frees_its_room(opened: Opening, ledger: Kept, tmp_path: Path) -> None:
    ledger.error = LedgerUnavailable()
    log = opened()
    record(log, "gone")
    wait_for(lambda: log.state().behind is not None, "it is sent")
    for path in segments(tmp_path):
        path.unlink()
    ledger.error = None
    wait_for(lambda: log.state().spooled_bytes == 0, "its room is free")


def test_what_is_answered_while_the_log_ends_is_kept_or_refused(opened: Opening, ledger: Kept) -> None:
    for _ in range(20):
        log, acknowledged = opened(), []
        ending = threading.Event()

        def ask(log: PredictionLog, acknowledged: list[str], ending: threading.Event) -> None:
            with contextlib.suppress(PredictionLogFull):
                for number in range(1_000_000):
                    name = f"{threading.get_ident()}-{number}"
                    record(log, name)
                    acknowledged.append(name)
                    if number == 50:
                        ending.set()

        ledger.batches.clear()
        askers = [threading.Thread(target=ask, args=(log, acknowledged, ending)) for _ in range(3)]
        for one in askers:
            one.start()
        assert ending.wait(30)
        log.close(within_s=30)
        for one in askers:
            one.join(30)
        assert sorted(ledger.tickers) == sorted(acknowledged)
        assert log.state().full


def test_a_flush_after_the_end_brings_nothing_back(opened: Opening, ledger: Kept, tmp_path: Path) -> None:
    log = opened()
    record(log, "AAPL")
    log.close(within_s=10)
    log._pending.append((MODEL, ["late"], [DAY], np.zeros(1, dtype=np.float32), [bytes(16)], 0))
    with pytest.raises(PredictionLogFull, match="ending"):
        log.flush()
    with pytest.raises(PredictionLogFull, match="ending"):
        record(log, "later")
    assert list((tmp_path / "spool").iterdir()) == []
    log._pending.clear()


def test_room_that_comes_while_the_log_ends_is_used(
    opened: Opening, ledger: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, real = opened(), os.pwrite
    record(log, "before")
    log.flush()

    def full(file: int, data: bytes, place: int) -> int:
        if threading.current_thread().name == "prediction-shipper":
            return real(file, data, place)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    record(log, "caught")
    with pytest.raises(PredictionLogFull):
        log.flush()
    log.close(within_s=10)
    assert ledger.tickers == ["before", "caught"]


def test_a_folder_of_others_that_cannot_be_opened_holds_up_nobody(
    opened: Opening, ledger: Kept, tmp_path: Path
) -> None:
    root = tmp_path / "spool"
    (root / "a-foreign" / "lock").mkdir(parents=True)  # opening it for writing is an OSError, for root too
    left = root / "service-left"
    left.mkdir()
    dead = opened()
    ledger.error = LedgerUnavailable()
    record(dead, "dead")
    dead.close()
    ledger.error = None
    with capture_logs() as logs:
        log = opened()
        record(log, "alive")
        wait_for(lambda: sorted(ledger.tickers) == ["alive", "dead"], "both are written")
    assert [line["folder"] for line in logs if line["event"] == "predictions.folder_not_opened"] == [
        str(root / "a-foreign")
    ]
    assert log.state().behind is None


def test_a_segment_of_others_that_cannot_be_read_holds_up_nobody(opened: Opening, ledger: Kept, tmp_path: Path) -> None:
    (tmp_path / "spool" / "service-odd" / "00000001-odd.seg").mkdir(parents=True)
    log = opened()
    record(log, "alive")
    wait_for(lambda: ledger.tickers == ["alive"], "it is written")
    wait_for(lambda: log.state().spooled_bytes == 0, "nothing waits")


def test_what_cannot_be_written_down_is_counted_and_named(opened: Opening, ledger: Kept) -> None:
    log = opened()
    with capture_logs() as logs:
        log.record(MODEL, ["odd"], ["2026-11-12"], np.zeros(1, dtype=np.float32), [bytes(16)])  # type: ignore[list-item]
        record(log, "AAPL")
        wait_for(lambda: ledger.tickers == ["AAPL"], "the next one is written")
    (line,) = [line for line in logs if line["event"] == "predictions.unwritable"]
    assert (line["n"], line["tickers"], line["strategy"]) == (1, ["'odd'"], "growth")
    assert log.state().n_unwritten == 1


def test_a_flush_whose_prediction_cannot_be_written_down_says_so(opened: Opening) -> None:
    log = opened()
    log.start()
    with log._lock:  # the writer's own thread waits
        log.record(MODEL, ["odd"], ["2026-11-12"], np.zeros(1, dtype=np.float32), [bytes(16)])  # type: ignore[list-item]
        with pytest.raises(DataError, match="1 predictions cannot be written down"):
            log.flush()


def test_a_forked_child_holds_no_lock_of_a_folder_that_was_taken_over(
    opened: Opening, ledger: Kept, tmp_path: Path
) -> None:
    ledger.error = LedgerUnavailable()
    dead = opened()
    record(dead, "dead")
    dead.close()
    (left,) = segments(tmp_path)
    log = opened()
    record(log, "own")
    wait_for(lambda: log.state().behind is not None, "it was taken over")
    inherited, told = os.pipe()
    ready, is_ready = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(is_ready, b"x")
        os.read(inherited, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        log.close(within_s=10)
        assert left.parent in {folder.path for folder in SpoolFolder.abandoned(tmp_path / "spool")}
    finally:
        os.write(told, b"x")
        os.waitpid(child, 0)
        for end in (told, inherited, ready, is_ready):
            os.close(end)
