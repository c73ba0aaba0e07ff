"""What commands show: results on standard output, everything else on standard error, no traceback for a user."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from enum import StrEnum

import pytest
from rich.console import Console

from config.settings import SettingsError
from mlops.domain.errors import EmptyWindow, UnknownStrategy
from mlops.domain.records import Accepted, RunState, Stage, StageState
from mlops.reporting import terminal as console
from mlops.reporting.terminal import ERROR, OK, StageDisplay, as_json, guarded, print_json, short_run_id, time_left
from tests.unit.retraining.test_narrative import DRIFT, run_view, stage_view


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "error", [UnknownStrategy.named("growht", ["growth"]), EmptyWindow("no rows"), SettingsError("x")]
)
def test_an_expected_error_is_one_line_and_exit_code_2(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise error

    assert guarded(body) == ERROR == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"Error: {error}\n"


def test_a_defect_keeps_its_traceback() -> None:
    def body() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guarded(body)


def test_an_interrupted_command_ends_as_the_shell_expects(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise KeyboardInterrupt

    assert guarded(body) == 130  # 128 + SIGINT
    assert "Interrupted" in capsys.readouterr().err


def test_a_command_that_ends_well_gives_its_own_code() -> None:
    assert guarded(lambda: OK) == 0


def test_words_in_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise EmptyWindow("column [red]x[/red] is empty")

    guarded(body)
    assert "[red]x[/red]" in capsys.readouterr().err


def test_records_become_plain_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {
        "run": Accepted(run_id="r", created=True, state=RunState.QUEUED),
        "at": datetime(2020, 1, 1, tzinfo=UTC),
        "on": date(2020, 1, 2),
        "colours": (Colour.RED,),
    }
    print_json(value)
    assert json.loads(capsys.readouterr().out) == {
        "run": {"run_id": "r", "created": True, "state": "queued", "publication": None},
        "at": "2020-01-01T00:00:00+00:00",
        "on": "2020-01-02",
        "colours": ["red"],
    }


def test_a_value_that_is_no_json_is_a_defect_and_not_nan() -> None:
    with pytest.raises(ValueError, match="nan"):
        print_json({"auc": float("nan")})


def test_what_is_json_already_stays() -> None:
    assert as_json([1, "a", None, 1.5]) == [1, "a", None, 1.5]


def test_a_stage_is_printed_once_however_often_it_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    display = StageDisplay(quiet=False)
    stage = stage_view(Stage.DRIFT, DRIFT)
    for _ in range(3):
        display.stage(run_view(RunState.RUNNING, stage), stage)
    assert capsys.readouterr().out.count("Drift Detection Summary:") == 1


def test_quiet_prints_no_stage(capsys: pytest.CaptureFixture[str]) -> None:
    stage = stage_view(Stage.DRIFT, DRIFT)
    StageDisplay(quiet=True).stage(run_view(RunState.RUNNING, stage), stage)
    assert capsys.readouterr().out == ""


def test_a_run_that_was_there_already_is_said_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    display = StageDisplay(quiet=True)
    display.accepted(Accepted(run_id="run-1", created=True, state=RunState.QUEUED))
    display.accepted(Accepted(run_id="run-2", created=False, state=RunState.RUNNING))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "run-2" in shown.err
    assert "run-1" not in shown.err


def test_without_a_terminal_no_progress_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    display = StageDisplay(quiet=True)
    with display.live():
        stage = stage_view(Stage.TRAIN, None)
        display.stage(run_view(RunState.RUNNING, stage), stage)
    assert capsys.readouterr() == ("", "")
    assert stage.state is StageState.SUCCEEDED


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59.0, "59 s"), (60.0, "1 min"), (61.0, "2 min"), (4150.0, "1 h 10 min")]
)
def test_the_time_left_is_rounded_up(seconds: float, words: str) -> None:
    assert time_left(seconds) == words


def test_a_running_training_shows_its_rounds_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(console, "err", screen)
    display = StageDisplay(quiet=True)
    running = replace(
        stage_view(Stage.TRAIN, None),
        state=StageState.RUNNING,
        progress={"done": 30, "total": 100, "unit": "rounds", "left_s": 70.0},
    )
    with display.live():
        display.stage(run_view(RunState.RUNNING, running), running)
    assert "growth: train running 30 of 100 rounds, 2 min left" in screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_list_shows_the_beginning_of_a_uuid_and_every_other_id_whole() -> None:
    assert short_run_id("3f2504e0-4f89-41d3-9a0c-0305e82c3301") == "3f2504e0"
    assert short_run_id("growth-nightly-2026-11-28") == "growth-nightly-2026-11-28"
