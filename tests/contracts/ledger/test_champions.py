from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from mlops.domain.errors import ChampionMoved, LeaseLost
from mlops.domain.promotion.records import ModelIdentity
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import LEASE_S, TimedLedger, decision_for, granted, promoting


def test_where_there_never_was_a_champion_the_seq_is_0(ledger: SqlLedger) -> None:
    champion = ledger.champion("growth")
    assert (champion.version, champion.seq, champion.promotion_id) == (None, 0, None)


def test_a_promotion_makes_the_version_the_champion(ledger: SqlLedger) -> None:
    promotion = ledger.decide(promoting(ledger), decision_for("3", as_of=date(2020, 3, 16)))
    champion = ledger.champion("growth")
    assert (champion.version, champion.seq, champion.as_of) == ("3", 1, date(2020, 3, 16))
    assert champion.promotion_id == promotion.id
    assert (promotion.seq, promotion.previous_version, promotion.projected_at) == (1, None, None)


def test_a_second_decision_of_a_run_is_its_first(ledger: SqlLedger) -> None:
    grant = promoting(ledger)
    first = ledger.decide(grant, decision_for("3"))
    assert ledger.decide(grant, decision_for("4", expected_seq=1)) == first
    assert ledger.promotion_of(grant.run_id) == first
    assert (ledger.champion("growth").version, len(ledger.promotions("growth"))) == ("3", 1)


def test_a_reclaimed_stage_finds_the_decision_and_the_stale_one_writes_none(timed: TimedLedger) -> None:
    ledger = timed.ledger
    stale = promoting(ledger)
    timed.advance(LEASE_S + 1)
    fresh = granted(ledger, stale.run_id, stale.stage, worker="w2")
    with pytest.raises(LeaseLost):
        ledger.decide(stale, decision_for("3"))
    assert ledger.promotions("growth") == []
    assert ledger.decide(fresh, decision_for("3")).version == "3"


@pytest.mark.parametrize("expected_seq", [0, 2])
def test_a_champion_that_is_not_the_compared_one_is_not_replaced(ledger: SqlLedger, expected_seq: int) -> None:
    ledger.decide(promoting(ledger), decision_for("3"))
    grant = promoting(ledger)
    with pytest.raises(ChampionMoved, match=f"at seq {expected_seq}"):
        ledger.decide(grant, decision_for("4", expected_seq=expected_seq))
    assert ledger.champion("growth").version == "3"
    assert ledger.promotion_of(grant.run_id) is None
    assert ledger.decide(grant, decision_for("4", expected_seq=1)).previous_version == "3"


def test_a_refusal_changes_no_champion_and_needs_no_seq(ledger: SqlLedger) -> None:
    ledger.decide(promoting(ledger), decision_for("3"))
    refusal = decision_for("4", decision="refuse", target_stage="Archived", expected_seq=0)
    assert ledger.decide(promoting(ledger), refusal).seq == 1
    assert (ledger.champion("growth").version, ledger.champion("growth").seq) == ("3", 1)


@pytest.mark.parametrize("decision", ["keep", "inconclusive", "await_approval"])
def test_what_was_compared_with_another_champion_is_not_recorded(ledger: SqlLedger, decision: str) -> None:
    ledger.decide(promoting(ledger), decision_for("3"))
    grant = promoting(ledger)
    with pytest.raises(ChampionMoved, match="at seq 0; it is 3 at seq 1"):
        ledger.decide(grant, decision_for("4", decision=decision, target_stage="Staging", expected_seq=0))
    assert ledger.promotion_of(grant.run_id) is None


def test_refusing_the_champion_itself_leaves_it_in_production(ledger: SqlLedger) -> None:
    ledger.decide(promoting(ledger), decision_for("3"))
    refusal = decision_for("3", decision="refuse", target_stage="Archived", expected_seq=1)
    assert ledger.decide(promoting(ledger), refusal).target_stage == "Production"
    assert ledger.champion("growth").version == "3"


@pytest.mark.parametrize("stage", ["Archived", "Staging", "None"])
def test_taking_the_champion_out_of_production_empties_the_place(ledger: SqlLedger, stage: str) -> None:
    ledger.record_transition("growth", decision_for("3", decision="manual"))
    taken = ledger.record_transition("growth", decision_for("3", target_stage=stage, expected_seq=1))
    assert (taken.run_id, taken.seq, taken.target_stage) == (None, 2, stage)
    assert (ledger.champion("growth").version, ledger.champion("growth").seq) == (None, 2)
    assert ledger.record_transition("growth", decision_for("4", expected_seq=2)).seq == 3


