"""The page beside the report's file, `--html`, and `acis report` on a ledger that holds some checks."""

from __future__ import annotations

import json
import os
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from mlops.domain.records import Kind, Stage, StageOutcome
from mlops.reporting import report_files
from mlops.reporting.page import render
from mlops.reporting.report_files import write_whole
from mlops.stages.drift import check_drift
from tasks import services as task_services
from tests.support.services import LAST, FakeServices, panel


@pytest.fixture
def connected(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    services.with_source(panel(shift=3.0))
    monkeypatch.setattr(task_services, "connect", lambda: services)
    return services


def check(services: FakeServices, as_of: date = LAST, **asked: Any) -> tuple[str, StageOutcome]:
    grant = services.granted(Kind.CHECK, Stage.DRIFT, as_of=as_of, **asked)
    outcome = check_drift(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return grant.run_id, outcome


def acis(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_page_stands_beside_the_report(connected: FakeServices, tmp_path: Path) -> None:
    run_id, outcome = check(connected)
    page = tmp_path / f"drift_report_growth_{LAST:%Y%m%d}.html"
    assert outcome.result["page_path"] == str(page)
    assert f"run {run_id}" in page.read_text()
    assert "growth has drifted" in page.read_text()


def test_two_ledgers_that_share_a_folder_have_a_report_each(connected: FakeServices, tmp_path: Path) -> None:
    theirs = tmp_path / f"drift_report_growth_{LAST:%Y%m%d}.json"
    theirs.write_text('{"ledger": "0123456789abcdef", "verdict": "theirs"}')
    _, outcome = check(connected)
    ours = connected.ledger.identity().ledger_id
    path = tmp_path / f"drift_report_growth_{LAST:%Y%m%d}_{ours[:8]}.json"
    assert outcome.result["report_path"] == str(path)
    assert outcome.result["page_path"] == str(path.with_suffix(".html"))
    assert json.loads(path.read_text())["ledger"] == ours
    assert json.loads(theirs.read_text())["verdict"] == "theirs"
    # where nobody else owns it, the documented place is kept
    theirs.unlink()
    _, outcome = check(connected)
    assert outcome.result["report_path"] == str(theirs)
    _, outcome = check(connected)
    assert outcome.result["report_path"] == str(theirs)


def test_a_report_of_before_reports_named_their_ledger_is_replaced(connected: FakeServices, tmp_path: Path) -> None:
    old = tmp_path / f"drift_report_growth_{LAST:%Y%m%d}.json"
    old.write_text('{"verdict": "old"}')
    _, outcome = check(connected)
    assert outcome.result["report_path"] == str(old)
    assert json.loads(old.read_text())["verdict"]["verdict"] == "drifted"


def test_a_report_that_comes_between_the_look_and_the_write_is_not_replaced(
    connected: FakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / f"drift_report_growth_{LAST:%Y%m%d}.json"
    link = os.link

    def neighbour_first(source: Any, target: Any) -> None:
        theirs.write_text('{"ledger": "0123456789abcdef"}')
        link(source, target)

    monkeypatch.setattr("mlops.reporting.report_files.os.link", neighbour_first)
    _, outcome = check(connected)
    assert outcome.result["report_path"] != str(theirs)
    assert json.loads(theirs.read_text()) == {"ledger": "0123456789abcdef"}


def test_a_page_that_cannot_be_drawn_costs_the_page_alone(
    connected: FakeServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_files, "render_page", lambda *_: 1 / 0)
    _, outcome = check(connected)
    assert outcome.result["page_path"] is None
    assert outcome.result["verdict"] == "drifted"
    assert Path(outcome.result["report_path"]).exists()


def test_a_stored_report_gives_the_same_page_again(connected: FakeServices, tmp_path: Path) -> None:
    check(connected, LAST - timedelta(days=3))
    run_id, outcome = check(connected)
    first = Path(outcome.result["page_path"]).read_text()
    check(connected, LAST - timedelta(days=1))
    ended = acis("report", run_id, "--html", tmp_path / "again.html")
    assert ended.exit_code == 0
    again = (tmp_path / "again.html").read_text()
    assert again.count("<article") == first.count("<article") == 3
    # A check of a day before this one was made meanwhile: its column is there now.
    assert (first.count("<abbr title="), again.count("<abbr title=")) == (2 * 2, 2 * 3)


def test_a_report_in_a_few_lines_names_verdict_and_features(connected: FakeServices) -> None:
    run_id, outcome = check(connected)
    said = acis("report", run_id).stdout
    assert outcome.result["verdict_reason"] in said
    assert all(name in said for name in ("momentum", "value", "noise"))
    assert json.loads(acis("report", run_id, "--json").stdout) == json.loads(json.dumps(outcome.drift_report))


def test_a_run_without_a_report_is_an_error_that_says_so(connected: FakeServices) -> None:
    ended = acis("report", "no-such-run", "--html", "page.html")
    assert ended.exit_code == 2
    assert "no run's id is or begins with 'no-such-run'" in " ".join(ended.stderr.split())
    assert not Path("page.html").exists()


def test_check_writes_the_page_where_it_is_wanted(connected: FakeServices, tmp_path: Path) -> None:
    wanted = tmp_path / "out.html"
    ended = acis("check", "growth", "--as-of", LAST, "--html", wanted, "--json")
    assert ended.exit_code == 1  # drifted
    run_id = json.loads(ended.stdout)["run_id"]
    assert f"run {run_id}" in wanted.read_text()


@pytest.mark.parametrize("place", ["absent/out.html", "."])
def test_a_place_that_cannot_be_is_said_before_the_work(connected: FakeServices, tmp_path: Path, place: str) -> None:
    ended = acis("check", "growth", "--html", tmp_path / place)
    assert ended.exit_code == 2
    assert "name a file in a folder that exists" in " ".join(ended.stderr.split())
    assert connected.ledger.runs() == []


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_whole("first", path)
    with pytest.raises(UnicodeEncodeError):
        write_whole("\ud800", path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("page.html", "first")]


def test_the_renderer_takes_nothing_but_documents() -> None:
    assert "ledger" not in Path(render.__file__).read_text()
