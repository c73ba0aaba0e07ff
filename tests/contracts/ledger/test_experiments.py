"""Experiments in the ledger: one at a time, each looked at once a day, and ended once, whoever comes at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from structlog.testing import capture_logs

from mlops.domain.errors import (
    ChampionMoved,
    DataError,
    ExperimentEnded,
    ExperimentNotFound,
    ExperimentRunning,
    InvalidTransition,
    LeaseLost,
)
from mlops.domain.experiments.decision import Action, Guardrail
from mlops.domain.experiments.records import (
    LATENCY_BOUNDS_MS,
    AnswerCount,
    Experiment,
    Look,
)
from mlops.domain.records import Grant, Kind, Stage
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.live.experiments import Act
from tests.support.at_once import at_once
from tests.support.experiments import BEGAN, OLD, PLAN, look, new_experiment, promotion, started
from tests.support.ledgers import LEASE_S, TimedLedger, as_user, decision_for, granted, promoting, request_for
from tests.support.processes import kill_at

BROKEN = Guardrail(name="error rate", value=0.4, bound=0.01, n=900, min_n=200)


def scoring(ledger: SqlLedger) -> Grant:
    """A claimed score stage of a new run."""
    asked = request_for("growth", Kind.SCORE, as_of=BEGAN, slot=f"{ledger.now():%H%M%S%f}")
    accepted = ledger.accept(asked)
    return granted(ledger, accepted.run_id, Stage.SCORE)


@contextmanager
def scored(ledger: SqlLedger) -> Iterator[Grant]:
    """The same, over afterwards: of a kind one run is active."""
    grant = scoring(ledger)
    yield grant
    ledger.cancel(grant.run_id, actor="test")
    ledger.release(grant, cause="done")


def noted(ledger: SqlLedger, made: Experiment, *looks: Look) -> Experiment:
    """The experiment after these looks, of a run each."""
    for one in looks:
        with scored(ledger) as grant:
            made = ledger.note_look(grant, made.id, one, promotion() if one.action is Action.PROMOTE else None)
    return made


def audited(ledger: SqlLedger) -> list[tuple[str, str]]:
    return [(line.action, line.actor) for line in reversed(ledger.audit_lines(action="experiment"))]


# --------------------------------------------------------------------------- start


def test_an_experiment_is_read_as_it_was_started(ledger: SqlLedger) -> None:
    made = started(ledger)
    assert replace(made, id=0) == Experiment(
        **vars(new_experiment()), id=0, step=0, step_since=BEGAN, held=False, started_at=made.started_at
    )
    assert ledger.experiment(made.id) == ledger.running_experiment("growth") == made
    assert ledger.experiments("growth") == ledger.experiments() == [made]
    assert ledger.running_experiment("growth", namespace="replay") is None
    assert ledger.experiments("value") == ledger.experiments(namespace="replay") == []
    assert audited(ledger) == [("experiment.start", "ada")]


def test_a_plan_of_another_version_of_this_system_is_read(timed: TimedLedger) -> None:
    made = started(timed.ledger)
    with timed.owner.transaction() as connection:
        statement = "UPDATE mlops_experiment SET plan = (plan - 'keys') || '{\"of_tomorrow\": 1}'"
        connection.execute(text(statement))
    assert timed.ledger.experiment(made.id).plan == replace(PLAN, keys=())


def test_one_whose_plan_is_newer_than_the_code_hides_no_other(timed: TimedLedger) -> None:
    started(timed.ledger)
    timed.ledger.record_transition("value", decision_for("1", identity=OLD))
    other = timed.ledger.start_experiment(new_experiment(strategy="value"))
    with timed.owner.transaction() as connection:
        statement = (
            "UPDATE mlops_experiment SET plan = plan || '{\"measure\": \"of_tomorrow\"}' WHERE strategy = 'growth'"
        )
        connection.execute(text(statement))
    with capture_logs() as logs:
        assert timed.ledger.running_experiments() == [other]
    assert [(line["event"], line["strategy"]) for line in logs] == [("experiment.not_read", "growth")]


def test_one_at_a_time_runs_of_a_strategy(ledger: SqlLedger) -> None:
    made = started(ledger)
    with pytest.raises(ExperimentRunning, match=rf"experiment {made.id}, with version 2, since .* by ada"):
        ledger.start_experiment(new_experiment(challenger_version="3"))
    ledger.steer_experiment(made.id, "abort", by="ada", reason="enough")
    second = ledger.start_experiment(new_experiment())
    assert [one.id for one in ledger.experiments("growth")] == [second.id, made.id]


def test_an_experiment_is_against_the_champion_that_is_there(ledger: SqlLedger) -> None:
    with pytest.raises(ChampionMoved, match="against version 1 at seq 1; the champion is none at seq 0"):
        ledger.start_experiment(new_experiment())
    ledger.record_transition("growth", decision_for("1", identity=OLD))
    with pytest.raises(ChampionMoved, match="the champion is 1 at seq 1"):
        ledger.start_experiment(new_experiment(champion_seq=2))


def test_an_experiment_that_is_not_there_is_named(ledger: SqlLedger) -> None:
    made = started(ledger)
    for ask in (
        lambda: ledger.experiment(made.id + 1),
        lambda: ledger.steer_experiment(made.id + 1, "hold", by="ada", reason="r"),
        lambda: ledger.note_look(promoting(ledger, "value"), made.id, look(1)),  # another strategy's
    ):
        with pytest.raises(ExperimentNotFound):
            ask()


# --------------------------------------------------------------------------- looks


def test_a_look_is_read_as_it_was_written(ledger: SqlLedger) -> None:
    made = started(ledger)
    first = look(1, guardrails=(BROKEN,), low=-0.002, high=math.inf)
    unknown = look(2, mean=None, guardrails=(replace(BROKEN, value=math.nan),))
    noted(ledger, made, first, unknown)
    found = ledger.looks(made.id)
    assert found[0] == first
    assert (found[1].mean, math.isnan(found[1].guardrails[0].value)) == (None, True)


def test_a_second_look_of_a_date_changes_nothing(ledger: SqlLedger) -> None:
    made = started(ledger)
    there = noted(ledger, made, look(5, Action.ADVANCE))
    assert (there.step, there.share, there.step_since) == (1, 0.05, BEGAN + timedelta(days=5))
    again = look(5, Action.ADVANCE, share=0.05)
    assert noted(ledger, made, look(5, Action.ADVANCE), again, look(4, Action.KEEP)) == there
    assert [one.as_of for one in ledger.looks(made.id)] == [BEGAN + timedelta(days=5)]


def test_a_look_that_promotes_swaps_the_champion_and_ends_the_experiment(ledger: SqlLedger) -> None:
    made = started(ledger)
    with scored(ledger) as grant:
        ended = ledger.note_look(grant, made.id, look(9, Action.PROMOTE), promotion())
        assert ledger.note_look(grant, made.id, look(9, Action.PROMOTE), promotion()) == ended
    decided = ledger.promotion_of(grant.run_id)
    assert decided is not None
    assert (ended.end, ended.promotion_id, ended.end_words) == (Action.PROMOTE, decided.id, "promote on day 9")
    champion = ledger.champion("growth")
    assert (champion.version, champion.seq, champion.promotion_id) == ("2", 2, decided.id)
    assert ledger.running_experiment("growth") is None
    assert audited(ledger)[1:] == [("experiment.promote", "policy")]


@pytest.mark.parametrize("action", [Action.KEEP, Action.UNDECIDED, Action.ABORT])
def test_other_ends_leave_the_champion(ledger: SqlLedger, action: Action) -> None:
    made = started(ledger)
    ended = noted(ledger, made, look(9, action))
    assert (ended.end, ended.ended_by, ended.promotion_id, ended.is_running) == (action, "policy", None, False)
    assert ledger.champion("growth").seq == 1
    assert noted(ledger, made, look(10, Action.PROMOTE)) == ended
    assert len(ledger.looks(made.id)) == 1


def test_an_end_that_a_person_is_to_approve_is_recorded_and_swaps_nothing(ledger: SqlLedger) -> None:
    made = started(ledger)
    waits = promotion(decision="await_approval", target_stage="Staging")
    ended = ledger.note_look(scoring(ledger), made.id, look(9, Action.PROMOTE), waits)
    (decided, _) = ledger.promotions("growth")
    assert (ended.promotion_id, decided.decision, ledger.champion("growth").seq) == (decided.id, "await_approval", 1)


def test_a_decision_and_its_action_come_together(ledger: SqlLedger) -> None:
    made = started(ledger)
    grant = scoring(ledger)
    with pytest.raises(ValueError, match="promote lacks its decision"):
        ledger.note_look(grant, made.id, look(1, Action.PROMOTE))
    with pytest.raises(ValueError, match="wait has a decision"):
        ledger.note_look(grant, made.id, look(1), promotion())


def test_a_look_by_whoever_lost_the_stage_writes_nothing(timed: TimedLedger) -> None:
    ledger = timed.ledger
    made = started(ledger)
    stale = scoring(ledger)
    timed.advance(LEASE_S + 1)
    fresh = granted(ledger, stale.run_id, stale.stage, worker="w2")
    with pytest.raises(LeaseLost):
        ledger.note_look(stale, made.id, look(9, Action.PROMOTE), promotion())
    assert (ledger.looks(made.id), ledger.champion("growth").seq) == ([], 1)
    assert ledger.note_look(fresh, made.id, look(9, Action.PROMOTE), promotion()).end is Action.PROMOTE
    with pytest.raises(LeaseLost):
        ledger.note_look(stale, made.id, look(9, Action.PROMOTE), promotion())
    assert ledger.champion("growth").seq == 2


def test_a_look_that_cannot_be_committed_leaves_no_part_of_it(ledger: SqlLedger) -> None:
    made = started(ledger)
    with pytest.raises(DataError):
        ledger.note_look(scoring(ledger), made.id, look(9, Action.PROMOTE), promotion(model_name="n" * 256))
    assert (ledger.looks(made.id), ledger.experiment(made.id)) == ([], made)


# --------------------------------------------------------------------------- a person beside it


def test_a_person_holds_releases_and_advances(ledger: SqlLedger) -> None:
    made = started(ledger)
    noted(ledger, made, look(3))
    asked: list[tuple[Act, bool, int]] = [
        ("hold", True, 0), ("hold", True, 0), ("release", False, 0), ("advance", False, 1), ("advance", False, 2)
    ]  # fmt: skip
    for act, held, step in asked:
        there = ledger.steer_experiment(made.id, act, by="bob", reason="r")
        assert (there.held, there.step) == (held, step)
    assert there.step_since == BEGAN + timedelta(days=3)
    with pytest.raises(InvalidTransition, match="on its last step, 100%"):
        ledger.steer_experiment(made.id, "advance", by="bob", reason="r")
    ended = ledger.steer_experiment(made.id, "abort", by="bob", reason="a bad day")
    assert (ended.end, ended.ended_by, ended.end_words) == (Action.ABORT, "bob", "a bad day")
    with pytest.raises(ExperimentEnded, match="ended as abort: a bad day"):
        ledger.steer_experiment(made.id, "abort", by="bob", reason="again")
    acts = [action.removeprefix("experiment.") for action, _ in audited(ledger)]
    assert acts == ["start", "hold", "release", "advance", "advance", "abort"]


def test_a_request_to_advance_that_is_sent_twice_advances_once(ledger: SqlLedger) -> None:
    made = started(ledger)
    for _ in range(2):
        assert ledger.steer_experiment(made.id, "advance", by="bob", reason="r", from_step=0).step == 1
    assert audited(ledger)[1:] == [("experiment.advance", "bob")]


@pytest.mark.parametrize(
    ("act", "wanted", "step", "words"),
    [
        ("hold", Action.ADVANCE, 0, "held by a person meanwhile; it was about to advance"),
        ("hold", Action.PROMOTE, 0, "held by a person meanwhile; it was about to promote"),
        ("advance", Action.ADVANCE, 1, "moved to 5% meanwhile; it was about to advance"),
    ],
)
def test_a_look_leaves_what_a_person_changed_meanwhile(
    ledger: SqlLedger, act: Act, wanted: Action, step: int, words: str
) -> None:
    made = started(ledger)
    there = ledger.steer_experiment(made.id, act, by="bob", reason="r")
    assert noted(ledger, made, look(5, wanted)) == there
    assert there.step == step
    (found,) = ledger.looks(made.id)
    assert found.action is Action.WAIT
    assert words in found.words


def test_a_guardrail_ends_it_once(ledger: SqlLedger) -> None:
    made = started(ledger)
    ended = ledger.break_guardrail(made.id, [BROKEN], "ended by a guardrail: error rate is 0.4, and may be 0.01")
    assert (ended.end, ended.ended_by) == (Action.ABORT, "policy")
    assert ledger.break_guardrail(made.id, [BROKEN], "again") == ended
    (_, line) = reversed(ledger.audit_lines(action="experiment"))
    assert line.detail["guardrails"][0]["value"] == BROKEN.value


# --------------------------------------------------------------------------- a champion that changes underneath

SWAPS: dict[str, Callable[[SqlLedger], object]] = {
    "version 3 is the champion now, by policy (promote)": lambda ledger: ledger.decide(
        promoting(ledger), decision_for("3", expected_seq=1)
    ),
    "version 3 is the champion now, by cleo (manual)": lambda ledger: ledger.record_transition(
        "growth", decision_for("3", decision="manual", actor="cleo", expected_seq=1)
    ),
    "version 0 is the champion now, by policy (rollback)": lambda ledger: ledger.decide(
        promoting(ledger), decision_for("0", decision="rollback", expected_seq=1)
    ),
    "there is no champion now, by cleo (transition)": lambda ledger: ledger.record_transition(
        "growth",
        decision_for("1", identity=OLD, decision="transition", actor="cleo", target_stage="Archived", expected_seq=1),
    ),
}


@pytest.mark.parametrize("words", SWAPS)
def test_a_champion_that_is_swapped_ends_the_experiment_with_the_reason(ledger: SqlLedger, words: str) -> None:
    made = started(ledger)
    SWAPS[words](ledger)
    ended = ledger.experiment(made.id)
    assert (ended.end, ended.end_words, ended.promotion_id) == (Action.ABORT, f"ended: {words}", None)
    assert audited(ledger)[-1][0] == "experiment.abort"
    assert noted(ledger, made, look(9, Action.PROMOTE)) == ended


def test_decisions_that_swap_no_champion_and_other_strategies_leave_it(ledger: SqlLedger) -> None:
    made = started(ledger)
    ledger.decide(promoting(ledger), decision_for("3", decision="keep", target_stage="Archived", expected_seq=1))
    ledger.record_transition("value", decision_for("8"))
    ledger.record_transition("growth", decision_for("8"), namespace="replay")
    with pytest.raises(ChampionMoved):
        ledger.decide(promoting(ledger), decision_for("3", expected_seq=0))
    assert ledger.running_experiment("growth") == made


def swapped_by_older_code(timed: TimedLedger) -> None:
    """A swap that knows of no experiments."""
    with timed.owner.transaction() as connection:
        connection.execute(text("UPDATE mlops_champion SET seq = 2, version = '9'"))


def test_one_whose_champion_older_code_swapped_is_not_served_and_ends_at_its_next_look(timed: TimedLedger) -> None:
    made = started(timed.ledger)
    swapped_by_older_code(timed)
    assert timed.ledger.serving_state("growth").experiment is None
    assert timed.ledger.running_experiment("growth") == made
    ended = noted(timed.ledger, made, look(9, Action.PROMOTE))
    assert (ended.end, ended.end_words) == (Action.ABORT, "ended: 9 is the champion now, at seq 2")
    assert timed.ledger.champion("growth").version == "9"


def test_one_whose_champion_older_code_swapped_makes_room_for_another(timed: TimedLedger) -> None:
    made = started(timed.ledger)
    swapped_by_older_code(timed)
    second = timed.ledger.start_experiment(new_experiment(champion_version="9", champion_seq=2))
    assert timed.ledger.running_experiment("growth") == second
    assert timed.ledger.experiment(made.id).end is Action.ABORT


# --------------------------------------------------------------------------- a ledger that was set back


def test_in_a_ledger_that_was_set_back_nobody_is_answered_by_a_challenger_until_a_person_says_so(
    ledger: SqlLedger,
) -> None:
    made = started(ledger)
    ledger.was_set_back(to=datetime(2026, 1, 9, tzinfo=UTC))
    paused = ledger.serving_state("growth").experiment
    assert paused is not None
    assert (paused.paused, paused.share, paused.assignment.is_challengers("AAPL")) == (True, 0.0, False)
    assert noted(ledger, made, look(9, Action.PROMOTE), look(10, Action.ADVANCE)) == paused
    assert {one.action for one in ledger.looks(made.id)} == {Action.WAIT}
    with pytest.raises(InvalidTransition, match="release it first"):
        ledger.steer_experiment(made.id, "advance", by="bob", reason="r")
    assert ledger.steer_experiment(made.id, "release", by="bob", reason="nobody had ended it") == made
    assert [action for action, _ in audited(ledger)][1:] == ["experiment.pause", "experiment.release"]
    assert noted(ledger, made, look(11, Action.PROMOTE)).end is Action.PROMOTE


# --------------------------------------------------------------------------- whoever comes at once


@pytest.fixture
def two_ledgers(timed: TimedLedger, ledger_postgres_url: str) -> Iterator[list[SqlLedger]]:
    timed.wipe()
    pair = [open_ledger(as_user(ledger_postgres_url, "acis_ledger"), lease_s=LEASE_S) for _ in range(2)]
    yield pair
    for one in pair:
        one.close()


ROUNDS = 8


def test_of_two_starts_at_once_one_is_made(ledger: SqlLedger, two_ledgers: list[SqlLedger]) -> None:
    ledger.record_transition("growth", decision_for("1", identity=OLD))

    def start(one: SqlLedger) -> Experiment | None:
        try:
            return one.start_experiment(new_experiment())
        except ExperimentRunning:
            return None

    for n in range(ROUNDS):
        (made,) = [found for found in at_once(two_ledgers, start) if found is not None]
        assert len(ledger.experiments("growth")) == n + 1
        ledger.steer_experiment(made.id, "abort", by="test", reason="next round")


def test_a_promotion_by_a_run_beside_a_look_that_promotes_makes_one_champion(
    ledger: SqlLedger, two_ledgers: list[SqlLedger]
) -> None:
    ledger.record_transition("growth", decision_for("1", identity=OLD))
    for _ in range(ROUNDS):
        before = ledger.champion("growth")
        made = ledger.start_experiment(
            new_experiment(champion_version=before.version, champion_seq=before.seq, champion=before.identity)
        )
        with scored(ledger) as grant:
            run, chosen = promoting(ledger), promotion(expected_seq=before.seq)

            def act(one: SqlLedger) -> object:
                if one is two_ledgers[0]:
                    return one.note_look(grant, made.id, look(9, Action.PROMOTE), chosen)  # noqa: B023 -- at once
                try:
                    return one.decide(run, decision_for("3", expected_seq=before.seq))  # noqa: B023
                except ChampionMoved:
                    return None

            by_look, by_run = at_once(two_ledgers, act)
        assert isinstance(by_look, Experiment)
        champion = ledger.champion("growth")
        assert champion.seq == before.seq + 1
        assert (by_look.end, champion.version) == ((Action.PROMOTE, "2") if by_run is None else (Action.ABORT, "3"))
        assert (by_look.promotion_id is not None) == (by_run is None)
        assert ledger.experiment(made.id) == by_look


def test_two_processes_that_note_one_look_find_the_same(ledger: SqlLedger, two_ledgers: list[SqlLedger]) -> None:
    made = started(ledger)
    for day in range(1, ROUNDS):
        with scored(ledger) as grant:
            found = at_once(two_ledgers, lambda one: one.note_look(grant, made.id, look(day)))  # noqa: B023 -- at once
        assert found == [made, made]
    with scored(ledger) as grant:
        found = at_once(two_ledgers, lambda one: one.note_look(grant, made.id, look(9, Action.PROMOTE), promotion()))
    assert found[0] == found[1] == ledger.experiment(made.id)
    assert (len(ledger.looks(made.id)), ledger.champion("growth").seq) == (ROUNDS, 2)


def test_a_person_who_aborts_beside_a_look_that_promotes_ends_it_once(
    ledger: SqlLedger, two_ledgers: list[SqlLedger]
) -> None:
    made = started(ledger)
    with scored(ledger) as grant:

        def act(one: SqlLedger) -> Experiment | None:
            if one is two_ledgers[0]:
                return one.note_look(grant, made.id, look(9, Action.PROMOTE), promotion())
            try:
                return one.steer_experiment(made.id, "abort", by="bob", reason="a bad day")
            except ExperimentEnded:
                return None

        by_look, by_person = at_once(two_ledgers, act)
    assert by_look is not None
    assert by_look.end is (Action.PROMOTE if by_person is None else Action.ABORT)
    assert (ledger.champion("growth").seq == 2) == (by_person is None)


# --------------------------------------------------------------------------- a kill at each of a look's failpoints

LOOKS = """
import sys
from mlops.domain.experiments.decision import Action
from mlops.domain.records import Stage
from mlops.ledger.ledger import open_ledger
from tests.support.experiments import look, promotion
from tests.support.ledgers import granted

