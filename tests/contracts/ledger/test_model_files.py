"""Which digest the ledger has of a version's file, and from whom."""

from __future__ import annotations

import pytest

from mlops.domain.errors import LeaseLost
from mlops.domain.records import Grant, Kind, ModelIdentity, RunState, Stage, StageOutcome
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import LEASE_S, TimedLedger, decision_for, granted, request_for

NAME = "acis_growth_classifier"
OURS, OTHER = "a" * 64, "b" * 64


def training(ledger: SqlLedger) -> Grant:
    accepted = ledger.accept(request_for(kind=Kind.TRAIN))
    return granted(ledger, accepted.run_id, Stage.TRAIN)


def as_an_earlier_version_did(ledger: SqlLedger, grant: Grant, version: str, sha256: str) -> None:
    """The digest stands in the stage's result alone."""
    result = {"model_name": NAME, "version": version, "model_sha256": sha256, "metrics": {"accuracy": 0.7}}
    ledger.finish(grant, StageOutcome(result=result, run_state=RunState.SUCCEEDED))


def test_a_version_of_which_nothing_is_recorded_has_no_digest(ledger: SqlLedger) -> None:
    assert ledger.recorded_model(NAME, "1") == ModelIdentity()


def test_a_training_notes_its_file_before_it_has_a_number_and_once_however_often_it_is_told(ledger: SqlLedger) -> None:
    grant = training(ledger)
    for _ in range(2):
        ledger.note_model_file(grant, NAME, OURS)
    assert ledger.noted_model_files(grant.run_id) == {OURS}
    assert ledger.recorded_model(NAME, "1").sha256 is None
    ledger.note_model_file(grant, NAME, OURS, version="1")
    assert ledger.recorded_model(NAME, "1") == ModelIdentity(sha256=OURS, made_by=grant.run_id)


def test_who_lost_the_lease_notes_nothing(timed: TimedLedger) -> None:
    stale = training(timed.ledger)
    timed.advance(LEASE_S + 1)
    granted(timed.ledger, stale.run_id, Stage.TRAIN, worker="w2")
    with pytest.raises(LeaseLost):
        timed.ledger.note_model_file(stale, NAME, OURS, version="1")
    assert timed.ledger.noted_model_files(stale.run_id) == frozenset()


