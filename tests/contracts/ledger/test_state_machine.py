"""Any order of claims, renewals, endings, losses, cancellations and passes of the reconciler.

Two workers keep every grant they ever got and go on using it, as a worker does that was paused and woke up.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlops.domain.errors import ChampionMoved, InvalidTransition, LeaseLost
from mlops.domain.records import (
    Executor,
    Finished,
    Grant,
    Kind,
    Publication,
    RunState,
    RunView,
    Sent,
    Stage,
    StageOutcome,
    StageState,
)
from mlops.domain.run_states import ACTIVE, TERMINAL
from tests.support.ledgers import (
    LEASE_S,
    MAX_ATTEMPTS,
    TimedLedger,
    decision_for,
    postgres_ledger,
    request_for,
)

NEXT = {Stage.DRIFT: Stage.TRAIN, Stage.TRAIN: Stage.PROMOTE}
STRATEGIES = st.sampled_from(["growth", "value"])
WORKERS = st.sampled_from(["w1", "w2"])
STAGES = st.sampled_from(list(Stage))


class LedgerMachine(RuleBasedStateMachine):
    """The model: which token is the newest of each stage, which numbers were handed out, what was decided."""

    runs: Bundle[str] = Bundle("runs")
    grants: Bundle[Grant] = Bundle("grants")

    def __init__(self, timed: TimedLedger) -> None:
        super().__init__()
        self.timed = timed
        self.ledger = timed.ledger
        self.known: list[str] = []
        self.tokens: dict[tuple[str, Stage], int] = {}
        self.handed: set[tuple[str, Stage, int]] = set()
        self.decided: dict[str, int] = {}
        self.seqs: dict[str, int] = {}

    def hand_out(self, publication: Publication | None, *, sent: bool = True) -> None:
        """No number of a stage is handed out twice."""
        if publication is None:
            return
        key = (publication.run_id, publication.stage, publication.publish_no)
        assert key not in self.handed
        self.handed.add(key)
        if sent:
            self.ledger.published([Sent(publication=publication, queue="q", task_id=f"{key}")])

    def must_hold(self, grant: Grant) -> None:
        """A write went through, so its token is the newest, and its stage was running."""
        assert self.tokens[grant.run_id, grant.stage] == grant.token

    def after(self, finished: Finished) -> None:
        self.hand_out(finished.publication)

    # ---- what happens

    @initialize()
    def begin(self) -> None:
        self.timed.wipe()

    @rule(
        target=runs,
        strategy=STRATEGIES,
        kind=st.sampled_from([Kind.PIPELINE, Kind.ROLLBACK]),
        executor=st.sampled_from([Executor.CELERY, Executor.CELERY, Executor.INLINE]),
        sent=st.booleans(),
    )
    def accept(self, strategy: str, kind: Kind, executor: Executor, sent: bool) -> MultipleResults[str] | str:
        accepted = self.ledger.accept(request_for(strategy, kind, executor=executor))
        if not accepted.created:
            assert accepted.state in ACTIVE
            assert accepted.run_id in self.known
            return multiple()
        self.known.append(accepted.run_id)
        self.hand_out(accepted.publication, sent=sent)
        return accepted.run_id

    @rule(target=grants, run_id=runs, worker=WORKERS)
    def claim(self, run_id: str, worker: str) -> MultipleResults[Grant] | Grant:
        return self.claimed(run_id, self.ledger.run(run_id).stages[-1].stage, worker)

    @rule(target=grants, run_id=runs, stage=STAGES, worker=WORKERS)
    def claim_out_of_turn(self, run_id: str, stage: Stage, worker: str) -> MultipleResults[Grant] | Grant:
        return self.claimed(run_id, stage, worker)

    @rule(target=grants, run_id=runs, worker=WORKERS)
    def take_over_after_a_silence(self, run_id: str, worker: str) -> MultipleResults[Grant] | Grant:
        self.timed.advance(LEASE_S + 1)
        return self.claimed(run_id, self.ledger.run(run_id).stages[-1].stage, worker)

    def claimed(self, run_id: str, stage: Stage, worker: str) -> MultipleResults[Grant] | Grant:
        before = self.ledger.run(run_id)
        grant = self.ledger.claim(run_id, stage, worker=worker, task_id=f"task-{worker}")
        if grant is None:
            return multiple()
        assert before.state in ACTIVE
        assert grant.token == self.tokens.get((run_id, stage), 0) + 1
        assert 1 <= grant.attempt <= MAX_ATTEMPTS
        self.tokens[run_id, stage] = grant.token
        return grant

    @rule(grant=grants)
    def renew(self, grant: Grant) -> None:
        try:
            renewal = self.ledger.renew(grant, progress={"token": grant.token})
        except LeaseLost:
            return
        self.must_hold(grant)
        assert renewal.lease_until <= grant.deadline

    @rule(grant=grants, go_on=st.booleans())
    def finish(self, grant: Grant, go_on: bool) -> None:
        following = NEXT.get(grant.stage) if go_on else None
        outcome = StageOutcome(
            result={"token": grant.token}, run_state=None if following else RunState.SUCCEEDED, next_stage=following
        )
        try:
            finished = self.ledger.finish(grant, outcome)
        except LeaseLost:
            return
        self.must_hold(grant)
        self.after(finished)

    @rule(grant=grants, retry=st.booleans(), delay_s=st.sampled_from([0.0, 30.0]), counts=st.booleans())
    def fail(self, grant: Grant, retry: bool, delay_s: float, counts: bool) -> None:
        try:
            finished = self.ledger.fail(grant, error="boom", retry=retry, delay_s=delay_s, counts=counts)
        except LeaseLost:
            return
        self.must_hold(grant)
        self.after(finished)

    @rule(grant=grants)
    def release(self, grant: Grant) -> None:
        try:
            finished = self.ledger.release(grant, cause="drain")
        except LeaseLost:
            return
        self.must_hold(grant)
        self.after(finished)

    @rule(run_id=runs, stage=STAGES, worker=WORKERS)
    def lose_worker(self, run_id: str, stage: Stage, worker: str) -> None:
        finished = self.ledger.worker_lost(run_id, stage, task_id=f"task-{worker}", cause="SIGKILL")
        if finished is not None:
            self.after(finished)

    @rule(grant=grants, stale=st.booleans(), promotes=st.booleans())
    def decide(self, grant: Grant, stale: bool, promotes: bool) -> None:
        if grant.stage != Stage.PROMOTE:
            return
        seq = self.ledger.champion(grant.strategy).seq
        decision = decision_for(
            f"v{grant.run_id[:8]}-{grant.token}",
            expected_seq=max(0, seq - stale),
            target_stage="Production" if promotes else "Archived",
        )
        try:
            promotion = self.ledger.decide(grant, decision)
        except (LeaseLost, ChampionMoved):
            return
        self.must_hold(grant)
        assert self.decided.setdefault(grant.run_id, promotion.id) == promotion.id

    @rule(run_id=runs)
    def cancel(self, run_id: str) -> None:
        try:
            self.ledger.cancel(run_id, actor="anna")
        except InvalidTransition:
            assert self.ledger.run(run_id).state in TERMINAL

    @rule(run_id=runs)
    def requeue(self, run_id: str) -> None:
        try:
            publication = self.ledger.requeue(run_id, actor="anna")
        except InvalidTransition:
            return
        self.hand_out(publication)

    @rule(length=st.sampled_from([None, 0, 1, 100]), sent=st.booleans())
    def reconcile(self, length: int | None, sent: bool) -> None:
        for publication in self.ledger.due_publications(None if length is None else {"q": length}):
            self.hand_out(publication, sent=sent)
        self.ledger.fail_lost_inline()

    @rule(seconds=st.sampled_from([1.0, 10.0, LEASE_S + 1, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.timed.advance(seconds)

    @precondition(lambda self: self.known)
    @rule()
    def deliver(self) -> None:
        for message in self.ledger.pending_outcomes():
            view = self.ledger.run(message.run_id)
            assert view.state in TERMINAL
            assert message.body == view.outcome
        self.ledger.outcomes_delivered(self.known)

    # ---- what holds always

    @invariant()
    def a_run_has_at_most_one_stage_in_work_and_none_when_it_has_ended(self) -> None:
        for view in self.views():
            working = [stage for stage in view.stages if stage.state in {StageState.QUEUED, StageState.RUNNING}]
            assert len(working) == (1 if view.state in ACTIVE else 0)
            assert (view.outcome is not None) == (view.state in TERMINAL)
            assert (view.finished_at is not None) == (view.state in TERMINAL)

    @invariant()
    def tokens_are_those_that_were_granted(self) -> None:
        for view in self.views():
            for stage in view.stages:
                assert stage.token == self.tokens.get((view.run_id, stage.stage), 0)
                if stage.result is not None:
                    assert stage.result == {"token": stage.token}, "only the newest grant ever wrote a result"

    @invariant()
    def one_run_of_a_kind_is_active(self) -> None:
        places = [(v.strategy, v.kind) for v in self.views() if v.state in ACTIVE and v.kind != Kind.ROLLBACK]
        assert len(places) == len(set(places))

    @invariant()
    def a_run_decides_at_most_once_and_the_champions_seq_only_grows(self) -> None:
        decisions = self.ledger.promotions(limit=1000)
        assert sorted(promotion.run_id or "" for promotion in decisions) == sorted(self.decided)
        for strategy in ("growth", "value"):
            champion = self.ledger.champion(strategy)
            assert champion.seq >= self.seqs.get(strategy, 0)
            self.seqs[strategy] = champion.seq
            promoted = [p.seq for p in decisions if p.strategy == strategy and p.target_stage == "Production"]
            assert sorted(promoted) == list(range(1, champion.seq + 1))

    def views(self) -> list[RunView]:
        return self.ledger.runs(limit=1000)

    def teardown(self) -> None:
        """Whatever happened, every run ends when a worker and the reconciler go on working."""
        for _ in range(40):
            active = [view for view in self.views() if view.state in ACTIVE]
            if not active:
                return
            self.timed.advance(LEASE_S + 1)
            self.ledger.fail_lost_inline()
            for publication in self.ledger.due_publications({}):
                self.hand_out(publication)
                grant = self.ledger.claim(publication.run_id, publication.stage, worker="last")
                if grant is not None:
                    self.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
        raise AssertionError(f"runs that never end: {active}")


def machine_settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def test_no_order_of_events_breaks_the_ledger(ledger_postgres_url: str) -> None:
    with postgres_ledger(ledger_postgres_url) as timed:
        run_state_machine_as_test(lambda: LedgerMachine(timed), settings=machine_settings(40, 40))  # type: ignore[arg-type]  # takes any maker