url, run_id, experiment_id = sys.argv[1:]
ledger = open_ledger(url)
grant = granted(ledger, run_id, Stage.SCORE)
ledger.note_look(grant, int(experiment_id), look(9, Action.PROMOTE), promotion())
"""


@pytest.mark.parametrize(("place", "seq"), [("before_commit", 1), ("committed", 2)])
def test_whoever_is_killed_at_a_look_leaves_one_decision_once(
    timed: TimedLedger, ledger_postgres_url: str, tmp_path: Path, place: str, seq: int
) -> None:
    ledger = timed.ledger
    made = started(ledger)
    run = ledger.accept(request_for("growth", Kind.SCORE, as_of=BEGAN))
    arguments = [as_user(ledger_postgres_url, "acis_ledger"), run.run_id, str(made.id)]
    kill_at(f"ledger.note_look.{place}", LOOKS, arguments, tmp_path)
    assert ledger.champion("growth").seq == seq
    timed.advance(LEASE_S + 1)
    grant = granted(ledger, run.run_id, Stage.SCORE, worker="w2")
    ended = ledger.note_look(grant, made.id, look(9, Action.PROMOTE), promotion())
    assert (ended.end, ended.promotion_id) == (Action.PROMOTE, ledger.champion("growth").promotion_id)
    assert (len(ledger.looks(made.id)), ledger.champion("growth").seq, len(ledger.promotions("growth"))) == (1, 2, 2)
    assert audited(ledger)[1:] == [("experiment.promote", "policy")]


# --------------------------------------------------------------------------- whoever serves


@pytest.fixture
def serving(timed: TimedLedger, ledger_postgres_url: str) -> Iterator[SqlLedger]:
    """The ledger as the prediction service's user sees it."""
    timed.wipe()
    opened = open_ledger(as_user(ledger_postgres_url, "acis_serve"))
    yield opened
    opened.close()


