"""Notes that may wait: written together, by a thread that comes and goes, and before the process ends."""

from __future__ import annotations

import subprocess
import sys

from config.settings import ROOT
from mlops.ledger.stages import UNCONFIRMED_S
from tasks.write_behind import AFTER_S, WriteBehind
from tests.support.waiting import wait_for


def test_what_is_noted_within_a_moment_is_written_together() -> None:
    written: list[list[int]] = []
    notes = WriteBehind(written.append, after_s=0.05)
    for item in range(3):
        notes.add(item)
    wait_for(lambda: written, "they are written", every_s=0.01)
    assert written == [[0, 1, 2]]


def test_after_a_pause_it_begins_again() -> None:
    written: list[list[int]] = []
    notes = WriteBehind(written.append, after_s=0.01)
    for item in range(3):
        notes.add(item)
        wait_for(lambda: notes._thread is None, "the thread ends", every_s=0.01)
    assert written == [[0], [1], [2]]


def test_without_a_delay_each_is_written_at_once() -> None:
    written: list[list[int]] = []
    WriteBehind(written.append, after_s=0).add(1)
    assert written == [[1]]


def test_a_process_that_ends_writes_what_waits() -> None:
    program = "from tasks.write_behind import WriteBehind; WriteBehind(print, after_s=60).add('this')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "['this']\n"


def test_a_note_waits_less_than_the_reconciler() -> None:
    assert AFTER_S * 2 < UNCONFIRMED_S