def test_moving_another_version_leaves_the_champion(ledger: SqlLedger) -> None:
    ledger.record_transition("growth", decision_for("3"))
    ledger.record_transition("growth", decision_for("2", target_stage="Staging", expected_seq=1))
    assert (ledger.champion("growth").version, ledger.champion("growth").seq) == ("3", 1)


def test_a_transition_by_hand_is_refused_when_the_champion_moved(ledger: SqlLedger) -> None:
    ledger.record_transition("growth", decision_for("3"))
    with pytest.raises(ChampionMoved):
        ledger.record_transition("growth", decision_for("4", expected_seq=0))
    with pytest.raises(ChampionMoved):
        ledger.record_transition("growth", decision_for("3", target_stage="Archived", expected_seq=5))
    assert len(ledger.promotions("growth")) == 1


def test_a_replay_has_a_champion_of_its_own_and_is_not_projected(ledger: SqlLedger) -> None:
    ledger.decide(promoting(ledger, namespace="replay-1"), decision_for("9"))
    assert ledger.champion("growth").version is None
    assert ledger.champion("growth", namespace="replay-1").version == "9"
    assert ledger.unprojected() == []
    assert ledger.promotions("growth") == []


def test_what_was_projected_is_not_projected_again(ledger: SqlLedger) -> None:
    first = ledger.record_transition("growth", decision_for("3"))
    second = ledger.record_transition("value", decision_for("1"))
    assert ledger.unprojected() == [first, second]
    ledger.projected(first.id)
    assert ledger.unprojected() == [second]
    assert ledger.promotions("growth")[0].projected_at is not None


def test_a_late_repair_never_shows_an_old_champion(ledger: SqlLedger) -> None:
    old = ledger.record_transition("growth", decision_for("3"))
    new = ledger.record_transition("growth", decision_for("4", expected_seq=1))
    ledger.projected(new.id)
    assert [(late.id, late.target_stage) for late in ledger.unprojected()] == [(old.id, "Archived")]


def test_a_decision_overtaken_by_a_later_one_about_its_version_is_not_projected(ledger: SqlLedger) -> None:
    ledger.record_transition("growth", decision_for("3"))
    ledger.record_transition("growth", decision_for("4", expected_seq=1))
    back = ledger.record_transition("growth", decision_for("3", decision="rollback", expected_seq=2))
    assert [(late.version, late.target_stage) for late in ledger.unprojected()] == [
        ("4", "Archived"),
        ("3", "Production"),
    ]
    ledger.projected(back.id)
    assert [late.version for late in ledger.unprojected()] == ["4"]


def test_decisions_are_read_newest_first(ledger: SqlLedger) -> None:
    for seq, version in enumerate(["1", "2", "3"]):
        ledger.record_transition("growth", decision_for(version, expected_seq=seq))
    assert [promotion.version for promotion in ledger.promotions(limit=2)] == ["3", "2"]
    assert ledger.promotions("value") == []


def test_a_run_without_a_decision_has_none(ledger: SqlLedger) -> None:
    assert ledger.promotion_of(promoting(ledger).run_id) is None


def judged(ledger: SqlLedger, version: str, decision: str, day: date | None = date(2020, 3, 16)) -> None:
    stage = "Archived" if decision in ("keep", "refuse") else "Staging"
    seq = ledger.champion("growth").seq
    made = decision_for(version, decision=decision, target_stage=stage, as_of=day, expected_seq=seq)
    ledger.decide(promoting(ledger), made)


def test_decisions_that_came_out_of_a_comparison_are_listed_with_whom_it_was(ledger: SqlLedger) -> None:
    judged(ledger, "2", "refuse")  # before there was a champion
    ledger.decide(promoting(ledger), decision_for("3"))
    for version, decision in (("4", "keep"), ("5", "refuse"), ("6", "inconclusive"), ("6", "keep"), ("7", "keep")):
        judged(ledger, version, decision)
    judged(ledger, "8", "await_approval", None)
    found = ledger.decisions_since("growth", since=date(2020, 1, 1))
    assert [(one.version, one.champion, one.decision) for one in found] == [
        ("3", None, "promote"),
        ("4", "3", "keep"),
        ("6", "3", "inconclusive"),
        ("6", "3", "keep"),
        ("7", "3", "keep"),
        ("8", "3", "await_approval"),
    ]
    assert ledger.decisions_since("value", since=date(2020, 1, 1)) == ()
    assert ledger.decisions_since("growth", since=date(2020, 1, 1), namespace="replay") == ()


