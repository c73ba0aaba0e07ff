"""The timetable on a ledger with a movable clock: each slot opens one run, whoever looks, whenever."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mlops.domain.errors import ConfigurationError
from mlops.domain.policies import SchedulePolicy
from mlops.domain.records import Accepted, Kind, RunRequest, RunState, RunView, Stage, StageOutcome
from mlops.strategies.file import Strategies
from tests.support.ledgers import TimedLedger
from tests.support.services import FakeServices, fake_services, small_strategy
from worker.timetable import entries_of, open_due_slots, sync_timetable

DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAILY = SchedulePolicy(drift_check="0 3 * * *", retrain="", spread_minutes=0)


class Beat:
    """Looks at the timetable at times of the test's."""

    def __init__(self, services: FakeServices) -> None:
        self.services = services

    def __call__(self) -> int:
        return open_due_slots(self.services, self.services.dispatcher)

    def runs(self, *states: RunState) -> list[RunView]:
        """Oldest first."""
        return self.services.ledger.runs(states=states)[::-1]

    def slots(self, *states: RunState) -> list[str]:
        return [str(view.slot) for view in self.runs(*states)]

    def end_all(self) -> None:
        for view in self.runs(RunState.QUEUED):
            self.services.ledger.cancel(view.run_id, actor="test")


@pytest.fixture
def beat(tmp_path: Path, timed: TimedLedger) -> Beat:
    """A daily check at 03:00; it is Monday noon, and the timetable has begun."""
    services = fake_services(tmp_path, timed, small_strategy(schedule=DAILY))
    timed.advance((MONDAY_NOON - datetime.now(UTC)).total_seconds())
    beat = Beat(services)
    sync_timetable(services)
    beat()
    return beat


def test_at_first_sight_the_timetable_begins_and_nothing_is_opened(tmp_path: Path, timed: TimedLedger) -> None:
    services = fake_services(tmp_path, timed, small_strategy(schedule=DAILY))
    sync_timetable(services)
    beat = Beat(services)
    assert beat() == 0
    assert beat.runs() == []
    assert services.ledger.schedule()[0].last_slot is not None


def test_a_slot_is_opened_at_its_time_under_its_nominal_name(beat: Beat) -> None:
    beat.services.timed.advance(15 * HOUR - MINUTE)  # 02:59
    assert beat() == 0
    beat.services.timed.advance(2 * MINUTE)
    assert beat() == 1
    (view,) = beat.runs()
    assert (view.slot, view.kind, view.requested_by) == ("2026-03-03T03:00:00+00:00", Kind.PIPELINE, "beat")
    assert [publication.run_id for publication in beat.services.sent] == [view.run_id]


def test_two_beats_open_a_slot_once(beat: Beat) -> None:
    beat.services.timed.advance(16 * HOUR)
    other = Beat(beat.services)
    assert [beat(), other(), beat(), other()] == [1, 0, 0, 0]
    assert len(beat.runs()) == len(beat.services.sent) == 1


