"""Inline runs and requests: the whole loop in one process, on fakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from devstack.demo import Pass, run_pass, sample_passes
from mlops.domain.errors import (
    ConfigurationError,
    LedgerUnavailable,
    RegistryUnavailable,
    ServerFailed,
    UnknownStrategy,
)
from mlops.domain.records import Accepted, Executor, Kind, RunRequest, RunState, RunView, Stage, StageState, StageView
from mlops.invocation import command_line_actor
from mlops.runs import inline
from mlops.runs.launch import launch
from mlops.runs.request import run_request
from mlops.strategies.file import restore
from tests.support.ledgers import LEASE_S
from tests.support.services import LAST, MODEL, FakeServices, panel


class VirtualTime:
    """`time` for `inline`, on the ledger's clock too; a loop that never ends is a failure after an hour."""

    def __init__(self, services: FakeServices) -> None:
        self.services, self.passed = services, 0.0

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        assert self.passed < 3600.0, "nobody ended the run within an hour"

    def advance(self, seconds: float) -> None:
        self.passed += seconds
        self.services.timed.advance(seconds)


@pytest.fixture
def virtual(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    time = VirtualTime(services)
    monkeypatch.setattr(inline, "time", time)
    return time


class Watcher:
    """What a command is told."""

    def __init__(self) -> None:
        self.accepted: list[Accepted] = []
        self.stages: list[tuple[Stage, StageState]] = []

    def stage(self, view: RunView, stage: StageView) -> None:
        if self.stages[-1:] != [(stage.stage, stage.state)]:
            self.stages.append((stage.stage, stage.state))


def launched(services: FakeServices, kind: Kind = Kind.PIPELINE, *, queue: bool = False, **asked: Any) -> RunView:
    watcher = Watcher()
    request = run_request(services.strategies, "growth", kind, reason="a test", requested_by="test", **asked)
    return launch(services, request, queue=queue, on_accept=watcher.accepted.append, on_stage=watcher.stage)


def test_a_first_pass_checks_trains_and_promotes(services: FakeServices) -> None:
    view = launched(services)
    assert (view.state, view.executor) == (RunState.SUCCEEDED, Executor.INLINE)
    assert [stage.stage for stage in view.stages] == [Stage.DRIFT, Stage.TRAIN, Stage.PROMOTE]
    assert services.ledger.champion("growth").version == "1"
    assert services.registry.version(MODEL, "1").stage == "Production"
    assert services.sent == []  # no broker is needed


def test_a_second_pass_on_a_calm_day_only_checks(services: FakeServices) -> None:
    launched(services)
    services.with_policy(drift=replace(services.strategies["growth"].drift, psi_significant=0.5))
    assert [stage.stage for stage in launched(services).stages] == [Stage.DRIFT]


def test_a_drifted_pass_that_is_dated_before_the_champion_is_refused(services: FakeServices) -> None:
    launched(services)
    services.with_source(panel(shift=3.0))
    as_of = LAST - timedelta(days=3)
    view = launched(services, as_of=as_of)
    assert view.state is RunState.REFUSED
    assert (services.ledger.champion("growth").version, view.as_of) == ("1", as_of)


def test_the_date_that_the_first_stage_settled_holds_for_all(services: FakeServices) -> None:
    view = launched(services)
    assert view.as_of == LAST
    assert services.registry.version(MODEL, "1").tags["training_date"] == LAST.isoformat()


def test_bad_data_ends_the_run_failed_in_words(services: FakeServices) -> None:
    services.with_source(panel("momentum"))
    view = launched(services)
    assert view.state is RunState.FAILED
    assert "no rows in the feature view" in str(view.stages[0].error)


def test_a_registry_that_never_answers_is_given_up_after_a_while(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise RegistryUnavailable("MLflow does not answer", delay_s=0.0)

    monkeypatch.setattr(services.fake_registry, "find_by_ledger_run", silent)
    monkeypatch.setattr(inline, "PATIENCE_S", -1.0)
    view = launched(services, Kind.TRAIN)
    assert view.state is RunState.CANCELLED


def test_work_between_two_waits_is_no_waiting(
    services: FakeServices, virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = services.fake_registry.find_by_ledger_run
    answers = iter([False, False, True])

    def slow(*asked: Any, **how: Any) -> Any:
        virtual.advance(50.0)  # below the lease, which no thread renews in virtual time
        if not next(answers, True):
            raise RegistryUnavailable("MLflow does not answer", delay_s=0.0)
        return find(*asked, **how)

    monkeypatch.setattr(services.fake_registry, "find_by_ledger_run", slow)
    monkeypatch.setattr(inline, "PATIENCE_S", 40.0)
    assert launched(services, Kind.TRAIN).state is RunState.SUCCEEDED


def test_a_registry_that_is_silent_between_pieces_of_work_is_given_up_too(
    services: FakeServices, virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise RegistryUnavailable("MLflow does not answer", delay_s=5.0)

    monkeypatch.setattr(services.fake_registry, "find_by_ledger_run", silent)
    assert launched(services, Kind.TRAIN).state is RunState.CANCELLED
    assert inline.PATIENCE_S <= virtual.passed <= inline.PATIENCE_S + 5.0


def test_a_run_that_is_active_is_followed_instead(services: FakeServices) -> None:
    other = services.granted(Kind.CHECK, Stage.DRIFT)
    watcher = Watcher()

    def end(accepted: Accepted) -> None:
        watcher.accepted.append(accepted)
        services.ledger.fail(other, error="it failed", retry=False)

    request = run_request(services.strategies, "growth", Kind.CHECK, reason="a test", requested_by="test")
    view = launch(services, request, queue=False, on_accept=end, on_stage=watcher.stage)
    assert [(accepted.run_id, accepted.created) for accepted in watcher.accepted] == [(other.run_id, False)]
    assert (view.run_id, view.state) == (other.run_id, RunState.FAILED)


def test_an_inline_run_whose_process_died_long_ago_blocks_nobody(services: FakeServices) -> None:
    dead = services.granted(Kind.CHECK, Stage.DRIFT, executor=Executor.INLINE)
    services.timed.advance(LEASE_S + 1)
    view = launched(services, Kind.CHECK)
    assert (view.run_id == dead.run_id, view.state) == (False, RunState.SUCCEEDED)
    assert services.ledger.run(dead.run_id).state is RunState.FAILED


def test_an_inline_run_whose_process_died_just_now_is_followed_to_its_end(
    services: FakeServices, virtual: VirtualTime
) -> None:
    dead = services.granted(Kind.CHECK, Stage.DRIFT, executor=Executor.INLINE)
    view = launched(services, Kind.CHECK)
    assert (view.run_id, view.state) == (dead.run_id, RunState.FAILED)
    assert "stopped" in str(view.stages[0].error)
    assert LEASE_S <= virtual.passed <= 2 * LEASE_S + 1


def test_a_queued_request_is_published_and_not_executed_here(services: FakeServices) -> None:
    def cancel(accepted: Accepted) -> None:
        services.ledger.cancel(accepted.run_id, actor="test")

    request = run_request(services.strategies, "growth", Kind.CHECK, reason="a test", requested_by="test")
    view = launch(services, request, queue=True, on_accept=cancel, on_stage=Watcher().stage)
    assert [publication.run_id for publication in services.sent] == [view.run_id]
    assert view.state is RunState.CANCELLED


def test_inline_work_of_a_queued_request_is_a_mistake(services: FakeServices) -> None:
    request = run_request(services.strategies, "growth", Kind.CHECK, reason="a test", requested_by="test")
    with pytest.raises(ValueError, match="executor 'inline'"):
        inline.run_inline(services, request, on_accept=lambda _: None, on_stage=Watcher().stage)


# --------------------------------------------------------------------------- a PostgreSQL that is away


class Away:
    """A method of the ledger that finds no PostgreSQL for a while, in virtual time; its first answer may get lost."""

    def __init__(
        self, work: Callable[..., Any], virtual: VirtualTime, *, for_s: float, loses_answer: bool = False
    ) -> None:
        self._work, self._virtual, self._for_s, self._loses = work, virtual, for_s, loses_answer
        self._since: float | None = None

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self._since is None:
            self._since = self._virtual.passed
            if self._loses:
                self._work(*given, **named)
        if self._virtual.passed - self._since < self._for_s:
            raise LedgerUnavailable("the ledger at db does not answer: connection refused")
        return self._work(*given, **named)


def test_whoever_follows_a_run_outlives_a_restart_of_postgresql_and_says_what_it_waits_for(
    services: FakeServices, virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cancel(accepted: Accepted) -> None:
        services.ledger.cancel(accepted.run_id, actor="test")

    monkeypatch.setattr(services.ledger, "run", Away(services.ledger.run, virtual, for_s=400.0))
    request = run_request(services.strategies, "growth", Kind.CHECK, reason="a test", requested_by="test")
    view = launch(services, request, queue=True, on_accept=cancel, on_stage=Watcher().stage)
    assert view.state is RunState.CANCELLED
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Waiting up to 600 s (ACIS_PATIENCE_S): the ledger at db does not answer") == 1
    assert "PostgreSQL is back after 400 s" in said


def test_patience_ends_with_the_words_where_to_look(
    services: FakeServices, virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.settings = services.settings.model_copy(update={"patience_s": 100.0})
    monkeypatch.setattr(services.ledger, "run", Away(services.ledger.run, virtual, for_s=1000.0))
    request = run_request(services.strategies, "growth", Kind.CHECK, reason="a test", requested_by="test")
    with pytest.raises(LedgerUnavailable, match=r"connection refused; run .* goes on without this command: `acis runs"):
        launch(services, request, queue=True, on_accept=lambda _: None, on_stage=Watcher().stage)
    assert 100.0 <= virtual.passed <= 105.0


@pytest.mark.parametrize("queue", [True, False])
def test_a_request_whose_answer_got_lost_is_asked_for_again_and_is_one_run(
    queue: bool, services: FakeServices, virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(services.ledger.accept, virtual, for_s=13.0, loses_answer=True)
    monkeypatch.setattr(services.ledger, "accept", away)
    watcher = Watcher()

    def accepted(one: Accepted) -> None:
        watcher.accepted.append(one)
        if queue:
            services.ledger.cancel(one.run_id, actor="test")

    request = run_request(services.strategies, "growth", Kind.CHECK, reason="a test", requested_by="test")
    view = launch(services, request, queue=queue, on_accept=accepted, on_stage=watcher.stage)
    assert view.state is (RunState.CANCELLED if queue else RunState.SUCCEEDED)
    assert [one.created for one in watcher.accepted] == [True], "it is not somebody else's"
    assert len(services.timed.ledger.runs()) == 1


def test_an_address_where_nobody_is_is_told_within_half_a_minute(
    services: FakeServices, virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.ledger, "accept", Away(services.ledger.accept, virtual, for_s=3000.0))
    request = run_request(services.strategies, "growth", Kind.CHECK, reason="a test", requested_by="test")
    with pytest.raises(LedgerUnavailable):
        launch(services, request, queue=True, on_accept=lambda _: None, on_stage=Watcher().stage)
    assert virtual.passed <= 31.0


# --------------------------------------------------------------------------- requests


def test_thresholds_that_were_given_are_recorded_and_decide(services: FakeServices) -> None:
    request = run_request(
        services.strategies,
        "growth",
        Kind.PIPELINE,
        reason="r",
        requested_by="t",
        drift_threshold=0.5,
        min_accuracy=0.9,
    )
    policy = restore(request.policy)
    assert request.params == {"drift_threshold": 0.5, "min_accuracy": 0.9}
    assert (policy.drift.alert_share, policy.promotion.min_accuracy) == (0.5, 0.9)


def test_thresholds_left_out_mean_the_policys(services: FakeServices) -> None:
    request = run_request(services.strategies, "growth", Kind.PIPELINE, reason="r", requested_by="t")
    assert request.params == {}
    assert restore(request.policy) == services.strategies["growth"]


@pytest.mark.parametrize(
    "given", [{"drift_threshold": 0.0}, {"drift_threshold": 1.01}, {"min_accuracy": -0.1}, {"min_accuracy": 70.0}]
)
def test_a_threshold_that_is_no_share_is_refused(services: FakeServices, given: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="is no share"):
        run_request(services.strategies, "growth", Kind.PIPELINE, reason="r", requested_by="t", **given)


def test_a_threshold_that_is_no_number_is_refused(services: FakeServices) -> None:
    with pytest.raises(ConfigurationError):
        run_request(
            services.strategies, "growth", Kind.PIPELINE, reason="r", requested_by="t", drift_threshold=float("nan")
        )


@pytest.mark.parametrize("name", ["growht", "growth'; DROP TABLE mlops_run; --", "", "GROWTH"])
def test_a_name_that_is_not_in_the_file_is_a_name_that_is_not_known(services: FakeServices, name: str) -> None:
    with pytest.raises(UnknownStrategy, match=r"is not known; one of: growth"):
        run_request(services.strategies, name, Kind.PIPELINE, reason="r", requested_by="t")


@pytest.mark.parametrize("length", [0, 129])
def test_a_run_id_that_the_ledger_cannot_keep_is_refused(services: FakeServices, length: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"of {length} characters.*1 to 128"):
        run_request(services.strategies, "growth", Kind.PIPELINE, reason="r", requested_by="t", run_id="n" * length)


# --------------------------------------------------------------------------- passes of `make run`


def test_the_samples_passes_are_before_and_inside_the_crash() -> None:
    assert [str(one.as_of) for one in sample_passes()] == ["2019-12-13", "2020-03-16"]


def test_a_pass_that_is_started_again_finds_its_runs(services: FakeServices) -> None:
    one = Pass(title="a test", as_of=LAST, slot=f"demo {LAST}")

    def end(views: list[RunView]) -> None:
        for view in views:
            if view.state is RunState.QUEUED:
                services.ledger.cancel(view.run_id, actor="test")

    first = run_pass(services, one, on_change=end, check=lambda: None)  # type: ignore[arg-type]
    second = run_pass(services, one, on_change=end, check=lambda: None)  # type: ignore[arg-type]
    assert [view.run_id for view in first] == [view.run_id for view in second]
    assert len(services.sent) == 1


def test_a_pass_waits_for_a_ledger_that_is_away_and_opens_no_second_run(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Pass(title="a test", as_of=LAST, slot="a slot")
    accept, run, outages = services.ledger.accept, services.ledger.run, [0, 0]

    def lost_answer(request: RunRequest) -> Accepted:
        accepted = accept(request)
        outages[0] += 1
        if outages[0] == 1:
            raise LedgerUnavailable("the ledger has no room to write")
        return accepted

    def away(run_id: str) -> RunView:
        outages[1] += 1
        if outages[1] < 4:
            raise LedgerUnavailable("the ledger does not answer")
        services.ledger.cancel(run_id, actor="test")
        return run(run_id)

    monkeypatch.setattr(services.ledger, "accept", lost_answer)
    monkeypatch.setattr(services.ledger, "run", away)
    monkeypatch.setattr("devstack.demo.time", VirtualTime(services))
    looks: list[int] = []
    (view,) = run_pass(services, one, on_change=lambda _: None, check=lambda: looks.append(1))
    assert view.state is RunState.CANCELLED
    assert len(looks) == 4
    assert len(services.timed.ledger.runs()) == 1


def test_a_pass_that_nobody_can_end_any_more_ends_with_the_reason(services: FakeServices) -> None:
    one = Pass(title="a test", as_of=LAST, slot=None)

    def dead_supervisor() -> None:
        raise ServerFailed("the supervisor has died")

    with pytest.raises(ServerFailed, match="has died"):
        run_pass(services, one, on_change=lambda _: None, check=dead_supervisor)
    assert len(services.sent) == 1


def test_an_inline_training_shows_each_round_while_it_runs(services: FakeServices) -> None:
    shown: list[dict[str, Any]] = []

    def watch(_: RunView, stage: StageView) -> None:
        if stage.state is StageState.RUNNING and stage.progress is not None:
            shown.append(stage.progress)

    request = run_request(services.strategies, "growth", Kind.TRAIN, reason="a test", requested_by="test")
    launch(services, request, queue=False, on_accept=lambda _: None, on_stage=watch)
    rounds = [progress for progress in shown if progress["unit"] == "rounds"]
    assert [(progress["done"], progress["total"]) for progress in rounds] == [(done, 5) for done in range(1, 6)]
    assert rounds[-1]["left_s"] == 0


def test_the_audit_says_who_asked_for_a_run_on_a_command_line(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "jo")
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/acis", "--json", "check", "growth"])
    request = run_request(
        services.strategies, "growth", Kind.CHECK, reason="before the meeting", requested_by=command_line_actor()
    )
    view = launch(services, request, queue=False, on_accept=lambda _: None, on_stage=Watcher().stage)
    (line,) = services.ledger.audit_lines(subject=view.run_id)
    assert (line.actor, line.action) == ("jo (acis check)", "run.check")
    assert line.detail == {"strategy": "growth", "reason": "before the meeting", "joined": False}


def test_a_user_without_a_name_and_a_script_are_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid 10001")

    monkeypatch.setattr("getpass.getuser", nameless)
    monkeypatch.setattr("sys.argv", ["mlops/drift_detection/drift_detector.py", "--strategy", "growth"])
    assert command_line_actor() == "unnamed user (drift_detector.py)"
