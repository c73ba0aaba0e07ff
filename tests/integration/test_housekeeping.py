"""What is old goes, and what is not answers the next time."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli.app import app
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.housekeeping import Tidied, tidy
from mlops.ledger.live.predictions import prediction_schema
from mlops.registry.checkpoint_store import FOLDER
from tests.support.ledgers import TimedLedger
from tests.support.services import FakeServices, fake_services

DAY_S = 86_400.0


@pytest.fixture
def tidied_services(tmp_path: Path, timed: TimedLedger) -> FakeServices:
    return fake_services(tmp_path, timed, keep_reports_days=30)


def test_a_fresh_system_has_nothing_to_take_away(services: FakeServices, tmp_path: Path) -> None:
    vars(services)["studies"] = Kept([])
    assert tidy(services) == Tidied()


class Kept:
    """Studies, by the runs that they are of."""

    def __init__(self, run_ids: list[str]) -> None:
        self.run_ids = run_ids

    def names(self) -> list[str]:
        return list(self.run_ids)

    def delete(self, run_id: str) -> None:
        self.run_ids.remove(run_id)


def test_old_files_checkpoints_and_studies_go(tidied_services: FakeServices, tmp_path: Path) -> None:
    services = tidied_services
    vars(services)["studies"] = Kept(["gone"])
    for name, age_days in (
        ("drift_report_a_20200101.json", 40),
        ("drift_report_a_20200102.html", 20),
        ("other.json", 90),
    ):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, times=(time.time() - age_days * DAY_S,) * 2)
    active = services.granted(Kind.TRAIN, Stage.TRAIN)
    services.checkpoints.write(active.run_id, 1, "rounds-50", b"kept")
    ended = services.granted(Kind.CHECK, Stage.DRIFT)
    services.ledger.cancel(ended.run_id, actor="test")
    services.ledger.finish(ended, StageOutcome(result={}, run_state=RunState.CANCELLED))
    services.checkpoints.write(ended.run_id, 1, "rounds-50", b"left")
    written = services.checkpoints.write("of another ledger", 1, "rounds-50", b"kept a while")
    assert tidy(services) == Tidied(report_files=1, checkpoints=1, studies=1)
    assert set(services.checkpoints.newest()) == {active.run_id, "of another ledger"}
    old = time.time() - 8 * DAY_S
    os.utime(Path(services.checkpoints.url) / FOLDER / written.path, times=(old, old))
    assert tidy(services).checkpoints == 1
    assert list(services.checkpoints.newest()) == [active.run_id]
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["drift_report_a_20200102.html", "other.json"]


def test_checkpoints_that_do_not_answer_stop_nothing(services: FakeServices, tmp_path: Path) -> None:
    vars(services)["studies"] = Kept(["gone"])
    (tmp_path / "var").mkdir(exist_ok=True)
    (tmp_path / "var" / "checkpoints").write_text("a file where the folder should be")
    assert tidy(services).checkpoints == 0


def test_the_command_says_what_it_took(
    timed: TimedLedger, ledger_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", ledger_postgres_url)
    said = CliRunner().invoke(app, ["housekeeping"])
    assert (said.exit_code, said.output.strip()) == (0, "Nothing is old.")
    told = CliRunner().invoke(app, ["housekeeping", "--json"])
    assert json.loads(told.output)["runs"] == 0


def test_old_months_of_predictions_go_and_their_number_is_said(services: FakeServices, timed: TimedLedger) -> None:
    vars(services)["studies"] = Kept([])
    said = {"strategy": "growth", "version": "7", "model_sha256": "a" * 64, "variant": "champion", "ticker": "A"}
    row = {**said, "probability": 0.5, "row_digest": bytes(16)}
    old, young = timed.ledger.now() - timedelta(days=1000), timed.ledger.now()
    rows = [{**row, "as_of": at.date(), "predicted_at": at} for at in (old, young)]
    timed.ledger.write_predictions("b1", "service", pa.Table.from_pylist(rows, schema=prediction_schema()))
    assert tidy(services).prediction_months >= 1
    assert timed.ledger.predictions("growth", old.date(), young.date())["as_of"].to_pylist() == [young.date()]
