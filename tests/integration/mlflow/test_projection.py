"""The registry shows what the ledger decided, in whatever order the decisions reach it."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.domain.errors import RegistryUnavailable
from mlops.domain.promotion.records import Promotion
from mlops.ledger.ledger import SqlLedger
from mlops.registry.projection import project
from tests.support.ledgers import TimedLedger, decision_for, promoting
from tests.support.models import fitted, trained_model, training_data
from tests.support.registry import FakeRegistry

MODEL = "acis_growth_classifier"
N_VERSIONS = 3
TRAINED = [trained_model(f"run-{number}", model=fitted(training_data(40), rounds=1)) for number in range(N_VERSIONS)]


def registry_with_versions() -> FakeRegistry:
    registry = FakeRegistry()
    for number, trained in enumerate(TRAINED, start=1):
        registry.log_training(trained)
        registry.apply_stage(MODEL, str(number), "Staging", seq=0, tags={})
    return registry


def decided(ledger: SqlLedger, version: str, *, promotes: bool) -> Promotion:
    seq = ledger.champion("growth").seq
    if promotes:
        return ledger.decide(promoting(ledger), decision_for(version, expected_seq=seq))
    refusal = decision_for(version, expected_seq=seq, decision="refuse", target_stage="Archived", reasons=("worse",))
    return ledger.decide(promoting(ledger), refusal)


def in_production(registry: FakeRegistry) -> list[str]:
    return [item.version for item in registry.versions(MODEL) if item.stage == "Production"]


def aliased(registry: FakeRegistry) -> list[str]:
    return [item.version for item in registry.versions(MODEL) if "champion" in item.aliases]


def test_a_promotion_is_shown_with_its_reasons_actor_and_seq(timed: TimedLedger) -> None:
    registry = registry_with_versions()
    promotion = decided(timed.ledger, "1", promotes=True)
    project(promotion, registry, timed.ledger)
    version = registry.version(MODEL, "1")
    assert (version.stage, version.aliases) == ("Production", ("champion",))
    assert {key: version.tags[key] for key in ("acis.decision", "acis.reasons", "acis.actor", "acis.seq")} == {
        "acis.decision": "promote", "acis.reasons": "better", "acis.actor": "policy", "acis.seq": "1",
    }  # fmt: skip
    assert timed.ledger.unprojected() == []


def test_reasons_longer_than_a_tag_are_cut(timed: TimedLedger) -> None:
    registry = registry_with_versions()
    seq = timed.ledger.champion("growth").seq
    promotion = timed.ledger.record_transition("growth", decision_for("1", expected_seq=seq, reasons=("x" * 9000,)))
    project(promotion, registry, timed.ledger)
    assert len(registry.version(MODEL, "1").tags["acis.reasons"]) == 4000


def test_a_decision_that_was_overtaken_is_shown_archived_and_the_newer_one_shown(timed: TimedLedger) -> None:
    registry = registry_with_versions()
    old, _new = (decided(timed.ledger, version, promotes=True) for version in ("1", "2"))
    project(old, registry, timed.ledger)
    assert in_production(registry) == aliased(registry) == ["2"]
    assert registry.version(MODEL, "1").stage == "Archived"


def test_a_refusal_of_what_became_champion_again_is_not_shown(timed: TimedLedger) -> None:
    registry = registry_with_versions()
    refused = decided(timed.ledger, "1", promotes=False)
    champion = decided(timed.ledger, "1", promotes=True)
    project(champion, registry, timed.ledger)
    project(refused, registry, timed.ledger)
    assert in_production(registry) == ["1"]


def test_a_registry_that_does_not_answer_leaves_the_decision_to_be_shown(
    timed: TimedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_with_versions()

    def silent(*_: object, **__: object) -> None:
        raise RegistryUnavailable

    monkeypatch.setattr(registry, "apply_stage", silent)
    promotion = decided(timed.ledger, "1", promotes=True)
    with pytest.raises(RegistryUnavailable):
        project(promotion, registry, timed.ledger)
    assert [item.id for item in timed.ledger.unprojected()] == [promotion.id]


def test_a_decision_that_commits_while_another_is_shown_wins(
    timed: TimedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_with_versions()
    first = decided(timed.ledger, "1", promotes=True)
    apply, others = registry.apply_stage, iter(["2"])

    def apply_while_another_decides(*place: object, **how: object) -> None:
        for version in others:
            decided(timed.ledger, version, promotes=True)
        apply(*place, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(registry, "apply_stage", apply_while_another_decides)
    project(first, registry, timed.ledger)
    assert in_production(registry) == aliased(registry) == ["2"]


def test_a_version_taken_out_of_production_while_its_promotion_is_shown_does_not_come_back(
    timed: TimedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_with_versions()
    promotion = decided(timed.ledger, "1", promotes=True)
    apply, archivings = registry.apply_stage, iter([decision_for("1", expected_seq=1, target_stage="Archived")])

    def apply_after_a_person_archived_it(*place: object, **how: object) -> None:
        for archiving in archivings:
            project(timed.ledger.record_transition("growth", archiving), registry, timed.ledger)
        apply(*place, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(registry, "apply_stage", apply_after_a_person_archived_it)
    project(promotion, registry, timed.ledger)
    assert timed.ledger.champion("growth").version is None
    assert in_production(registry) == aliased(registry) == []
    assert registry.version(MODEL, "1").stage == "Archived"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    decisions=st.lists(st.tuples(st.sampled_from(["1", "2", "3"]), st.booleans()), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
    repeated=st.integers(0, 3),
)
def test_in_any_order_a_refused_version_is_never_in_production_and_the_champion_is_last(
    timed: TimedLedger, decisions: list[tuple[str, bool]], order: random.Random, repeated: int
) -> None:
    timed.wipe()
    registry = registry_with_versions()
    made = [decided(timed.ledger, version, promotes=promotes) for version, promotes in decisions]
    approved = {version for version, promotes in decisions if promotes}
    queue = made + made[:repeated]
    order.shuffle(queue)
    for promotion in queue:
        project(promotion, registry, timed.ledger)
        assert set(in_production(registry)) <= approved
    champion = timed.ledger.champion("growth").version
    # Without a promotion the registry holds no champion; else exactly the ledger's.
    assert in_production(registry) == aliased(registry) == [item for item in (champion,) if item]
    assert timed.ledger.unprojected() == []


@pytest.mark.parametrize("order", list(itertools.permutations(["1", "2", "3"])))
def test_three_promotions_repaired_in_any_order_end_with_the_newest(timed: TimedLedger, order: tuple[str, ...]) -> None:
    registry = registry_with_versions()
    made = {version: decided(timed.ledger, version, promotes=True) for version in ("1", "2", "3")}
    for version in order:
        project(made[version], registry, timed.ledger)
    assert in_production(registry) == aliased(registry) == ["3"]
