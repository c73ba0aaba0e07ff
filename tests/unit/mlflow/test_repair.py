"""What the reconciler does about a registry that does not show what the ledger decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from mlops.errors import RegistryError, RegistryUnavailable
from mlops.mlflow.repair import EVERY_S, RegistryRepair
from mlops.strategies import PromotionPolicy
from tests.support.ledgers import TimedLedger, decision_for
from tests.support.models import trained_model
from tests.support.services import MODEL, FakeServices, fake_services, small_strategy


class Pass:
    """Passes of the repair, a minute apart."""

    def __init__(self, services: FakeServices) -> None:
        self.services = services
        self.time = 0.0
        self._repair = RegistryRepair(monotonic=lambda: self.time)

    def __call__(self, *, after_s: float = EVERY_S) -> None:
        self._repair.step(self.services)
        self.time += after_s


@pytest.fixture
def services(tmp_path: Path, timed: TimedLedger) -> FakeServices:
    """Versions 1 and 2 of growth; 1 is the champion, in ledger and registry."""
    services = fake_services(
        tmp_path, timed, small_strategy(), small_strategy("value"), mlflow_tracking_uri="http://registry"
    )
    for number in (1, 2):
        services.registry.log_training(trained_model(f"run-{number}"))
    promotion = services.ledger.record_transition("growth", decision_for("1"))
    services.registry.apply_stage(MODEL, "1", "Production", seq=1, tags={})
    services.ledger.projected(promotion.id)
    return services


@pytest.fixture
def look(services: FakeServices) -> Pass:
    return Pass(services)


def champion(services: FakeServices) -> tuple[str | None, int]:
    found = services.ledger.champion("growth")
    return found.version, found.seq


def production(services: FakeServices) -> list[str]:
    return [item.version for item in services.registry.versions(MODEL) if item.stage == "Production"]


def by_alias(services: FakeServices) -> None:
    """The alias alone is moved; the stages stay."""
    services.fake_registry.set_by_hand(MODEL, "2", stage="None", aliases=("champion",))


def by_stage(services: FakeServices) -> None:
    """The stage alone is moved, as MLflow's page does it; the alias stays."""
    services.fake_registry.set_by_hand(MODEL, "1", stage="Archived", aliases=("champion",))
    services.fake_registry.set_by_hand(MODEL, "2", stage="Production", aliases=())


@pytest.mark.parametrize("moved", [by_alias, by_stage])
def test_a_version_that_a_hand_moved_is_adopted_on_the_second_pass(
    services: FakeServices, look: Pass, moved: Callable[[FakeServices], None]
) -> None:
    moved(services)
    look()
    assert champion(services) == ("1", 1)  # a projection in progress looks like this for a moment
    look()
    assert champion(services) == ("2", 2)
    newest = services.ledger.promotions("growth")[0]
    assert (newest.decision, newest.actor, newest.previous_version) == ("manual", "mlflow", "1")
    assert production(services) == ["2"]
    assert services.registry.version(MODEL, "2").aliases == ("champion",)


def test_an_adopted_version_dates_the_place_by_its_training(services: FakeServices, look: Pass) -> None:
    trained = replace(trained_model("run-3"), tags={"training_date": "2020-07-01"})
    assert services.registry.log_training(trained).version == "3"
    services.fake_registry.set_by_hand(MODEL, "3", stage="Production", aliases=("champion",))
    look()
    look()
    assert services.ledger.champion("growth").as_of == date(2020, 7, 1)


@pytest.mark.parametrize("moved", [by_alias, by_stage])
def test_a_policy_may_have_it_reverted(
    services: FakeServices, look: Pass, moved: Callable[[FakeServices], None]
) -> None:
    services.with_policy(promotion=PromotionPolicy(manual_changes="revert"))
    moved(services)
    look()
    look()
    assert champion(services) == ("1", 1)
    assert production(services) == ["1"]
    assert services.registry.version(MODEL, "1").aliases == ("champion",)


def test_a_champion_taken_out_of_production_leaves_the_place_empty(services: FakeServices, look: Pass) -> None:
    services.fake_registry.set_by_hand(MODEL, "1", stage="Archived", aliases=())
    look()
    look()
    assert champion(services) == (None, 2)
    look()
    assert len(services.ledger.promotions("growth")) == 2  # seen once, written once


def test_what_one_pass_sees_and_the_next_does_not_is_nothing(services: FakeServices, look: Pass) -> None:
    by_alias(services)
    look()
    services.registry.apply_stage(MODEL, "1", "Production", seq=1, tags={})
    look()
    by_alias(services)
    look()
    assert champion(services) == ("1", 1)


def test_a_promotion_between_two_passes_begins_the_suspicion_anew(services: FakeServices, look: Pass) -> None:
    by_alias(services)
    look()
    services.ledger.record_transition("growth", decision_for("1", expected_seq=1))
    by_alias(services)
    look()
    assert champion(services) == ("1", 2)


def test_it_looks_once_a_minute(services: FakeServices, look: Pass) -> None:
    look(after_s=30)
    by_alias(services)
    look(after_s=30)  # not yet
    look()
    assert champion(services) == ("1", 1)
    look()
    assert champion(services) == ("2", 2)


def test_decisions_that_were_not_shown_are_shown_at_once(services: FakeServices, look: Pass) -> None:
    look(after_s=1)
    services.ledger.record_transition("growth", decision_for("2", expected_seq=1))
    look()
    assert production(services) == ["2"]
    assert services.ledger.unprojected() == []


def test_a_decision_about_a_version_that_somebody_deleted_does_not_hold_up_the_others(
    services: FakeServices, look: Pass
) -> None:
    services.registry.log_training(replace(trained_model("run-v"), model_name="acis_value_classifier"))
    services.ledger.record_transition("growth", decision_for("77", expected_seq=1))
    services.ledger.record_transition("value", decision_for("1", model_name="acis_value_classifier"))
    look()
    assert services.ledger.unprojected() == []
    assert services.registry.version("acis_value_classifier", "1").stage == "Production"


def test_a_decision_that_the_registry_refuses_is_not_taken_for_a_hand_at_work(
    services: FakeServices, look: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise RegistryError("registry is read-only")

    monkeypatch.setattr(services.fake_registry, "apply_stage", refuses)
    services.ledger.record_transition("growth", decision_for("2", expected_seq=1))
    for _ in range(3):
        look()
    assert champion(services) == ("2", 2)
    assert len(services.ledger.unprojected()) == 1


def test_a_registry_that_does_not_answer_is_waited_for(
    services: FakeServices, look: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise RegistryUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(services.fake_registry, "versions", silent)
        look()
    assert champion(services) == ("1", 1)
    look()


def test_without_an_address_of_the_registry_nothing_is_asked(services: FakeServices, look: Pass) -> None:
    services.settings = services.settings.model_copy(update={"mlflow_tracking_uri": None})
    by_alias(services)
    look()
    look()
    assert champion(services) == ("1", 1)
