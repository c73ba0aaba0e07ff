"""What the reconciler does about a registry that does not show what the ledger decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Literal

import pytest

from mlops.domain.errors import InvalidTransition, RegistryError, RegistryUnavailable
from mlops.domain.policies import PromotionPolicy
from mlops.domain.ports import RUN_TAG
from mlops.domain.records import Kind
from mlops.registry.adoption import record_version
from mlops.registry.kept_models import kept, restore, tidy_models
from mlops.registry.repair import EVERY_S, SOON_S, RegistryRepair
from tests.support.experiments import new_experiment
from tests.support.ledgers import TimedLedger, decision_for, request_for
from tests.support.models import SKILLED, trained_model
from tests.support.services import MODEL, FakeServices, fake_services, small_strategy

ADOPTS = PromotionPolicy(manual_changes="adopt")


class Pass:
    """Passes of the repair, each when the one before said that it would look again."""

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


def judged(services: FakeServices, version: str, decision: str = "inconclusive") -> None:
    """The ledger has looked at the version's gates, and the registry shows what it decided."""
    stage = "Archived" if decision == "refuse" else "Staging"
    found = services.registry.version(MODEL, version)
    seq = services.ledger.champion("growth").seq
    promotion = services.ledger.record_transition(
        "growth",
        decision_for(version, expected_seq=seq, decision=decision, target_stage=stage, identity=found.identity),
    )
    services.registry.apply_stage(MODEL, version, stage, seq=promotion.seq, tags={})
    services.ledger.projected(promotion.id)


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
def test_a_version_that_a_hand_moved_is_adopted_on_the_second_pass_where_the_policy_says_so(
    services: FakeServices, look: Pass, moved: Callable[[FakeServices], None]
) -> None:
    services.with_policy(promotion=ADOPTS)
    judged(services, "2")
    moved(services)
    look()
    assert champion(services) == ("1", 1)  # a projection in progress looks like this for a moment
    look()
    assert champion(services) == ("2", 2)
    newest = services.ledger.promotions("growth")[0]
    assert (newest.decision, newest.actor, newest.previous_version) == ("manual", "mlflow", "1")
    assert production(services) == ["2"]
    assert services.registry.version(MODEL, "2").aliases == ("champion",)
    assert services.ledger.audit_lines(action="registry.adopted")[0].detail == {"shown": "2", "champion": "1"}
    (told,) = services.ledger.changes_by_hand(within_s=60)
    assert "version 2 of 'growth' was made champion in MLflow by hand, in place of 1, and was adopted" in told.words


def test_an_adopted_version_dates_the_place_by_its_training(services: FakeServices, look: Pass) -> None:
    services.with_policy(promotion=ADOPTS)
    trained = replace(trained_model("run-3"), tags={"training_date": "2020-07-01"})
    assert services.registry.log_training(trained).version == "3"
    judged(services, "3")
    services.fake_registry.set_by_hand(MODEL, "3", stage="Production", aliases=("champion",))
    look()
    look()
    assert services.ledger.champion("growth").as_of == date(2020, 7, 1)


@pytest.mark.parametrize("moved", [by_alias, by_stage])
def test_by_default_it_is_reverted_though_it_was_judged(
    services: FakeServices, look: Pass, moved: Callable[[FakeServices], None]
) -> None:
    judged(services, "2")
    moved(services)
    look()
    look()
    assert champion(services) == ("1", 1)
    assert production(services) == ["1"]
    assert services.registry.version(MODEL, "1").aliases == ("champion",)


@pytest.mark.parametrize("manual_changes", ["adopt", "revert"])
def test_a_champion_taken_out_of_production_is_put_back_whatever_the_policy(
    services: FakeServices, look: Pass, manual_changes: Literal["adopt", "revert"]
) -> None:
    services.with_policy(promotion=PromotionPolicy(manual_changes=manual_changes))
    services.fake_registry.set_by_hand(MODEL, "1", stage="Archived", aliases=())
    look()
    look()
    assert (champion(services), production(services)) == (("1", 1), ["1"])
    look()
    assert len(services.ledger.promotions("growth")) == 1
    (told,) = services.ledger.changes_by_hand(within_s=60)
    assert told.words.startswith("MLflow did not show the champion of 'growth', which the ledger did not decide.")


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


def test_a_change_is_seen_and_confirmed_within_half_a_minute(services: FakeServices, look: Pass) -> None:
    look(after_s=EVERY_S / 2)
    by_alias(services)
    look(after_s=EVERY_S / 2)  # not yet
    look(after_s=SOON_S)
    assert "champion" in services.registry.version(MODEL, "2").aliases
    look()
    assert services.registry.version(MODEL, "1").aliases == ("champion",)
    assert EVERY_S + SOON_S <= 30