def test_who_answers_is_one_statement_that_reads_by_keys(ledger: SqlLedger, serving: SqlLedger) -> None:
    nothing = serving.serving_state("growth")
    assert (nothing.champion.seq, nothing.experiment) == (0, None)
    made = started(ledger)
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(serving.database._engine, "after_cursor_execute", note)
    state = serving.serving_state("growth")
    assert [statement.partition(" ")[0] for statement in sent] == ["EXECUTE"]
    assert (state.champion, state.experiment) == (ledger.champion("growth"), made)
    with serving.database.reading() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        explained = sent[0].replace("%(asked)s", "'growth'")
        for name in ("namespace_1", "namespace_2"):
            explained = explained.replace(f"%({name})s", "'live'")
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {explained}").scalars())
        connection.exec_driver_sql("RESET enable_seqscan")
    assert "Seq Scan" not in plan
    # By the one that the planner finds cheaper for the rows that other tests have left.
    assert "uq_mlops_experiment_running" in plan or "ix_mlops_experiment_strategy" in plan
    ledger.steer_experiment(made.id, "abort", by="ada", reason="enough")
    assert serving.serving_state("growth").experiment is None


N_BUCKETS = len(LATENCY_BOUNDS_MS) + 1
NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def counts(n: int, *, minute: datetime = NOON, **changes: Any) -> AnswerCount:
    latency = (n, *[0] * (N_BUCKETS - 2), 1)
    found: dict[str, Any] = {
        "strategy": "growth", "version": "2", "model_sha256": "b" * 64, "variant": "challenger", "minute": minute,
        "writer": "p1", "n": n, "n_errors": 0, "n_positive": n // 2, "n_missing_rows": 1, "latency_ms": latency,
    }  # fmt: skip
    return AnswerCount(**{**found, **changes})


