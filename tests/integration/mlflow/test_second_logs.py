"""What MLflow has twice for one run of the ledger: the one that the ledger does not name is deleted."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops.domain.errors import RegistryUnavailable
from mlops.domain.ports import LoggedByRun, RegistryRun, ReportRecord
from mlops.domain.records import Kind, Stage
from mlops.registry.maintenance import PAUSE_S, SecondLogs
from mlops.registry.report_projection import UnloggedReports, project_report
from mlops.stages.drift import check_drift
from mlops.stages.train import train
from tests.support.ledgers import TimedLedger
from tests.support.models import trained_model
from tests.support.registry import FakeRegistry
from tests.support.services import MODEL, FakeServices, fake_services, panel, small_strategy


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def services(tmp_path: Path, timed: TimedLedger) -> FakeServices:
    return fake_services(tmp_path, timed, small_strategy(), table=panel(shift=3.0), mlflow_tracking_uri="http://mlflow")


def checked(services: FakeServices) -> str:
    grant = services.granted(Kind.CHECK, Stage.DRIFT)
    services.ledger.finish(grant, check_drift(grant, services, services.keeper(grant)))
    return grant.run_id


def trained(services: FakeServices) -> str:
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    services.ledger.finish(grant, train(grant, services, services.keeper(grant)))
    return grant.run_id


class Doubling(FakeRegistry):
    """Two log one report at the same moment, and the delete of the second one gets no answer."""

    theirs = "theirs"

    def log_report(self, report: ReportRecord) -> RegistryRun:
        self.reports[self.theirs] = report
        self.reports["mine"] = report
        services = self.services
        services.ledger.report_logged(report.ledger_run_id, registry_run_id=self.theirs, url=None)
        return RegistryRun(run_id="mine", url=None)

    def drop_report(self, run_id: str) -> None:
        raise RegistryUnavailable

    services: Any = None


def doubled(services: FakeServices) -> tuple[str, Doubling]:
    registry = Doubling()
    registry.services = services
    vars(services)["registry"] = registry
    run_id = checked(services)
    with pytest.raises(RegistryUnavailable):
        project_report(services.ledger, registry, run_id)
    assert sorted(registry.reports) == ["mine", "theirs"]
    return run_id, registry


def test_a_check_that_two_logged_keeps_the_run_that_the_ledger_names(services: FakeServices) -> None:
    _, registry = doubled(services)
    assert UnloggedReports().step(services) == 0  # the ledger has noted one, so nobody looks at the other
    assert SecondLogs().step(services) == 1
    assert sorted(registry.reports) == ["theirs"]


def test_what_is_younger_than_the_safe_age_may_be_its_writers_to_delete(services: FakeServices) -> None:
    _, registry = doubled(services)
    registry.now = services.ledger.now() - timedelta(minutes=14)
    assert SecondLogs().step(services) == 0
    registry.now = services.ledger.now() - timedelta(minutes=16)
    assert SecondLogs().step(services) == 1


def test_a_second_version_of_a_run_is_deleted(services: FakeServices) -> None:
    run_id = trained(services)
    (first,) = services.registry.versions(MODEL)
    services.registry.apply_stage(MODEL, first.version, "None", seq=0, tags={})
    services.fake_registry.log_training(trained_model("another", model_name=MODEL))
    services.fake_registry.set_tags(MODEL, "2", {"acis.run_id": run_id})
    SecondLogs().step(services)
    assert [version.version for version in services.registry.versions(MODEL)] == ["1"]


def test_the_only_one_that_is_left_stays_where_the_named_one_is_gone(services: FakeServices) -> None:
    _, registry = doubled(services)
    del registry.reports["theirs"]  # as after MLflow was recreated, and the report logged anew
    assert SecondLogs().step(services) == 0
    assert sorted(registry.reports) == ["mine"]


def test_what_the_ledger_does_not_know_is_left_alone(services: FakeServices) -> None:
    for run_id in ("another ledger's", "another ledger's"):
        services.fake_registry.log_training(trained_model(run_id, model_name=MODEL))
        services.fake_registry.reports[f"report-{len(services.fake_registry.reports)}"] = report_of(run_id)
    assert SecondLogs().step(services) == 0
    assert len(services.fake_registry.reports) == 2


def report_of(run_id: str) -> ReportRecord:
    return ReportRecord(
        ledger_run_id=run_id, strategy="growth", run_name="growth", params={}, metrics={}, tags={}, files={}
    )


class Paged(FakeRegistry):
    """Runs on two pages: of today, and of a month ago."""

    asked: list[str | None]
    today: datetime

    def logged_runs(self, *, page: str | None = None) -> tuple[list[LoggedByRun], str | None]:
        self.asked.append(page)
        began = self.today - timedelta(days=0 if page is None else 30)
        run = LoggedByRun(ledger_run_id="r", kind="training", name="a", at=began)
        return [run], {None: "2", "2": "3", "3": None}[page]


def test_a_walk_takes_a_page_a_step_and_goes_to_the_end_once_a_day(services: FakeServices) -> None:
    registry, clock = Paged(), Clock()
    registry.asked, registry.today = [], services.ledger.now()
    vars(services)["registry"] = registry
    second = SecondLogs(clock=clock)
    for _ in range(5):
        second.step(services)
    assert registry.asked == [None, "2", "3"]
    for _ in range(3):
        clock.now += PAUSE_S
        second.step(services)
        second.step(services)
    assert registry.asked[3:] == [None, "2"] * 3  # the second page is older than two days: no further
    clock.now += 86_400.0
    for _ in range(5):
        second.step(services)
    assert registry.asked[9:] == [None, "2", "3"]