def test_whoever_repeats_it_is_reverted_at_each_look_with_one_alert_that_counts(
    services: FakeServices, look: Pass
) -> None:
    services.registry.log_training(trained_model("run-3"))
    by_alias(services)
    look(after_s=SOON_S)
    for place in range(6):  # another one each time, so that no two looks see the same
        number = "23"[place % 2]
        services.fake_registry.set_by_hand(MODEL, number, stage="Production", aliases=("champion",))
        look(after_s=SOON_S)
        assert production(services) == ["1"]
    (told,) = services.ledger.changes_by_hand(within_s=3600)
    assert (told.strategy, told.n_times) == ("growth", 6)
    assert [line.detail["shown"] for line in services.ledger.audit_lines(action="registry.reverted")] == ["3", "2"]


def test_a_champion_that_alternates_is_reverted_though_the_policy_would_adopt(
    services: FakeServices, look: Pass
) -> None:
    services.with_policy(promotion=ADOPTS)
    services.registry.log_training(trained_model("run-3"))
    for version in "23":
        judged(services, version)
    for place in range(4):
        number = "23"[place % 2]
        services.fake_registry.set_by_hand(MODEL, number, stage="Production", aliases=("champion",))
        look(after_s=SOON_S)
    assert (champion(services), production(services)) == (("1", 1), ["1"])
    (told,) = services.ledger.changes_by_hand(within_s=3600)
    assert "It was taken back" in told.words


