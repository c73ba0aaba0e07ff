"""What MLflow and the checkpoints hold of a time that the ledger forgot."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import text

from mlops.domain.errors import RegistryUnavailable, VersionQuarantined
from mlops.domain.ports import ModelVersion
from mlops.domain.records import Kind, Stage
from mlops.ledger.set_back import NotQuarantined
from mlops.registry.adoption import judgement_on
from mlops.registry.quarantine import CLOCKS_APART, LOOKED_FOR, ForgottenTime, delete, look_through_registry, release
from mlops.stages.promote import promote
from tests.support.ledgers import TimedLedger, accepted_and_sent, decision_for, request_for
from tests.support.models import trained_model
from tests.support.services import MODEL, FakeServices, fake_services

FORGOTTEN = "a-run-of-the-forgotten-time"


@pytest.fixture
def services(tmp_path: Path, timed: TimedLedger) -> FakeServices:
    """Version 1 is the champion; since then the ledger was set back, and forgot the run that made version 2."""
    made = fake_services(tmp_path, timed, mlflow_tracking_uri="http://registry")
    made.fake_registry.now = made.ledger.now() - timedelta(days=1)
    made.registry.log_training(trained_model("a-run-of-last-year"))
    made.ledger.record_transition("growth", decision_for("1"))
    made.registry.apply_stage(MODEL, "1", "Archived", seq=1, tags={})
    made.fake_registry.now = made.ledger.now()
    made.registry.log_training(trained_model(FORGOTTEN))
    made.registry.apply_stage(MODEL, "2", "Production", seq=2, tags={})
    made.checkpoints.write(FORGOTTEN, 1, "rounds-50", b"a booster")
    return made


@pytest.fixture
def since(services: FakeServices) -> datetime:
    to = services.ledger.now() - timedelta(seconds=60)
    services.ledger.was_set_back(to=to)
    return to


def in_quarantine(services: FakeServices) -> set[tuple[str, str]]:
    return {(one.kind, one.name) for one in services.ledger.quarantined()}


def shown(services: FakeServices) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {one.version: (one.stage, one.aliases) for one in services.registry.versions(MODEL)}


@pytest.mark.usefixtures("since")
def test_what_the_ledger_does_not_know_is_listed_and_its_own_champion_is_shown_again(services: FakeServices) -> None:
    look_through_registry(services)
    assert in_quarantine(services) == {
        ("version", f"{MODEL}/2"), ("run", f"run-of-{FORGOTTEN}"), ("checkpoint", FORGOTTEN)
    }  # fmt: skip
    assert shown(services) == {"1": ("Production", ("champion",)), "2": ("Archived", ())}
    assert services.ledger.champion("growth").version == "1"
    assert services.ledger.forgotten().registry_since is None
    assert look_through_registry(services) == []


@pytest.mark.usefixtures("since")
def test_a_version_in_quarantine_is_never_promoted_until_a_person_releases_it(services: FakeServices) -> None:
    look_through_registry(services)
    grant = services.granted(Kind.ROLLBACK, Stage.PROMOTE, version="2")
    with pytest.raises(VersionQuarantined, match=f"acis quarantine --release version {MODEL}/2"):
        promote(grant, services, services.keeper(grant))
    assert services.ledger.champion("growth").version == "1"
    release(services, "version", f"{MODEL}/2", actor="anna")
    judged = promote(grant, services, services.keeper(grant))  # like any other, which is no former champion either
    assert "was never the champion" in judged.result["reasons"][0]


def may_be_champion(services: FakeServices, version: str) -> bool:
    """Whether it would be adopted where a hand made it champion."""
    found = services.registry.version(MODEL, version)
    return judgement_on(services.ledger, services.registry, services.strategies["growth"], found).may_be_champion


@pytest.mark.usefixtures("since")
def test_a_version_in_quarantine_is_never_adopted(services: FakeServices, timed: TimedLedger) -> None:
    look_through_registry(services)
    services.fake_registry.set_by_hand(MODEL, "2", stage="Production", aliases=("champion",))
    quarantined = services.ledger.quarantined()
    timed.wipe()  # a ledger that never had a champion
    services.ledger.quarantine(quarantined)
    assert not may_be_champion(services, "2")
    release(services, "version", f"{MODEL}/2", actor="anna")


@pytest.fixture
def forgotten_champion(services: FakeServices, timed: TimedLedger) -> str:
    """A run was accepted before the backup; its training and its promotion, of version 3, came after it."""
    timed.wipe()
    run_id = accepted_and_sent(services.ledger, request_for()).run_id
    to = services.ledger.now()
    services.fake_registry.now = services.ledger.now() + timedelta(seconds=30)
    services.registry.log_training(trained_model(run_id))
    services.fake_registry.set_by_hand(MODEL, "3", stage="Production", aliases=("champion",))
    services.ledger.was_set_back(to=to)
    return "3"


@pytest.mark.usefixtures("forgotten_champion")
def test_a_champion_whose_training_was_forgotten_is_not_adopted_though_its_run_is_known(services: FakeServices) -> None:
    assert not may_be_champion(services, "3"), "before the look"
    with services.ledger.database.transaction() as connection:
        connection.execute(text("UPDATE mlops_position SET registry_since = NULL"))
    assert not may_be_champion(services, "3"), "after it"


def test_no_champion_is_adopted_before_the_registry_was_looked_through(
    services: FakeServices, timed: TimedLedger
) -> None:
    timed.wipe()
    services.fake_registry.now = services.ledger.now() - timedelta(days=7)
    services.registry.log_training(trained_model("a-run-of-last-week"))
    services.fake_registry.set_by_hand(MODEL, "3", stage="Production", aliases=("champion",))
    services.ledger.was_set_back(to=services.ledger.now())
    seen = services.registry.version(MODEL, "3")
    judged = decision_for("3", decision="inconclusive", target_stage="Staging", identity=seen.identity)
    services.ledger.record_transition("growth", judged)
    assert not may_be_champion(services, "3")
    look_through_registry(services)
    assert may_be_champion(services, "3")


def test_no_decision_is_made_before_the_registry_was_looked_through(services: FakeServices, since: datetime) -> None:
    grant = services.granted(Kind.ROLLBACK, Stage.PROMOTE, version="1")
    with pytest.raises(RegistryUnavailable, match="set back in time") as waits:
        promote(grant, services, services.keeper(grant))
    assert waits.value.delay_s == 5.0
    look_through_registry(services)
    promote(grant, services, services.keeper(grant))
    assert services.ledger.forgotten().registry_since is None
    assert since < services.ledger.now()


@pytest.mark.usefixtures("since")
def test_what_was_there_long_before_is_left_alone_though_its_run_is_gone(services: FakeServices) -> None:
    look_through_registry(services)
    assert not services.ledger.is_quarantined("version", f"{MODEL}/1")
    assert timedelta(days=1) > CLOCKS_APART


@pytest.mark.usefixtures("since")
def test_a_place_that_was_filled_in_the_forgotten_time_is_empty_again(
    services: FakeServices, timed: TimedLedger
) -> None:
    to = services.ledger.now()
    timed.wipe()
    services.ledger.was_set_back(to=to)
    look_through_registry(services)
    assert shown(services)["2"] == ("Archived", ())
    assert services.ledger.champion("growth").seq == 0


@pytest.mark.usefixtures("since")
def test_what_a_person_deletes_is_gone(services: FakeServices) -> None:
    look_through_registry(services)
    delete(services, "version", f"{MODEL}/2", actor="anna")
    delete(services, "checkpoint", FORGOTTEN, actor="anna")
    assert [one.version for one in services.registry.versions(MODEL)] == ["1"]
    assert services.checkpoints.newest() == {}
    assert in_quarantine(services) == {("run", f"run-of-{FORGOTTEN}")}
    settled = {one.name: (one.settled_as, one.settled_by) for one in services.ledger.quarantined(all_of_them=True)}
    assert settled[FORGOTTEN] == ("deleted", "anna")


@pytest.mark.usefixtures("since")
def test_what_was_released_is_not_put_into_quarantine_again(services: FakeServices) -> None:
    look_through_registry(services)
    release(services, "version", f"{MODEL}/2", actor="anna")
    services.ledger.was_set_back(to=services.ledger.now())
    assert look_through_registry(services) == []
    assert ("version", f"{MODEL}/2") not in in_quarantine(services)


def test_a_look_that_began_before_the_ledger_was_set_back_again_is_no_look_at_that(
    services: FakeServices, since: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions, again = services.fake_registry.versions, since + timedelta(seconds=30)

    def restored_meanwhile(model_name: str) -> list[ModelVersion]:
        services.ledger.was_set_back(to=again)
        return versions(model_name)

    monkeypatch.setattr(services.fake_registry, "versions", restored_meanwhile)
    look_through_registry(services)
    monkeypatch.undo()
    assert services.ledger.forgotten().registry_since == since
    look_through_registry(services)
    assert services.ledger.forgotten().registry_since is None


@pytest.mark.usefixtures("since")
def test_what_a_process_of_the_forgotten_time_registers_late_is_found_by_whichever_reconciler_leads_then(
    services: FakeServices, timed: TimedLedger
) -> None:
    ForgottenTime().step(services)
    for number, passed_s in ((3, 61.0), (4, 600.0)):
        services.registry.log_training(trained_model(f"late-{number}"))
        timed.advance(passed_s)
        ForgottenTime().step(services)
        assert services.ledger.is_quarantined("version", f"{MODEL}/{number}")


@pytest.mark.usefixtures("since")
def test_a_reconciler_looks_for_late_ones_ever_more_rarely_and_for_an_hour(
    services: FakeServices, timed: TimedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    versions = services.fake_registry.versions
    monkeypatch.setattr(services.fake_registry, "versions", lambda name: looks.append(name) or versions(name))
    reconciler, at = ForgottenTime(), []
    for minute in range(121):
        before = len(looks)
        reconciler.step(services)
        at += [minute] if len(looks) > before else []
        timed.advance(60.0)
    assert at[:2] == [0, 1]
    assert at[-1] <= LOOKED_FOR / timedelta(minutes=1) < 61
    assert all(later >= 2 * earlier for earlier, later in pairwise(at))
    assert len(at) <= 8


@pytest.mark.usefixtures("since")
def test_a_reconciler_that_looked_long_after_one_restore_looks_soon_after_the_next(
    services: FakeServices, timed: TimedLedger
) -> None:
    reconciler = ForgottenTime()
    timed.advance(1500.0)
    reconciler.step(services)
    timed.advance(1500.0)
    reconciler.step(services)
    services.ledger.was_set_back(to=services.ledger.now())
    look_through_registry(services)  # another one, which leads
    services.fake_registry.now = services.ledger.now()
    services.registry.log_training(trained_model("late-after-the-second"))
    timed.advance(61.0)
    reconciler.step(services)
    assert services.ledger.is_quarantined("version", f"{MODEL}/3")


def test_what_is_not_in_quarantine_is_said(services: FakeServices) -> None:
    with pytest.raises(NotQuarantined, match="`acis quarantine` lists"):
        release(services, "version", "acis_growth_classifier/7", actor="anna")
    with pytest.raises(NotQuarantined, match="one of: version, run, checkpoint"):
        delete(services, "model", "acis_growth_classifier/7", actor="anna")