def test_two_beats_that_read_the_timetable_at_the_same_moment_open_a_slot_once(
    beat: Beat, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat.services.timed.advance(16 * HOUR)
    read_by_both = beat.services.ledger.schedule()
    monkeypatch.setattr(beat.services.ledger, "schedule", lambda: read_by_both)
    assert [beat(), beat()] == [1, 0]
    assert len(beat.runs()) == 1


def test_a_slot_missed_by_less_than_its_grace_is_opened_late(beat: Beat) -> None:
    beat.services.timed.advance(15 * HOUR + 11 * HOUR)  # 11 h after 03:00
    assert beat() == 1
    assert beat.slots() == ["2026-03-03T03:00:00+00:00"]


def test_a_slot_missed_by_more_is_skipped_on_record(beat: Beat) -> None:
    beat.services.timed.advance(15 * HOUR + 13 * HOUR)
    assert beat() == 0
    (view,) = beat.runs()
    assert (view.state, view.slot) == (RunState.SKIPPED, "2026-03-03T03:00:00+00:00")
    assert beat.services.sent == []
    assert beat() == 0
    assert len(beat.runs()) == 1


def test_after_a_week_away_only_the_newest_slot_is_opened_and_the_others_skipped(beat: Beat) -> None:
    beat.services.timed.advance(6 * DAY + 20 * HOUR)  # Monday 08:00
    assert beat() == 1
    assert beat.slots(RunState.QUEUED) == ["2026-03-09T03:00:00+00:00"]
    assert beat.slots(RunState.SKIPPED) == [f"2026-03-0{day}T03:00:00+00:00" for day in range(3, 9)]


def test_a_slot_waits_while_a_run_of_its_kind_is_active_and_is_opened_when_that_ends(beat: Beat) -> None:
    active = beat.services.granted(Kind.PIPELINE, Stage.DRIFT)
    beat.services.timed.advance(16 * HOUR)
    assert beat() == 0
    assert [view.run_id for view in beat.runs()] == [active.run_id]
    finished = beat.services.ledger.claim(active.run_id, Stage.DRIFT, worker="w2")  # its lease ran out meanwhile
    assert finished is not None
    beat.services.ledger.finish(finished, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    assert beat() == 1
    assert beat.slots(RunState.QUEUED) == ["2026-03-03T03:00:00+00:00"]


def test_a_slot_that_waited_longer_than_its_grace_is_skipped(beat: Beat) -> None:
    beat.services.granted(Kind.PIPELINE, Stage.DRIFT)
    beat.services.timed.advance(16 * HOUR)
    beat()
    beat.services.timed.advance(12 * HOUR)
    assert beat() == 0
    assert beat.slots(RunState.SKIPPED) == ["2026-03-03T03:00:00+00:00"]


def test_a_run_of_another_kind_does_not_hold_up_a_slot(beat: Beat) -> None:
    beat.services.granted(Kind.RETRAIN, Stage.TRAIN)
    beat.services.timed.advance(16 * HOUR)
    assert beat() == 1


def test_a_broker_that_is_down_does_not_stop_the_timetable(beat: Beat) -> None:
    beat.services.fakes["dispatcher"].answers = False
    beat.services.timed.advance(16 * HOUR)
    assert beat() == 1
    beat.services.timed.advance(6)
    assert len(beat.services.ledger.due_publications()) == 1  # the reconciler sends it


def test_a_strategy_that_left_the_file_opens_nothing_more(beat: Beat) -> None:
    vars(beat.services)["strategies"] = Strategies({"value": small_strategy("value", schedule=DAILY)})
    beat.services.timed.advance(16 * HOUR)
    assert beat() == 0
    sync_timetable(beat.services)
    assert [entry.strategy for entry in beat.services.ledger.schedule()] == ["value"]


def test_one_strategys_refusal_does_not_keep_the_others_from_their_slots(
    beat: Beat, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = beat.services
    vars(services)["strategies"] = Strategies(
        {name: small_strategy(name, schedule=DAILY) for name in ("growth", "value")}
    )
    sync_timetable(services)
    beat()
    accept = services.ledger.accept

    def refuse_growth(request: RunRequest) -> Accepted:
        if request.strategy == "growth":
            raise ConfigurationError("no")
        return accept(request)

    monkeypatch.setattr(services.ledger, "accept", refuse_growth)
    services.timed.advance(16 * HOUR)
    assert beat() == 1
    assert [view.strategy for view in beat.runs()] == ["value"]


def test_one_strategys_wrong_time_does_not_take_the_others_off_the_timetable(
    beat: Beat,
) -> None:
    wrong = SchedulePolicy(drift_check="0 3 * *")
    vars(beat.services)["strategies"] = Strategies(
        {"growth": small_strategy("growth", schedule=wrong), "value": small_strategy("value", schedule=DAILY)}
    )
    with capture_logs() as logs:
        sync_timetable(beat.services)
    assert [entry.strategy for entry in beat.services.ledger.schedule()] == ["value"]
    assert [(log["event"], log["strategy"]) for log in logs] == [("strategy.not_scheduled", "growth")]


def test_a_changed_time_keeps_what_was_done(beat: Beat) -> None:
    beat.services.timed.advance(16 * HOUR)
    beat()
    beat.end_all()
    beat.services.with_policy(schedule=SchedulePolicy(drift_check="0 5 * * *", retrain="", spread_minutes=0))
    sync_timetable(beat.services)
    assert beat() == 0  # 04:00: five o'clock is to come
    beat.services.timed.advance(HOUR)
    assert beat() == 1
    assert beat.slots(RunState.QUEUED) == ["2026-03-03T05:00:00+00:00"]


# --------------------------------------------------------------------------- entries


def test_the_documented_timetable_is_daily_at_three_and_sunday_at_four() -> None:
    check, retrain = entries_of(small_strategy())
    assert (check.key, check.kind, check.cron) == ("growth:drift_check", Kind.PIPELINE, "0 3 * * *")
    assert (retrain.key, retrain.kind, retrain.cron) == ("growth:retrain", Kind.RETRAIN, "0 4 * * 0")
    assert check.grace_s == 12 * HOUR


def test_strategies_start_spread_over_ten_minutes_and_always_at_the_same_one() -> None:
    offsets = {name: entries_of(small_strategy(name))[0].offset_s for name in (f"s{number}" for number in range(200))}
    assert all(0 <= offset < 600 for offset in offsets.values())
    assert len({int(offset // 60) for offset in offsets.values()}) == 10
    assert entries_of(small_strategy("s7"))[0].offset_s == offsets["s7"]


def test_an_empty_cron_schedules_nothing_and_a_wrong_one_is_refused() -> None:
    assert entries_of(small_strategy(schedule=SchedulePolicy(drift_check="", retrain=""))) == []
    with pytest.raises(ConfigurationError, match="'at dawn'"):
        entries_of(small_strategy(schedule=SchedulePolicy(drift_check="at dawn")))


def test_a_paused_line_opens_nothing_and_resumed_it_begins_anew(beat: Beat) -> None:
    beat.services.policies.edit("growth", {"schedule.paused": ["drift_check"]}, actor="anna", reason="holiday")
    sync_timetable(beat.services)
    beat.services.timed.advance(3 * DAY)
    assert beat() == 0
    beat.services.policies.edit("growth", {"schedule.paused": []}, actor="anna", reason="back")
    sync_timetable(beat.services)
    assert beat() == 0
    beat.services.timed.advance(DAY)
    assert beat() == 1
    assert beat.runs(RunState.SKIPPED) == []


def test_a_policy_that_no_longer_fits_keeps_its_lines_opens_nothing_and_stops_nobody_else(
    tmp_path: Path, timed: TimedLedger
) -> None:
    services = fake_services(tmp_path, timed, small_strategy(schedule=DAILY), small_strategy("value", schedule=DAILY))
    timed.advance((MONDAY_NOON - datetime.now(UTC)).total_seconds())
    sync_timetable(services)
    beat = Beat(services)
    beat()
    timed.ledger.edit_policy("growth", "drift.gone", 1, actor="anna", reason="of an earlier version")
    sync_timetable(services)
    timed.advance(16 * HOUR)
    with capture_logs() as logs:
        assert beat() == 1
    assert [view.strategy for view in beat.runs()] == ["value"]
    assert "drift.gone" in next(entry["error"] for entry in logs if entry["event"] == "slot.not_opened")
    assert len(services.ledger.schedule()) == 2


# --------------------------------------------------------------------------- a clock that goes back


@pytest.fixture
def both_clocks(beat: Beat, monkeypatch: pytest.MonkeyPatch) -> Beat:
    """A machine whose clock is the database's."""
    monkeypatch.setattr(beat.services, "now", beat.services.ledger.now)
    return beat


@pytest.mark.parametrize("ahead_s", [2 * HOUR, 365 * DAY])
def test_after_a_clock_that_was_ahead_each_slot_is_opened_at_its_time(both_clocks: Beat, ahead_s: float) -> None:
    beat = both_clocks
    beat.services.timed.advance(14.5 * HOUR)  # Tuesday 02:30
    beat.services.timed.advance(ahead_s)
    beat()
    beat.end_all()
    beat.services.timed.advance(-ahead_s)
    with capture_logs() as logs:
        assert beat() == 0
    assert [entry["key"] for entry in logs if entry["event"] == "slots.set_back"] == ["growth:drift_check"]
    beat.services.timed.advance(HOUR)  # Tuesday 03:30
    assert beat() == 1
    assert beat.slots(RunState.QUEUED) == ["2026-03-03T03:00:00+00:00"]
    beat.end_all()
    beat.services.timed.advance(DAY)
    assert beat() == 1
    assert beat.slots(RunState.QUEUED) == ["2026-03-04T03:00:00+00:00"]


def test_a_slot_that_fell_due_while_the_clock_was_ahead_is_opened_when_it_is_back(both_clocks: Beat) -> None:
    beat = both_clocks
    beat.services.timed.advance(16 * HOUR)  # Tuesday 04:00
    assert beat() == 1
    beat.end_all()
    beat.services.timed.advance(10 * DAY)
    beat()
    beat.end_all()
    beat.services.timed.advance(-9 * DAY)  # Wednesday 04:00
    assert beat() == 1
    assert beat.slots(RunState.QUEUED) == ["2026-03-04T03:00:00+00:00"]


def test_the_first_slot_of_a_timetable_that_fell_due_while_the_clock_was_ahead_is_opened_too(both_clocks: Beat) -> None:
    beat = both_clocks
    beat.services.timed.advance(14.5 * HOUR)  # Tuesday 02:30
    assert beat() == 0
    beat.services.timed.advance(10 * DAY)
    beat()
    beat.end_all()
    beat.services.timed.advance(HOUR - 10 * DAY)  # Tuesday 03:30
    assert beat() == 1
    assert beat.slots(RunState.QUEUED) == ["2026-03-03T03:00:00+00:00"]


def test_a_step_back_of_seconds_opens_no_slot_twice(both_clocks: Beat) -> None:
    beat = both_clocks
    beat.services.timed.advance(15 * HOUR + 2)  # two seconds past 03:00
    assert beat() == 1
    beat.end_all()
    beat.services.timed.advance(-60.0)
    assert beat() == 0
    beat.services.timed.advance(120.0)
    assert beat() == 0
    assert beat.slots() == ["2026-03-03T03:00:00+00:00"]


def test_while_two_clocks_disagree_nothing_is_set_back_and_that_is_told(both_clocks: Beat) -> None:
    beat = both_clocks
    beat.services.timed.advance(16 * HOUR)
    assert beat() == 1
    beat.end_all()
    right = beat.services.ledger.now()
    beat.services.now = lambda: right  # type: ignore[method-assign]
    beat.services.timed.advance(-2 * HOUR)  # the database's clock is wrong now
    with capture_logs() as logs:
        assert beat() == 0
    (told,) = [entry for entry in logs if entry["event"] == "timetable.waits"]
    assert (told["clocks_apart_s"], "set the clock" in told["action"]) == (7200, True)
    beat.services.timed.advance(2 * HOUR)
    assert beat() == 0
    assert beat.slots() == ["2026-03-03T03:00:00+00:00"]
