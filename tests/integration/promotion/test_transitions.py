"""A transition that a person asks for is in the ledger before the registry shows it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from mlops.domain.errors import ModelNotFound, RegistryUnavailable
from mlops.ledger.ledger import SqlLedger
from mlops.registry.projection import record_and_show
from tests.support.ledgers import TimedLedger, decision_for
from tests.support.models import trained_model
from tests.support.registry import FakeRegistry

NAME = "acis_growth_classifier"


@pytest.fixture
def ledger(timed: TimedLedger) -> SqlLedger:
    return timed.ledger


@pytest.fixture
def registry(ledger: SqlLedger) -> FakeRegistry:
    registry = FakeRegistry()
    for run in ("run-1", "run-2"):
        judged(ledger, registry, registry.log_training(trained_model(run, model_name=NAME)).version)
    return registry


def judged(ledger: SqlLedger, registry: FakeRegistry, version: str) -> None:
    """The version passed its gates, and nobody knows whether it is better than the champion."""
    seq, identity = ledger.champion("growth").seq, registry.version(NAME, version).identity
    ledger.record_transition(
        "growth",
        decision_for(version, expected_seq=seq, decision="inconclusive", target_stage="Staging", identity=identity),
    )


def move(ledger: SqlLedger, registry: FakeRegistry, version: str, stage: str) -> None:
    record_and_show(ledger, registry, model_name=NAME, version=version, stage=stage, reason="a better feeling")


def test_a_transition_to_production_is_a_promotion_with_actor_and_reason(
    ledger: SqlLedger, registry: FakeRegistry
) -> None:
    move(ledger, registry, "1", "Production")
    promotion = ledger.promotions("growth")[0]
    assert (promotion.decision, promotion.version, promotion.reasons) == ("transition", "1", ("a better feeling",))
    assert promotion.actor
    assert promotion.projected_at is not None
    assert ledger.champion("growth").version == "1"
    assert registry.version(NAME, "1").aliases == ("champion",)


def dated(registry: FakeRegistry, day: str) -> str:
    trained = trained_model(f"run-of-{day}", model_name=NAME)
    return registry.log_training(replace(trained, tags={"training_date": day})).version


@pytest.mark.parametrize(
    ("first", "then", "place"),
    [
        ("2020-06-01", "2020-07-01", date(2020, 7, 1)),
        ("2020-07-01", "2020-06-01", date(2020, 7, 1)),
        ("2020-06-01", "some day", date(2020, 6, 1)),
    ],
)
def test_the_place_is_dated_by_the_later_of_both_champions(
    ledger: SqlLedger, registry: FakeRegistry, first: str, then: str, place: date
) -> None:
    for day in (first, then):
        version = dated(registry, day)
        judged(ledger, registry, version)
        move(ledger, registry, version, "Production")
    assert ledger.champion("growth").as_of == place


def test_a_move_to_staging_leaves_the_champion(ledger: SqlLedger, registry: FakeRegistry) -> None:
    move(ledger, registry, "1", "Production")
    move(ledger, registry, "2", "Staging")
    assert ledger.champion("growth").version == "1"
    assert [item.stage for item in registry.versions(NAME)] == ["Staging", "Production"]


def test_a_champion_that_is_archived_leaves_none(ledger: SqlLedger, registry: FakeRegistry) -> None:
    move(ledger, registry, "1", "Production")
    move(ledger, registry, "1", "Archived")
    assert ledger.champion("growth").version is None
    assert registry.version(NAME, "1").stage == "Archived"


def test_a_version_that_does_not_exist_never_becomes_the_champion(ledger: SqlLedger) -> None:
    with pytest.raises(ModelNotFound):
        move(ledger, FakeRegistry(), "1", "Production")
    assert ledger.promotions("growth") == []


def test_a_registry_that_fails_after_the_commit_is_caught_up_later(
    monkeypatch: pytest.MonkeyPatch, ledger: SqlLedger, registry: FakeRegistry
) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise RegistryUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(registry, "apply_stage", unavailable)
        with pytest.raises(RegistryUnavailable):
            move(ledger, registry, "1", "Production")
    assert ledger.champion("growth").version == "1"
    assert [item.version for item in ledger.unprojected() if item.target_stage == "Production"] == ["1"]