def test_a_number_that_a_registry_made_anew_gives_again_is_of_the_newest_training(ledger: SqlLedger) -> None:
    first = training(ledger)
    ledger.note_model_file(first, NAME, OURS, version="1")
    ledger.finish(first, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    second = training(ledger)
    ledger.note_model_file(second, NAME, OTHER, version="1")
    assert ledger.recorded_model(NAME, "1") == ModelIdentity(sha256=OTHER, made_by=second.run_id)


def test_what_a_person_records_is_audited_with_the_reason(ledger: SqlLedger) -> None:
    identity = ModelIdentity(sha256=OURS, made_by="their-run")
    ledger.record_model_file(NAME, "7", identity, actor="ada", reason="trained by the research team")
    assert ledger.recorded_model(NAME, "7") == identity
    (line,) = ledger.audit_lines(action="model.record")
    assert (line.actor, line.subject) == ("ada", NAME)
    assert line.detail == {"version": "7", "model_sha256": OURS, "reason": "trained by the research team"}


def test_the_result_of_a_worker_of_an_earlier_version_counts_and_outlives_its_run(timed: TimedLedger) -> None:
    ledger, grant = timed.ledger, training(timed.ledger)
    as_an_earlier_version_did(ledger, grant, "3", OURS)
    known = ModelIdentity(sha256=OURS, made_by=grant.run_id)
    assert ledger.recorded_model(NAME, "3") == known
    assert [ledger.keep_model_files(), ledger.keep_model_files()] == [1, 0]
    timed.advance(86_400 * 400)
    assert ledger.purge_runs(older_than_days=365) == 1
    assert ledger.recorded_model(NAME, "3") == known


@pytest.mark.parametrize(("decision", "counts"), [("promote", True), ("refuse", False), ("manual", False)])
def test_a_decision_about_the_bytes_counts_and_one_that_may_repeat_a_tag_does_not(
    ledger: SqlLedger, decision: str, counts: bool
) -> None:
    identity = ModelIdentity(sha256=OURS, made_by="a-run-of-long-ago")
    stage = "Archived" if decision == "refuse" else "Production"
    ledger.record_transition("growth", decision_for("3", decision=decision, target_stage=stage, identity=identity))
    assert ledger.recorded_model(NAME, "3") == (identity if counts else ModelIdentity())


def test_changes_by_hand_that_follow_one_another_are_one_episode(timed: TimedLedger) -> None:
    ledger = timed.ledger

    def note(shown: str, words: str) -> bool:
        return ledger.note_changed_by_hand("growth", words, done="reverted", shown=shown, champion="1", episode_s=600)

    assert [note("7", "first"), note("7", "again"), note("8", "another")] == [True, False, True]
    audited = [line.detail for line in ledger.audit_lines(action="registry.reverted")]
    assert audited == [{"shown": "8", "champion": "1"}, {"shown": "7", "champion": "1"}]  # with what was told, once
    (change,) = ledger.changes_by_hand(within_s=60)
    assert (change.words, change.n_times) == ("another", 3)
    assert ledger.registry_findings() == []  # it stops no promotion
    timed.advance(601)
    assert note("7", "an hour later")
    assert [one.n_times for one in ledger.changes_by_hand(within_s=3600)] == [1, 3]


def test_what_was_found_out_since_is_said_of_the_newest_change_alone(timed: TimedLedger) -> None:
    ledger = timed.ledger
    for words in ("first", "second"):
        ledger.note_changed_by_hand("growth", words, done="reverted", shown="7", champion="1", episode_s=600)
        timed.advance(601)
    ledger.reword_change("growth", "second, and why")
    ledger.reword_change("value", "nothing was changed there")
    changes = ledger.changes_by_hand(within_s=3600)
    assert [(one.words, one.n_times) for one in changes] == [("second, and why", 1), ("first", 1)]


def test_a_file_that_names_a_training_which_made_another_is_not_measured_by_it(ledger: SqlLedger) -> None:
    grant = training(ledger)
    as_an_earlier_version_did(ledger, grant, "3", OURS)
    ours, theirs = (ModelIdentity(sha256=sha256, made_by=grant.run_id) for sha256 in (OURS, OTHER))
    assert ledger.training_facts(ours)[1] == {"accuracy": 0.7}
    assert ledger.training_facts(theirs) == ({}, {})
    # A champion of before is known by its run alone.
    assert ledger.training_facts(ModelIdentity(made_by=grant.run_id))[1] == {"accuracy": 0.7}


def test_a_file_that_no_run_made_is_recorded_under_its_own_number(ledger: SqlLedger) -> None:
    for version, sha256 in (("3", OURS), ("4", OTHER)):
        ledger.record_model_file(NAME, version, ModelIdentity(sha256=sha256), actor="ada", reason="ours")
    assert ledger.recorded_model(NAME, "3") == ModelIdentity(sha256=OURS, made_by=f"{NAME}.v3")
    assert ledger.noted_model_files("None") == frozenset()


def test_what_was_measured_of_a_model_that_was_decided_about_outlives_its_run_s_age(timed: TimedLedger) -> None:
    ledger, grant = timed.ledger, training(timed.ledger)
    as_an_earlier_version_did(ledger, grant, "3", OURS)
    identity = ModelIdentity(sha256=OURS, made_by=grant.run_id)
    ledger.record_transition("growth", decision_for("3", identity=identity))
    timed.advance(86_400 * 400)
    assert ledger.purge_runs(older_than_days=365) == 0
    assert ledger.training_facts(identity)[1] == {"accuracy": 0.7}
