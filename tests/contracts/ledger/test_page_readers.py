"""What the page reads: standings, lists, attempts, durations, sizes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import LEASE_S, TimedLedger, accepted_and_sent, decision_for, granted, promoting, request_for

DAY = date(2026, 3, 2)


def report(verdict: str = "stable", *, share: float = 0.1) -> dict[str, Any]:
    """As much of a report as its short form is read from."""
    return {
        "timestamp": "2026-03-02T03:00:00",
        "summary": {"drift_detected": verdict == "drifted"},
        "verdict": {
            "verdict": verdict,
            "rule": "calibrated",
            "raw": {"verdict": "drifted" if share >= 0.3 else "stable", "share": share, "alert_share": 0.3},
        },
        "calibration": {"p_value": 0.02, "alpha": 0.05, "n_placements": 400},
    }


def checked(ledger: SqlLedger, strategy: str, as_of: date, verdict: str = "stable", *, share: float = 0.1) -> str:
    """A finished check."""
    accepted = ledger.accept(request_for(strategy, Kind.CHECK))
    grant = granted(ledger, accepted.run_id)
    finish(ledger, grant, RunState.SUCCEEDED, as_of=as_of, drift_report=report(verdict, share=share))
    return accepted.run_id


def finish(ledger: SqlLedger, grant: Grant, state: RunState, **more: Any) -> None:
    ledger.finish(grant, StageOutcome(result=more.pop("result", {}), run_state=state, **more))


def test_a_strategy_s_standing_is_its_champion_its_newest_check_and_its_newest_run(timed: TimedLedger) -> None:
    ledger = timed.ledger
    checked(ledger, "growth", DAY, "drifted", share=0.5)
    last = checked(ledger, "growth", DAY + timedelta(days=1))
    ledger.decide(promoting(ledger), decision_for("3", as_of=DAY))
    timed.advance(1)
    running = ledger.accept(request_for("growth", Kind.TRAIN))
    found = ledger.standings(["growth", "value"])
    growth, value = found["growth"], found["value"]
    assert growth.champion is not None
    assert (growth.champion.version, growth.champion.as_of) == ("3", DAY)
    assert growth.check is not None
    assert (growth.check.run_id, growth.check.verdict, growth.check.share) == (last, "stable", 0.1)
    assert (growth.check.p_value, growth.check.alpha, growth.check.n_placements) == (0.02, 0.05, 400)
    assert growth.run is not None
    assert (growth.run.run_id, growth.run.state) == (running.run_id, RunState.QUEUED)
    assert (value.champion, value.check, value.run) == (None, None, None)
    assert ledger.standings([]) == {}


def test_recent_checks_are_the_newest_of_each_strategy_oldest_first(ledger: SqlLedger) -> None:
    for day in range(5):
        checked(ledger, "growth", DAY + timedelta(days=day), share=day / 10)
    checked(ledger, "value", DAY)
    found = ledger.recent_checks(["growth", "value", "none"], limit=3)
    assert [line.share for line in found["growth"]] == [0.2, 0.3, 0.4]
    assert len(found["value"]) == 1
    assert "none" not in found
    points = ledger.recent_points(["growth", "value", "none"], limit=3)
    assert {name: [(point.as_of, point.p_value) for point in some] for name, some in points.items()} == {
        name: [(line.as_of, line.p_value) for line in some] for name, some in found.items()
    }
    between = ledger.checks_between(["growth"], DAY + timedelta(days=1), DAY + timedelta(days=2))
    assert [line.share for line in between] == [0.1, 0.2]


def test_an_open_run_shows_the_stage_that_it_is_at_and_its_progress(ledger: SqlLedger) -> None:
    accepted = accepted_and_sent(ledger)
    (waiting,) = ledger.open_runs()
    assert (waiting.run_id, waiting.stage, waiting.stage_state, waiting.queue) == (
        accepted.run_id, "drift", "queued", "drift",
    )  # fmt: skip
    grant = granted(ledger, accepted.run_id)
    ledger.renew(grant, progress={"done": 1, "total": 3})
    (running,) = ledger.open_runs(run_id=accepted.run_id)
    assert (running.state, running.worker, running.progress) == (RunState.RUNNING, "w1", {"done": 1, "total": 3})
    finish(ledger, grant, RunState.SUCCEEDED)
    assert ledger.open_runs() == []


def test_runs_are_listed_page_by_page_with_their_filters(timed: TimedLedger) -> None:
    ledger = timed.ledger
    ids = []
    for _ in range(4):
        ids.append(checked(ledger, "growth", DAY))
        timed.advance(1)
    cancelled = ledger.accept(request_for("value", Kind.TRAIN)).run_id
    ledger.cancel(cancelled, actor="anna")
    first = ledger.run_lines(limit=2)
    assert [line.run_id for line in first] == [cancelled, ids[3]]
    assert first[0].error == "cancelled by anna before it ran"
    rest = ledger.run_lines(before=(first[-1].created_at, first[-1].run_id))
    assert [line.run_id for line in rest] == [ids[2], ids[1], ids[0]]
    assert [line.run_id for line in ledger.run_lines(states=["cancelled"])] == [cancelled]
    assert ledger.run_lines(strategy="growth", kinds=["train"]) == []
    assert ledger.state_counts(within_s=3600) == {"succeeded": 4, "cancelled": 1}
    assert ledger.state_counts(within_s=0) == {}


def test_what_awaits_a_person_is_there_until_its_version_is_decided_about_again(ledger: SqlLedger) -> None:
    grant = promoting(ledger)
    ledger.decide(grant, decision_for("2", decision="await_approval", target_stage="Staging"))
    finish(ledger, grant, RunState.AWAITING_APPROVAL)
    (waiting,) = ledger.awaiting()
    assert (waiting.run_id, waiting.strategy, waiting.version) == (grant.run_id, "growth", "2")
    assert ledger.awaiting(strategy="value") == []
    ledger.decide(promoting(ledger), decision_for("2"))
    assert ledger.awaiting() == []
    assert [one.decision for one in ledger.decisions()] == ["promote", "await_approval"]


def test_attempts_tell_who_had_a_stage_how_long_it_waited_and_why_it_ended(timed: TimedLedger) -> None:
    ledger = timed.ledger
    accepted = accepted_and_sent(ledger)
    timed.advance(5)
    first = granted(ledger, accepted.run_id, worker="w1", task_id="t1")
    timed.advance(10)
    ledger.fail(first, error="the source does not answer", retry=True)
    timed.advance(3)
    waits = ledger.attempts(ledger.run(accepted.run_id))
    assert [(one.state, one.error) for one in waits] == [
        ("given back", "the source does not answer"),
        ("queued", "the source does not answer"),
    ]
    granted(ledger, accepted.run_id, worker="w2", task_id="t2")
    timed.advance(LEASE_S + 1)
    third = granted(ledger, accepted.run_id, worker="w3", task_id="t3")
    timed.advance(7)
    finish(ledger, third, RunState.SUCCEEDED)
    attempts = ledger.attempts(ledger.run(accepted.run_id))
    assert [(one.worker, one.task_id, one.attempt, one.state) for one in attempts] == [
        ("w1", "t1", 1, "given back"),
        ("w2", "t2", 2, "given back"),
        ("w3", "t3", 3, "succeeded"),
    ]
    queued = [round((one.claimed_at - one.queued_at).total_seconds()) for one in attempts if one.claimed_at]
    ran = [
        round((one.ended_at - one.claimed_at).total_seconds()) for one in attempts if one.claimed_at and one.ended_at
    ]
    assert queued == [5, 3, 0]  # nobody put a stage whose lease ran out into the queue
    assert ran == [10, LEASE_S + 1, 7]


def test_how_long_trainings_took_is_known_by_what_they_were(timed: TimedLedger) -> None:
    ledger = timed.ledger
    for params, seconds in (({}, 60), ({"incremental": True}, 10), ({"tune": 30}, 600)):
        accepted = ledger.accept(request_for("growth", Kind.TRAIN, params=params))
        grant = ledger.claim(accepted.run_id, Stage.TRAIN, worker="w")
        assert grant is not None
        timed.advance(seconds)
        finish(ledger, grant, RunState.SUCCEEDED, result={"version": "1"})
    found = ledger.newest_trainings()
    assert [(round(one.run_s), one.is_incremental, one.n_trials) for one in found] == [
        (600, False, 30),
        (10, True, 0),
        (60, False, 0),
    ]
    assert ledger.newest_run("growth", Kind.TRAIN, {"tune": 30}) is not None
    assert ledger.newest_run("growth", Kind.TRAIN, {"tune": 31}) is None


def test_sizes_of_artifacts_are_measured_once_and_summed_by_month(ledger: SqlLedger) -> None:
    assert ledger.unmeasured(["a", "b"]) == ["a", "b"]
    ledger.measured({"a": (100, datetime(2026, 1, 31, tzinfo=UTC)), "b": (50, datetime(2026, 2, 1, tzinfo=UTC))})
    ledger.measured({"b": (70, datetime(2026, 2, 1, tzinfo=UTC))})
    assert ledger.unmeasured(["a", "b", "c"]) == ["c"]
    assert ledger.bytes_by_month() == {"2026-01": 100, "2026-02": 70}


def test_checks_are_sorted_by_any_column_and_cut_into_pages(ledger: SqlLedger) -> None:
    shares = {"growth": 0.4, "value": 0.1, "momentum": 0.7}
    for day, (strategy, share) in enumerate(shares.items()):
        checked(ledger, strategy, DAY + timedelta(days=day), "drifted" if share > 0.3 else "stable", share=share)
    by_share = [line.strategy for line in ledger.sorted_checks(sort="share")]
    assert by_share == ["momentum", "growth", "value"]
    assert [line.strategy for line in ledger.sorted_checks(sort="share", descending=False)] == by_share[::-1]
    assert [line.strategy for line in ledger.sorted_checks(sort="share", skip=1, limit=1)] == ["growth"]
    assert [line.strategy for line in ledger.sorted_checks()] == ["momentum", "value", "growth"]
    assert [line.strategy for line in ledger.sorted_checks(sort="strategy", descending=False)] == sorted(shares)
    assert [line.strategy for line in ledger.sorted_checks(strategies=["growth", "value"])] == ["value", "growth"]
    assert [line.strategy for line in ledger.sorted_checks(verdict="stable")] == ["value"]
    assert [line.strategy for line in ledger.sorted_checks(since=DAY + timedelta(days=2))] == ["momentum"]


def test_what_a_check_does_not_say_stands_last_whichever_way_it_is_sorted(ledger: SqlLedger) -> None:
    without = ledger.accept(request_for("value", Kind.CHECK)).run_id
    document = {**report(), "calibration": {"p_value": None}}
    finish(ledger, granted(ledger, without), RunState.SUCCEEDED, as_of=DAY, drift_report=document)
    checked(ledger, "growth", DAY)
    for descending in (True, False):
        found = ledger.sorted_checks(sort="p_value", descending=descending)
        assert [line.strategy for line in found] == ["growth", "value"]


def test_days_with_drift_are_counted_once_however_often_a_day_was_checked(ledger: SqlLedger) -> None:
    for strategy, day, verdict, share in (
        ("growth", 0, "drifted", 0.5),
        ("growth", 0, "drifted", 0.6),
        ("growth", 1, "stable", 0.2),
        ("value", 1, "drifted", 0.4),
        ("growth", 9, "drifted", 0.9),
    ):
        checked(ledger, strategy, DAY + timedelta(days=day), verdict, share=share)
    last = DAY + timedelta(days=1)
    found = ledger.drift_by_strategy(["growth", "value", "none"], DAY, last)
    assert {name: (one.n_checked, one.n_drifted, one.highest_share) for name, one in found.items()} == {
        "growth": (2, 1, 0.6),
        "value": (1, 1, 0.4),
    }
    days = ledger.drift_by_day(["growth", "value"], DAY, last)
    assert [(day.as_of, day.n_checked, day.n_drifted) for day in days] == [(DAY, 1, 1), (last, 2, 1)]


def test_runs_since_a_time_are_listed_alone(timed: TimedLedger) -> None:
    checked(timed.ledger, "growth", DAY)
    timed.advance(10)
    begun = timed.ledger.now()
    later = checked(timed.ledger, "growth", DAY)
    assert [line.run_id for line in timed.ledger.run_lines(kinds=["check"], since=begun)] == [later]


def test_the_last_run_of_a_job_is_the_newest_of_its_kind_whoever_asked_for_it(timed: TimedLedger) -> None:
    ledger = timed.ledger
    slots = [datetime(2026, 11, day, 3, tzinfo=UTC) for day in (22, 23)]
    for slot in slots:
        ledger.cancel(ledger.accept(request_for(slot=slot.isoformat())).run_id, actor="anna")
        timed.advance(1)
    last = ledger.accept(request_for()).run_id  # by hand
    timed.advance(1)
    ledger.accept(request_for(kind=Kind.RETRAIN, slot=slots[0].isoformat()))
    found = ledger.last_of_jobs([("growth", Kind.PIPELINE), ("value", Kind.PIPELINE)])
    assert {key: (line.run_id, line.state) for key, line in found.items()} == {
        ("growth", Kind.PIPELINE): (last, RunState.QUEUED)
    }
    assert ledger.last_of_jobs([]) == {}


def test_the_newest_check_of_each_is_by_date_and_not_by_when_it_was_made(ledger: SqlLedger) -> None:
    newest = checked(ledger, "growth", DAY + timedelta(days=1))
    checked(ledger, "growth", DAY)
    checked(ledger, "value", DAY)
    found = ledger.newest_of_each(["growth", "none"])
    assert {name: line.run_id for name, line in found.items()} == {"growth": newest}
    assert ledger.newest_as_of(["value", "growth"]) == DAY + timedelta(days=1)
    assert ledger.newest_as_of(["none"]) is None


def test_a_check_is_found_by_its_run_with_those_beside_it(ledger: SqlLedger) -> None:
    ids = [checked(ledger, "growth", DAY + timedelta(days=day)) for day in (0, 2, 1)]
    checked(ledger, "value", DAY + timedelta(days=1))
    line = ledger.check_of(ids[2])
    assert line is not None
    before, later = ledger.checks_beside(line)
    assert before is not None
    assert later is not None
    assert (before.run_id, later.run_id) == (ids[0], ids[1])
    assert ledger.checks_beside(later)[1] is None
    assert ledger.check_of("none") is None
