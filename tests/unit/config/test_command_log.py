"""The log of a command: in a file, and on the terminal only where it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from config.log_setup import set_up_command_logging


def note() -> None:
    structlog.get_logger("commands").warning("report.not_logged", run_id="r1")


def test_no_line_of_the_log_is_on_the_terminal_and_the_file_has_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    set_up_command_logging(tmp_path / "log")
    note()
    assert capfd.readouterr() == ("", "")
    assert "report.not_logged" in (tmp_path / "log" / "commands.log").read_text(encoding="utf-8")


def test_asked_for_it_is_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    set_up_command_logging(tmp_path / "log", verbose=True)
    note()
    out, err = capfd.readouterr()
    assert (out, "report.not_logged" in err) == ("", True)
    assert not (tmp_path / "log").exists()


def test_a_folder_that_cannot_be_written_is_nobodys_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log").write_text("a file", encoding="utf-8")
    set_up_command_logging(tmp_path / "log")
    note()
    assert capfd.readouterr() == ("", "")
    set_up_command_logging(None)
    note()
    assert capfd.readouterr() == ("", "")
