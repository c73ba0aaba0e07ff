"""A full volume: recognised in every error that comes of it, named in words, and the end of nobody."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.log_setup import set_up_logging
from devstack.supervisord import PatientLog, SilentStream
from mlops.domain.errors import LedgerUnavailable, RegistryUnavailable
from mlops.domain.records import Kind, Stage, StageState
from mlops.reporting.terminal import ERROR, guarded
from mlops.runs.executor import execute
from mlops.runs.lease import Holder
from mlops.volumes import in_words, says_full, size, volume_of
from tests.support.services import FakeServices


class FullStream(io.StringIO):
    """A file on a volume without room."""

    def write(self, _text: object) -> int:
        raise no_space()


def no_space(path: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def caused_by(cause: BaseException) -> RuntimeError:
    error = RuntimeError("the library's own words")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (no_space(), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (caused_by(no_space()), True),
        # what servers say of theirs
        (LedgerUnavailable('could not extend file "base/1/2": No space left on device'), True),
        (RegistryUnavailable("[Errno 28] No space left on device: '/data/artifacts'"), True),
        (RuntimeError("database or disk is full"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("full of surprises"), False),
    ],
)
def test_a_full_volume_is_seen_through_every_layer(error: Exception, full: bool) -> None:
    assert says_full(error) is full


def test_the_words_name_the_mount_the_folder_and_what_is_free(tmp_path: Path) -> None:
    words = in_words(no_space(str(tmp_path / "checkpoint")))
    mount = volume_of(tmp_path).mount
    assert os.path.ismount(mount)
    assert words.startswith(f"no space left: the volume at {mount} ({tmp_path}) has ")
    assert " free of " in words
    assert "goes on by itself" in words


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (64_000_000, "64 MB"), (3_400_000_000, "3.4 GB")],
)
def test_sizes_are_read_at_a_glance(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text


def test_a_command_on_a_full_volume_ends_in_a_line_and_not_in_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise no_space()

    assert guarded(body) == ERROR
    said = capsys.readouterr().err
    assert said.startswith("Error: no space left: the volume at ")
    assert "Traceback" not in said


def test_a_stage_waits_for_space_and_loses_no_attempt(services: FakeServices) -> None:
    grant = services.granted(Kind.CHECK, Stage.DRIFT)

    def work(*_: Any) -> Any:
        raise caused_by(no_space())

    holder = Holder(worker="w1", lease_s=60.0, renew_s=10.0)
    finished = execute(grant, {Stage.DRIFT: work}, services.ledger, holder)
    assert finished is not None
    (stage,) = services.ledger.run(grant.run_id).stages
    assert stage.state is StageState.QUEUED
    assert stage.error is not None
    assert stage.error.startswith("no space left: the volume at ")
    services.timed.advance(60.0)
    assert services.claimed(grant.run_id, Stage.DRIFT).attempt == grant.attempt


def test_a_log_line_that_has_no_room_is_dropped_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", FullStream())
    set_up_logging(level="INFO")
    monkeypatch.setattr("sys.stderr", told)
    logging.getLogger("a.role").warning("a line")
    assert told.getvalue() == ""


class Record:
    """supervisord's."""

    msg = b"a line of a program\n"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PatientLog]:
    handler = PatientLog(str(tmp_path / "beat.log"), maxBytes=1000, backupCount=1)
    handler.setFormat("%(message)s")
    yield handler
    handler.close()


def test_supervisord_s_log_drops_what_has_no_room_and_says_later_how_much(log: PatientLog, tmp_path: Path) -> None:
    file, log.stream = log.stream, FullStream()
    log.emit(Record())
    log.emit(Record())
    log.stream = file
    log.emit(Record())
    assert (tmp_path / "beat.log").read_text() == (
        "(2 writes found no room on this volume and are missing here)\na line of a program\n"
    )


def test_a_rotation_that_finds_no_room_is_made_good(
    log: PatientLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_new_file() -> None:
        log.stream.close()
        raise no_space()

    monkeypatch.setattr(log, "doRollover", no_new_file)
    log.emit(Record())
    monkeypatch.undo()
    log.emit(Record())
    assert (tmp_path / "beat.log").read_text().splitlines()[-1] == "a line of a program"


def test_a_log_is_rotated_as_before(log: PatientLog, tmp_path: Path) -> None:
    for _ in range(60):
        log.emit(Record())
    assert (tmp_path / "beat.log.1").stat().st_size >= 1000
    assert (tmp_path / "beat.log").stat().st_size < 1000


@pytest.mark.parametrize("act", [lambda stream: stream.write("x"), lambda stream: stream.flush()])
def test_supervisord_s_own_output_does_not_end_it(act: Callable[[SilentStream], object]) -> None:
    act(SilentStream(FullStream()))
