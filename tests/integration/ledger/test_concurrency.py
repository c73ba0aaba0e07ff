"""Real threads on a real PostgreSQL: whoever comes at once, one wins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlops.domain.errors import ChampionMoved
from mlops.domain.promotion.records import Promotion
from mlops.domain.records import Kind, Publication, RunState, Stage, StageOutcome
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from tests.support.at_once import at_once
from tests.support.ledgers import accepted_and_sent, decision_for, granted, promoting, request_for

CLAIMANTS = 8
ROUNDS = 10


@pytest.fixture
def ledgers(postgres_url: str) -> Iterator[list[SqlLedger]]:
    """As many as there are claimants, each with connections of its own."""
    migrate(postgres_url)
    opened = [open_ledger(postgres_url) for _ in range(CLAIMANTS)]
    yield opened
    for ledger in opened:
        ledger.close()


def test_of_eight_claimants_exactly_one_gets_the_stage(ledgers: list[SqlLedger]) -> None:
    for _ in range(ROUNDS):
        run_id = accepted_and_sent(ledgers[0]).run_id
        grants = at_once(ledgers, lambda ledger, run_id=run_id: ledger.claim(run_id, Stage.DRIFT, worker="w"))  # type: ignore[misc]
        (grant,) = [grant for grant in grants if grant is not None]
        assert grant.token == 1
        ledgers[0].finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED))


def test_of_eight_requests_one_creates_the_run_and_all_get_it(ledgers: list[SqlLedger]) -> None:
    for _ in range(ROUNDS):
        answers = at_once(ledgers, lambda ledger: ledger.accept(request_for()))
        assert sum(answer.created for answer in answers) == 1
        (run_id,) = {answer.run_id for answer in answers}
        ledgers[0].cancel(run_id, actor="test")


def test_a_slot_opened_by_eight_beats_is_one_run(ledgers: list[SqlLedger]) -> None:
    answers = at_once(ledgers, lambda ledger: ledger.accept(request_for(slot="2026-11-23T03:00:00+00:00")))
    assert sum(answer.created for answer in answers) == 1


def test_of_two_decisions_about_one_champion_one_has_to_compare_again(ledgers: list[SqlLedger]) -> None:
    for seq in range(ROUNDS):
        pair = ledgers[:2]
        grants = {id(ledger): promoting(ledger) for ledger in pair}

        def decide(ledger: SqlLedger, seq: int = seq, grants: dict[int, object] = grants) -> Promotion | ChampionMoved:  # type: ignore[assignment]
            grant = grants[id(ledger)]
            try:
                return ledger.decide(grant, decision_for(f"v{grant.token}", expected_seq=seq))  # type: ignore[arg-type, attr-defined]
            except ChampionMoved as moved:
                return moved

        answers = at_once(pair, decide)
        assert sorted(type(answer).__name__ for answer in answers) == ["ChampionMoved", "Promotion"]
        assert ledgers[0].champion("growth").seq == seq + 1
        assert len(ledgers[0].promotions("growth")) == seq + 1


def test_no_two_reconcilers_send_the_same_message(ledgers: list[SqlLedger]) -> None:
    for number in range(20):
        grant = promoting(ledgers[0], f"s{number}")
        ledgers[0].fail(grant, error="away", retry=True, delay_s=0.001, counts=False)
    handed: list[list[Publication]] = at_once(ledgers, lambda ledger: ledger.due_publications({}))
    keys = [(publication.run_id, publication.publish_no) for some in handed for publication in some]
    assert len(keys) == len(set(keys)) == 20


def test_a_cancellation_and_a_claim_at_once_leave_nothing_between(ledgers: list[SqlLedger]) -> None:
    for _ in range(ROUNDS):
        run_id = accepted_and_sent(ledgers[0]).run_id

        def act(ledger: SqlLedger, run_id: str = run_id) -> object:
            if ledger is ledgers[0]:
                return ledger.cancel(run_id, actor="anna")
            return ledger.claim(run_id, Stage.DRIFT, worker="w")

        cancelled, grant = at_once(ledgers[:2], act)
        if grant is None:
            assert cancelled == RunState.CANCELLED
        else:
            assert ledgers[0].run(run_id).cancel_requested
            ledgers[0].finish(grant, StageOutcome(result={}, run_state=RunState.CANCELLED))  # type: ignore[arg-type]
        assert ledgers[0].run(run_id).state == RunState.CANCELLED


def test_the_reconcilers_lock_is_freed_by_a_connection_that_dies(ledgers: list[SqlLedger]) -> None:
    with ledgers[0].try_reconcile_lock() as mine, ledgers[1].try_reconcile_lock() as other:
        assert (mine, other) == (True, False)
    with ledgers[1].try_reconcile_lock() as mine:
        assert mine


def test_a_rollback_is_accepted_beside_an_active_pipeline(ledgers: list[SqlLedger]) -> None:
    granted(ledgers[0], accepted_and_sent(ledgers[0]).run_id)
    answers = at_once(ledgers, lambda ledger: ledger.accept(request_for(kind=Kind.ROLLBACK)))
    assert all(answer.created for answer in answers)