def test_counts_of_a_minute_count_up_are_written_twice_without_harm_and_are_read_of_all_processes_together(
    serving: SqlLedger,
) -> None:
    serving.count_answers([])
    serving.count_answers([counts(3), counts(5, variant="champion", version="1")])
    serving.count_answers([counts(7)])
    serving.count_answers([counts(7)])
    serving.count_answers([counts(3)])  # of a moment before, late
    serving.count_answers([counts(2, writer="p2"), counts(1, minute=NOON + timedelta(minutes=1))])
    found = serving.answer_counts("growth", since=NOON)
    both = counts(7 + 2, writer="", n_positive=3 + 1, n_missing_rows=2, latency_ms=(9, *[0] * (N_BUCKETS - 2), 2))
    others = [
        counts(5, variant="champion", version="1", writer=""),
        counts(1, minute=NOON + timedelta(minutes=1), writer=""),
    ]
    assert found == [both, *others]
    (hour, _) = serving.answer_counts("growth", since=NOON, by="hour")
    assert (hour.minute, hour.variant, hour.n, hour.latency_ms[0]) == (NOON, "challenger", 7 + 2 + 1, 7 + 2 + 1)
    assert serving.answer_counts("growth", since=NOON + timedelta(minutes=1)) == found[-1:]
    assert serving.answer_counts("value", since=NOON) == []


def test_counts_have_their_buckets() -> None:
    with pytest.raises(ValueError, match=f"{N_BUCKETS} buckets, not in 2"):
        counts(1, latency_ms=(1, 0))


def test_counts_of_a_month_ago_are_taken_away(timed: TimedLedger, serving: SqlLedger) -> None:
    now = timed.ledger.now().replace(second=0, microsecond=0)
    serving.count_answers([counts(1, minute=now - timedelta(days=days)) for days in (0, 29, 31, 32)])
    assert timed.ledger.purge_answers(older_than_days=30, limit=1) == 1
    assert timed.ledger.purge_answers(older_than_days=30) == 1
    assert len(serving.answer_counts("growth", since=now - timedelta(days=99))) == 2
