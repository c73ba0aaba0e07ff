"""What is on the disk is what was written, up to where a killed process stopped."""

from __future__ import annotations

import multiprocessing
import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.serving.spool import Segment, SpoolFolder, batch_of, encode, plain, read_segment

MODEL = b"growth\x1f7\x1f" + b"a" * 64 + b"\x1fchampion"
DAY = date(2026, 11, 12)
AT_US = 1_794_000_000_123_456


def frame(n: int = 3, *, first: str = "T", days: list[date] | None = None) -> bytes:
    tickers = [f"{first}{i}" for i in range(n)]
    digests = [i.to_bytes(16, "big") for i in range(n)]
    values = np.linspace(0.1, 0.9, n, dtype=np.float32)
    return encode(MODEL, tickers, days or [DAY] * n, values, digests, at_us=AT_US)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    days = [date(1990, 1, 1), date(2026, 11, 12), date(2099, 12, 31)]
    path = tmp_path / "00000001-abc.seg"
    path.write_bytes(frame(days=days) + frame(1, first="été"))
    rows, n_torn = read_segment(path)
    assert rows is not None
    assert n_torn == 0
    assert rows["as_of"].to_pylist() == [*days, DAY]
    assert rows["ticker"].to_pylist() == ["T0", "T1", "T2", "été0"]
    assert rows["probability"].to_numpy().astype(np.float32).tolist() == [
        *np.linspace(0.1, 0.9, 3, dtype=np.float32).tolist(),
        np.float32(0.1),
    ]
    assert rows["row_digest"].to_pylist()[2] == (2).to_bytes(16, "big")
    assert [int(at.timestamp() * 1e6 + 0.5) for at in rows["predicted_at"].to_pylist()] == [AT_US] * 4
    assert rows.select(["strategy", "version", "model_sha256", "variant"]).to_pylist()[0] == {
        "strategy": "growth",
        "version": "7",
        "model_sha256": "a" * 64,
        "variant": "champion",
    }
    assert batch_of(path) == "abc"


@given(cut=st.integers(min_value=0, max_value=len(frame(2)) * 3 - 1))
def test_wherever_a_kill_cut_the_file_the_whole_frames_before_it_are_read(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path, whole = tmp_path_factory.mktemp("spool") / "1-a.seg", frame(2)
    path.write_bytes((whole * 3)[:cut])
    rows, n_torn = read_segment(path)
    assert (0 if rows is None else len(rows)) == 2 * (cut // len(whole))
    assert n_torn == cut % len(whole)


@given(place=st.integers(min_value=len(frame(2)), max_value=2 * len(frame(2)) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_ends_what_is_believed(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    path, content = tmp_path_factory.mktemp("spool") / "1-a.seg", bytearray(frame(2) * 3)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    rows, n_torn = read_segment(path)
    assert rows is not None
    assert len(rows) == 2
    assert n_torn > 0


def test_a_hole_of_zeros_that_a_crashed_machine_left_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "1-a.seg"
    path.write_bytes(frame(2) + bytes(4096))
    rows, n_torn = read_segment(path)
    assert rows is not None
    assert (len(rows), n_torn) == (2, 4096)


def test_what_a_full_disk_cut_off_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segment(tmp_path / "1-a.seg")
    segment.append(frame(2, first="A"))
    real = os.pwrite

    def short(file: int, data: bytes, place: int) -> int:
        monkeypatch.setattr(os, "pwrite", full)
        return real(file, data[:20], place)

    def full(file: int, data: bytes, place: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(OSError, match="No space left"):
        segment.append(frame(2, first="B"))
    rows, n_torn = read_segment(segment.path)
    assert rows is not None
    assert (rows["ticker"].to_pylist(), n_torn) == (["A0", "A1"], 20)
    monkeypatch.setattr(os, "pwrite", real)
    segment.append(frame(1, first="C"))
    rows, n_torn = read_segment(segment.path)
    assert rows is not None
    assert (rows["ticker"].to_pylist(), n_torn) == (["A0", "A1", "C0"], 0)
    segment.forget()


@pytest.mark.parametrize("ticker", ["AAPL", "", "BRK.B", "été", "日経"])
def test_a_ticker_that_the_ledger_can_hold_is_left_as_it_is(ticker: str) -> None:
    assert plain(ticker) == ticker


@given(st.text(alphabet=st.characters(codec=None)))
def test_whatever_a_caller_calls_a_row_can_be_written(ticker: str) -> None:
    cleaned = plain(ticker)
    assert cleaned.encode().decode() == cleaned
    assert not {"\x00", "\x1f"} & set(cleaned)


# ---- folders


def test_a_folder_belongs_to_the_process_that_holds_it(tmp_path: Path) -> None:
    own = SpoolFolder.new(tmp_path, "service")
    assert list(SpoolFolder.abandoned(tmp_path)) == []
    segment = own.new_segment()
    segment.append(frame())
    segment.forget()
    own.close()
    (taken,) = SpoolFolder.abandoned(tmp_path)
    assert taken.origin == "service"
    assert taken.segments() == [segment.path]
    assert list(SpoolFolder.abandoned(tmp_path)) == []
    segment.path.unlink()
    taken.close()
    assert list(tmp_path.iterdir()) == []


def _take(root: Path, start: object, found: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    taken = list(SpoolFolder.abandoned(root))
    found.put(len(taken))  # type: ignore[attr-defined]
    start.wait()  # type: ignore[attr-defined]


def test_of_two_who_start_at_once_one_takes_a_dead_ones_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        folder = SpoolFolder.new(tmp_path, "service")
        segment = folder.new_segment()
        segment.append(frame())
        segment.forget()
        folder.close()
    barrier, found = context.Barrier(2), context.Queue()
    both = [context.Process(target=_take, args=(tmp_path, barrier, found)) for _ in range(2)]
    for one in both:
        one.start()
    taken = [found.get(timeout=60) for _ in both]
    for one in both:
        one.join(timeout=60)
    assert sum(taken) == 3


def test_segments_are_read_in_the_order_in_which_they_were_begun(tmp_path: Path) -> None:
    folder = SpoolFolder.new(tmp_path, "service")
    begun = [folder.new_segment() for _ in range(12)]
    assert folder.segments() == [segment.path for segment in begun]
    for segment in begun:
        segment.forget()
    folder.close()