def test_a_decision_says_which_model_it_was_about_and_what_it_spent(ledger: SqlLedger) -> None:
    ledger.decide(promoting(ledger), decision_for("3"))
    evidence = {
        "model_sha256": "ab" * 32,
        "common": {"data_fingerprint": "cd", "predictions_challenger": "ef"},
        "test": {"metric": "roc_auc", "margin": 0.01},
        "error": {"level": 0.00625, "spends": 0.003125},
        "missed_gates": [{"metric": "accuracy", "p_value": 0.2}],
    }
    ledger.decide(
        promoting(ledger),
        decision_for("4", decision="refuse", target_stage="Archived", as_of=date(2020, 3, 16), evidence=evidence),
    )
    untested = {"common": None, "test": None, "error": None, "missed_gates": []}
    ledger.decide(
        promoting(ledger),
        decision_for("5", decision="keep", target_stage="Archived", expected_seq=1, evidence=untested),
    )
    _, fourth, fifth = ledger.decisions_since("growth", since=date(2020, 1, 1))
    assert (fourth.version, fourth.champion, fourth.decision, fourth.day) == ("4", "3", "refuse", date(2020, 3, 16))
    assert (fourth.model_sha256, fourth.rows, fourth.predictions) == ("ab" * 32, "cd", "ef")
    assert (fourth.metric, fourth.margin, fourth.level, fourth.spends) == ("roc_auc", 0.01, 0.00625, 0.003125)
    assert fourth.missed == ("accuracy",)
    assert (fifth.version, fifth.level, fifth.spends, fifth.missed) == ("5", None, 0.0, ())


def test_decisions_count_from_a_day_on_by_the_date_of_their_decision(ledger: SqlLedger) -> None:
    ledger.decide(promoting(ledger), decision_for("3"))
    judged(ledger, "4", "keep", date(2020, 3, 15))
    judged(ledger, "5", "keep", date(2020, 3, 16))
    judged(ledger, "6", "keep", None)  # by the day on which it was written
    assert [one.version for one in ledger.decisions_since("growth", since=date(2020, 3, 16))][-2:] == ["5", "6"]
    assert ledger.decisions_since("growth", since=date(2999, 1, 1)) == ()


def test_the_newest_decision_about_a_version_is_the_last_one(ledger: SqlLedger) -> None:
    assert ledger.newest_decision("growth", "4", ModelIdentity()) is None
    judged(ledger, "4", "inconclusive")
    judged(ledger, "4", "keep")
    judged(ledger, "5", "refuse")
    newest = ledger.newest_decision("growth", "4", ModelIdentity())
    assert newest is not None
    assert newest.decision == "keep"


# --------------------------------------------------------------------------- what a version is known by

OLD, NEW = (ModelIdentity(sha256=letter * 64, made_by=f"run-{letter}") for letter in "ab")


def test_the_champion_is_known_by_what_its_promotion_recorded(ledger: SqlLedger) -> None:
    ledger.record_transition("growth", decision_for("3", identity=OLD, trained_as_of=date(2020, 3, 1)))
    champion = ledger.champion("growth")
    assert (champion.identity, champion.trained_as_of) == (OLD, date(2020, 3, 1))
    assert champion.is_version("3", OLD)
    assert not champion.is_version("3", NEW)
    assert not champion.is_version("4", OLD)


def test_a_refusal_of_another_model_with_the_champion_s_number_leaves_the_champion(ledger: SqlLedger) -> None:
    ledger.record_transition("growth", decision_for("1", identity=OLD))
    refusal = decision_for("1", identity=NEW, decision="refuse", target_stage="Archived", expected_seq=1)
    assert ledger.decide(promoting(ledger), refusal).target_stage == "Archived"
    assert ledger.champion("growth").identity == OLD


def test_a_run_s_own_version_is_not_the_champion_that_is_known_by_the_number_alone(ledger: SqlLedger) -> None:
    ledger.record_transition("growth", decision_for("1"))
    grant = promoting(ledger)
    refusal = decision_for("1", identity=ModelIdentity(sha256="c" * 64, made_by=grant.run_id), expected_seq=1)
    made = ledger.decide(grant, replace(refusal, decision="refuse", target_stage="Archived"))
    assert made.target_stage == "Archived"
    assert ledger.champion("growth").seq == 1


