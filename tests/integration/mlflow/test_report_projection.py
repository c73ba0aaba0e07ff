"""Drift reports on their way to the registry: each once, none lost, and no check waits for it."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from mlops.domain.errors import LedgerUnavailable, RegistryError, RegistryUnavailable
from mlops.domain.ports import RegistryRun, ReportRecord
from mlops.domain.records import Kind, Stage
from mlops.ledger import tables
from mlops.registry.report_projection import REPORT_TAG, UnloggedReports, project_report, report_tags
from mlops.reporting.narrative import drift_lines
from mlops.stages.drift import check_drift
from mlops.stages.train import train
from tests.support.ledgers import TimedLedger
from tests.support.registry import FakeRegistry
from tests.support.services import LAST, MODEL, FakeServices, fake_services, panel, small_strategy


@pytest.fixture
def services(tmp_path: Path, timed: TimedLedger) -> FakeServices:
    return fake_services(tmp_path, timed, small_strategy(), table=panel(shift=3.0), mlflow_tracking_uri="http://mlflow")


def checked(services: FakeServices, as_of: date = LAST, kind: Kind = Kind.CHECK, **asked: Any) -> str:
    grant = services.granted(kind, Stage.DRIFT, as_of=as_of, **asked)
    services.ledger.finish(grant, check_drift(grant, services, services.keeper(grant)))
    return grant.run_id


class Silent(FakeRegistry):
    """Does not take any report, and counts who tried."""

    error: Exception = RegistryUnavailable("MLflow at http://mlflow does not answer")
    tried = 0

    def log_report(self, report: ReportRecord) -> RegistryRun:
        self.tried += 1
        raise self.error


def test_a_check_logs_nothing_itself(services: FakeServices) -> None:
    checked(services)
    assert services.fake_registry.reports == {}


def test_every_report_gets_a_run_with_its_page_and_its_figures(services: FakeServices) -> None:
    run_id = checked(services)
    reports = UnloggedReports()
    assert reports.step(services) == 1
    assert reports.step(services) == 0
    ((registry_run, logged),) = services.fake_registry.reports.items()
    assert (logged.ledger_run_id, logged.strategy) == (run_id, "growth")
    assert logged.metrics["drift_ratio"] == 1.0
    assert "p_value" not in logged.metrics  # the panel is too short a history
    assert (logged.tags["verdict"], logged.tags["as_of"]) == ("drifted", LAST.isoformat())
    assert json.loads(logged.files["drift_report.json"]) == services.ledger.stored_report(run_id).document
    assert "growth has drifted" in logged.files["drift_report.html"]
    assert services.ledger.stored_report(run_id).registry_run_id == registry_run


def test_the_run_then_shows_where(services: FakeServices) -> None:
    run_id = checked(services)
    UnloggedReports().step(services)
    result = services.ledger.run(run_id).stages[0].result
    assert result is not None
    assert "  In MLflow: report-1" in drift_lines(result)


def test_an_mlflow_that_is_down_loses_nothing(services: FakeServices) -> None:
    silent = Silent()
    vars(services)["registry"] = silent
    runs = [checked(services, LAST - timedelta(days=days)) for days in (1, 0)]
    reports = UnloggedReports()
    with capture_logs() as logs:
        assert reports.step(services) == 0
    assert silent.tried == 1  # the second would wait for it as long as the first
    assert [(line["event"], line["run_id"]) for line in logs] == [("report.waits", runs[1])]
    vars(services)["registry"] = FakeRegistry()
    assert reports.step(services) == 2
    assert services.ledger.unlogged_reports() == []


def test_a_report_that_mlflow_refuses_does_not_keep_the_others(services: FakeServices) -> None:
    class Refusing(FakeRegistry):
        def log_report(self, report: ReportRecord) -> RegistryRun:
            if report.ledger_run_id == refused:
                raise RegistryError("too long")
            return super().log_report(report)

    other, refused = checked(services), checked(services, LAST - timedelta(days=1))
    vars(services)["registry"] = Refusing()
    reports = UnloggedReports()
    assert reports.step(services) == 1
    with capture_logs() as logs:
        assert reports.step(services) == 0
    assert logs == []  # said once
    assert services.ledger.unlogged_reports() == [refused]
    assert services.ledger.stored_report(other).registry_run_id is not None


def test_a_report_that_mlflow_refused_is_tried_again_after_an_hour(services: FakeServices) -> None:
    clock = [0.0]
    reports = UnloggedReports(monotonic=lambda: clock[0])
    checked(services)
    refusing = Silent()
    refusing.error = RegistryError("no such experiment")
    vars(services)["registry"] = refusing
    assert reports.step(services) == 0
    vars(services)["registry"] = FakeRegistry()  # recreated, or set right
    clock[0] = 3599.0
    assert reports.step(services) == 0
    clock[0] = 3601.0
    assert reports.step(services) == 1


def test_a_report_that_cannot_be_shown_keeps_neither_the_others_nor_a_training(services: FakeServices) -> None:
    other, lame = checked(services), checked(services, LAST - timedelta(days=1), kind=Kind.PIPELINE)
    with services.timed.owner.transaction() as connection:
        row = tables.drift_report.c.run_id == lame
        connection.execute(update(tables.drift_report).where(row).values(report={"timestamp": "2026-01-01T00:00"}))
    with capture_logs() as logs:
        assert UnloggedReports().step(services) == 1  # the newest comes first, and is the lame one
    assert f"the report of run {lame} cannot be shown: KeyError" in logs[0]["error"]
    assert services.ledger.stored_report(other).registry_run_id is not None
    grant = services.claimed(lame, Stage.TRAIN)
    train(grant, services, services.keeper(grant))
    (version,) = services.registry.versions(MODEL)
    assert REPORT_TAG not in version.tags


def test_a_long_queue_is_taken_up_a_part_at_a_time(services: FakeServices) -> None:
    for days in (2, 1, 0):
        checked(services, LAST - timedelta(days=days))
    # Each look at the clock is 8 s after the last one; a step has 20.
    times = iter(range(0, 1000, 8))
    reports = UnloggedReports(monotonic=lambda: float(next(times)))
    assert reports.step(services) == 2
    assert reports.step(services) == 1


def test_nothing_is_asked_of_a_registry_that_is_not_configured(tmp_path: Path, timed: TimedLedger) -> None:
    services = fake_services(tmp_path, timed, small_strategy())
    checked(services)
    vars(services).pop("registry")
    assert UnloggedReports().step(services) == 0


def test_a_replay_s_report_stays_in_the_ledger(services: FakeServices) -> None:
    run_id = checked(services, namespace="replay")
    assert UnloggedReports().step(services) == 0
    assert project_report(services.ledger, services.registry, run_id) is None
    assert services.fake_registry.reports == {}


def test_of_two_that_log_at_once_the_first_one_s_run_stays(services: FakeServices) -> None:
    class Overtaken(FakeRegistry):
        """Another process logs the same report, and notes it, between our look and our note."""

        def log_report(self, report: ReportRecord) -> RegistryRun:
            services.ledger.report_logged(report.ledger_run_id, registry_run_id="theirs", url=None)
            return super().log_report(report)

    run_id = checked(services)
    overtaken = Overtaken()
    assert project_report(services.ledger, overtaken, run_id) == "theirs"
    assert overtaken.reports == {}
    assert services.ledger.stored_report(run_id).registry_run_id == "theirs"


def test_a_training_names_the_report_that_it_followed(services: FakeServices) -> None:
    run_id = checked(services, kind=Kind.PIPELINE)
    grant = services.claimed(run_id, Stage.TRAIN)
    train(grant, services, services.keeper(grant))
    (version,) = services.registry.versions(MODEL)
    assert version.tags[REPORT_TAG] == "report-1"
    assert services.fake_registry.reports["report-1"].ledger_run_id == run_id
    assert UnloggedReports().step(services) == 0


def test_a_training_without_a_check_names_none(services: FakeServices) -> None:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    train(grant, services, services.keeper(grant))
    (version,) = services.registry.versions(MODEL)
    assert REPORT_TAG not in version.tags


@pytest.mark.parametrize("error", [RegistryUnavailable("down"), RegistryError("refused"), LedgerUnavailable("down")])
def test_a_report_that_cannot_be_logged_keeps_no_training(services: FakeServices, error: Exception) -> None:
    silent = Silent()
    silent.error = error
    run_id = checked(services, kind=Kind.PIPELINE)
    assert report_tags(services.ledger, silent, run_id) == {}
    assert services.ledger.unlogged_reports() == [run_id]