def test_a_file_that_cannot_be_looked_at_keeps_nothing_from_being_taken_back(
    services: FakeServices, look: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "acis_value_classifier"
    for number in (1, 2):
        services.registry.log_training(replace(trained_model(f"run-v{number}"), model_name=value))
    services.ledger.projected(services.ledger.record_transition("value", decision_for("1", model_name=value)).id)
    services.registry.apply_stage(value, "1", "Production", seq=1, tags={})
    seen: list[tuple[list[str], str]] = []

    def fails(*_: object) -> bytes:
        (told,) = (one for one in services.ledger.changes_by_hand(within_s=60) if one.strategy == "growth")
        seen.append((production(services), told.words))
        raise ModuleNotFoundError("No module named 'a_store_of_theirs'")

    monkeypatch.setattr(services.fake_registry, "model_file", fails)
    by_alias(services)
    services.fake_registry.set_by_hand(value, "2", stage="Production", aliases=("champion",))
    look()
    look()
    assert production(services) == ["1"]
    assert services.registry.version(value, "1").aliases == ("champion",)
    places, words = seen[0]
    assert places == ["1"]  # taken back before anybody looked at the file, and noted before that
    assert "It is being taken back" in words
    changes = services.ledger.changes_by_hand(within_s=60)
    assert sorted(one.strategy for one in changes) == ["growth", "value"]
    assert all("its file could not be looked at" in one.words for one in changes)
    assert len(services.ledger.audit_lines(action="registry.reverted")) == 2


def test_a_strategy_at_which_something_unforeseen_happens_does_not_hold_up_the_others(
    services: FakeServices, look: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = services.ledger
    asked = type(ledger).champion

    def fails(self: object, strategy: str, **named: str) -> object:
        if strategy == "growth":
            raise ValueError("unforeseen")
        return asked(ledger, strategy, **named)

    value = "acis_value_classifier"
    services.registry.log_training(replace(trained_model("run-v"), model_name=value))
    services.fake_registry.set_by_hand(value, "1", stage="Production", aliases=("champion",))
    monkeypatch.setattr(type(ledger), "champion", fails)
    look()
    look()
    assert services.registry.version(value, "1").stage == "Archived"


def test_a_file_that_names_a_run_of_the_ledger_which_made_another_is_not_recorded(services: FakeServices) -> None:
    strategy = services.strategies["growth"]
    services.registry.log_training(trained_model("run-3"))  # the ledger has its digest
    services.fake_registry.recorded = lambda _: None
    found = services.registry.log_training(trained_model("run-4"))
    services.fake_registry.files[MODEL, "4"] = b"{another}"
    services.fake_registry.set_tags(MODEL, "4", {RUN_TAG: "run-3"})
    with pytest.raises(InvalidTransition, match="carries the id of run run-3, which did not make its file"):
        record_version(services.ledger, services.registry, strategy, "4", actor="ada", reason="ours")
    services.fake_registry.set_tags(MODEL, "4", {})
    recorded = record_version(services.ledger, services.registry, strategy, "4", actor="ada", reason="ours")
    assert recorded.made_by == found.run_id


def test_a_file_that_names_a_run_which_goes_on_is_not_recorded(services: FakeServices) -> None:
    accepted = services.ledger.accept(request_for(kind=Kind.TRAIN))
    services.fake_registry.set_tags(MODEL, "2", {RUN_TAG: accepted.run_id})
    with pytest.raises(InvalidTransition, match="did not make its file"):
        record_version(
            services.ledger, services.registry, services.strategies["growth"], "2", actor="ada", reason="ours"
        )
    assert services.ledger.noted_model_files(accepted.run_id) == frozenset()


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


# --------------------------------------------------------------------------- no way round the gates


@pytest.mark.parametrize("decision", [None, "refuse"])
@pytest.mark.parametrize("moved", [by_alias, by_stage])
def test_what_was_not_judged_or_was_refused_is_reverted_with_an_alert(
    services: FakeServices, look: Pass, moved: Callable[[FakeServices], None], decision: str | None
) -> None:
    if decision is not None:
        judged(services, "2", decision)
    moved(services)
    look()
    look()
    assert champion(services) == ("1", 1)
    assert production(services) == ["1"]
    assert services.registry.version(MODEL, "1").aliases == ("champion",)
    assert services.ledger.audit_lines(action="registry.reverted")[0].detail == {"shown": "2", "champion": "1"}


def test_a_refused_version_that_a_hand_moved_where_there_is_no_champion_is_taken_out(
    services: FakeServices, look: Pass
) -> None:
    services.ledger.record_transition("growth", decision_for("1", expected_seq=1, target_stage="Archived"))
    look()
    judged(services, "2", "refuse")
    by_alias(services)
    look()
    look()
    assert champion(services) == (None, 2)
    assert production(services) == []
    assert services.registry.version(MODEL, "2").aliases == ()


def test_what_is_held_in_staging_while_something_is_wrong_with_the_registry_is_not_adopted(
    services: FakeServices, look: Pass
) -> None:
    judged(services, "2")
    services.ledger.note_registry_finding("growth", "number_reused", "2", "2 is another model's number")
    by_alias(services)
    look()
    look()
    assert champion(services) == ("1", 1)
    assert production(services) == ["1"]


# --------------------------------------------------------------------------- a registry that lost something


def test_an_empty_registry_is_an_outage_and_nobody_s_decision(services: FakeServices, look: Pass) -> None:
    look()
    services.fake_registry.forget(MODEL)
    for _ in range(4):
        look()
    assert champion(services) == ("1", 1)
    (finding,) = services.ledger.registry_findings()
    assert (finding.strategy, finding.kind) == ("growth", "champion_missing")
    assert "acis registry restore growth" in finding.words


def test_a_model_that_got_the_champion_s_number_is_not_taken_for_it(services: FakeServices, look: Pass) -> None:
    look()
    services.fake_registry.forget(MODEL)
    services.registry.log_training(trained_model("run-of-the-new-registry"))
    services.fake_registry.set_by_hand(MODEL, "1", stage="Production", aliases=("champion",))
    for _ in range(4):
        look()
    assert champion(services) == ("1", 1)
    assert [one.kind for one in services.ledger.registry_findings()] == ["champion_missing"]


def test_a_champion_that_the_ledger_knows_by_its_number_alone_is_not_what_an_empty_registry_gave_that_number(
    services: FakeServices, look: Pass
) -> None:
    services.fake_registry.forget(MODEL)  # before anybody noted the champion's digest
    services.registry.log_training(trained_model("run-of-the-new-registry"))
    for _ in range(3):
        look()
    assert (champion(services), production(services)) == (("1", 1), [])
    assert [one.kind for one in services.ledger.registry_findings()] == ["champion_missing"]
    assert restore(services, services.strategies["growth"], actor="ada", reason="a test").state == "gone"
    assert production(services) == []


def test_a_champion_that_is_back_ends_the_outage(services: FakeServices, look: Pass) -> None:
    look()
    lost = services.fake_registry._models.pop(MODEL)
    look()
    services.fake_registry._models[MODEL] = lost
    look()
    assert services.ledger.registry_findings() == []
    services.fake_registry._models.pop(MODEL)
    look()  # and a second outage is one again
    assert len(services.ledger.registry_findings()) == 1


def test_an_older_registry_is_shown_again_what_it_was_shown(services: FakeServices, look: Pass) -> None:
    backup = list(services.fake_registry._models[MODEL])
    services.ledger.record_transition(
        "growth", decision_for("2", expected_seq=1, identity=services.registry.version(MODEL, "2").identity)
    )
    look()
    assert production(services) == ["2"]
    services.fake_registry._models[MODEL] = backup  # version 2 is there, and version 1 is in Production
    look()
    look()
    assert champion(services) == ("2", 2)
    assert production(services) == ["2"]


def test_the_champion_s_model_is_kept_outside_of_the_registry(services: FakeServices, look: Pass) -> None:
    look()
    assert services.checkpoints.kept_models() == []  # of a champion without a digest nobody knows what it is
    record_version(services.ledger, services.registry, services.strategies["growth"], "1", actor="ada", reason="ours")
    look()
    found = kept(services, services.ledger.champion("growth").identity)
    assert found is not None
    assert found.model == services.registry.model_file(MODEL, "1")
    assert found.metrics == SKILLED | {"accuracy": 0.742, "roc_auc": 0.821}


def test_a_challenger_s_model_is_kept_while_its_experiment_runs(services: FakeServices, look: Pass) -> None:
    challenger = services.registry.version(MODEL, "2").identity
    made = services.ledger.start_experiment(
        new_experiment(champion=services.ledger.champion("growth").identity, challenger=challenger)
    )
    look()
    found = kept(services, challenger)
    assert found is not None
    assert found.model == services.registry.model_file(MODEL, "2")
    assert tidy_models(services) == 0
    services.ledger.steer_experiment(made.id, "abort", by="ada", reason="enough")
    assert (tidy_models(services), services.checkpoints.kept_models()) == (1, [])