def test_decisions_about_two_models_with_one_number_do_not_overtake_each_other(ledger: SqlLedger) -> None:
    old = ledger.record_transition("growth", decision_for("1", identity=OLD))
    refusal = decision_for("1", identity=NEW, decision="refuse", target_stage="Archived", expected_seq=1)
    new = ledger.decide(promoting(ledger), refusal)
    assert ledger.unprojected() == [old, new]
    assert ledger.newest_decision("growth", "1", OLD) == old
    assert ledger.newest_decision("growth", "1", NEW) == new
    ledger.projected(new.id)
    assert ledger.unprojected() == [old]


def test_what_an_earlier_version_of_this_system_decided_counts_for_whatever_has_the_number(ledger: SqlLedger) -> None:
    first = ledger.record_transition("growth", decision_for("1"))
    assert ledger.newest_decision("growth", "1", NEW) == first
    ledger.identify(first.id, OLD)
    assert ledger.newest_decision("growth", "1", NEW) is None
    assert ledger.champion("growth").identity == OLD


def test_the_newest_judgement_is_not_a_person_s_move(ledger: SqlLedger) -> None:
    judged(ledger, "4", "refuse")
    moved = decision_for("4", decision="transition", target_stage="Staging")
    ledger.record_transition("growth", moved)
    newest = ledger.newest_decision("growth", "4", ModelIdentity(), judged=True)
    assert newest is not None
    assert newest.decision == "refuse"


def test_former_champions_are_those_that_were_in_production(ledger: SqlLedger) -> None:
    judged(ledger, "1", "refuse")
    for seq, version in enumerate(["2", "3", "2", "4"]):
        ledger.record_transition("growth", decision_for(version, expected_seq=seq))
    judged(ledger, "4", "keep")  # of the champion itself, which stays in Production
    assert [one.version for one in ledger.former_champions("growth")] == ["2", "3"]


def test_a_champion_that_was_restored_under_another_number_is_not_its_own_predecessor(ledger: SqlLedger) -> None:
    ledger.record_transition("growth", decision_for("5", identity=OLD))
    ledger.record_transition("growth", decision_for("1", identity=OLD, decision="restore", expected_seq=1))
    assert ledger.former_champions("growth") == []


def test_a_number_is_known_by_its_decisions_until_a_person_accepts_another_registry(timed: TimedLedger) -> None:
    ledger = timed.ledger
    ledger.record_transition("growth", decision_for("1", identity=OLD))
    assert ledger.known_models("growth", "1") == [OLD]
    assert ledger.known_models("growth", "2") == []
    timed.advance(1)
    ledger.accept_registry("growth", actor="ada", reason="made anew")
    assert ledger.known_models("growth", "1") == []
    timed.advance(1)
    refusal = decision_for("1", identity=NEW, decision="refuse", target_stage="Archived", expected_seq=1)
    ledger.record_transition("growth", refusal)
    assert ledger.known_models("growth", "1") == [NEW]


# --------------------------------------------------------------------------- findings about the registry


def test_a_finding_is_open_until_it_is_settled(ledger: SqlLedger) -> None:
    assert ledger.note_registry_finding("growth", "number_reused", "1 x", "version 1 is another model")
    assert not ledger.note_registry_finding("growth", "number_reused", "1 x", "version 1 is another model")
    assert ledger.note_registry_finding("value", "champion_missing", "seq 1", "gone")
    assert [one.words for one in ledger.registry_findings("growth")] == ["version 1 is another model"]
    assert len(ledger.registry_findings()) == 2
    assert ledger.accept_registry("growth", actor="ada", reason="made anew") == 1
    assert [one.strategy for one in ledger.registry_findings()] == ["value"]


def test_what_a_person_settled_stays_settled_and_what_passed_by_itself_may_come_again(ledger: SqlLedger) -> None:
    found = ("growth", "champion_missing", "seq 1", "gone")
    ledger.note_registry_finding(*found)  # type: ignore[arg-type]
    assert ledger.champion_seen("growth")
    assert not ledger.champion_seen("growth")
    assert ledger.note_registry_finding(*found)  # type: ignore[arg-type]
    ledger.accept_registry("growth", actor="ada", reason="it is gone for good")
    assert not ledger.note_registry_finding(*found)  # type: ignore[arg-type]
    assert ledger.registry_findings() == []
