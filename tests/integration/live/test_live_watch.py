"""What is due of models in use is opened once, by the features and not by the hour."""

from __future__ import annotations

import threading
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from structlog.testing import capture_logs

from mlops.domain.errors import EmptyWindow, SourceUnavailable
from mlops.domain.policies import LivePolicy, SchedulePolicy
from mlops.domain.records import Kind, LiveFindings, RunState, RunView, Stage, StageOutcome
from mlops.stages.live.outcomes import SCORED_DAYS, read_outcomes
from mlops.stages.live.predict import predict_universe
from mlops.strategies.file import Strategies
from tests.support.ledgers import decision_for, promoting
from tests.support.live import LIVE, predicted, promoted, with_return_column
from tests.support.services import LAST, N_DATES, TICKERS, FakeServices, panel, small_strategy
from worker.live_watch import COUNTED_EVERY_S, RESTATED_EVERY_S, LiveWatch

DAY = timedelta(days=1)


class Watch:
    """Looks when the test says so."""

    def __init__(self, services: FakeServices) -> None:
        self.services, self.now_s = services, 0.0
        stop = threading.Event()
        self.watch = LiveWatch(services, leads=stop, stop=stop, monotonic=lambda: self.now_s)

    def __call__(self) -> list[str]:
        """Events that were logged."""
        with capture_logs() as logs:
            self.watch.step()
        return [line["event"] for line in logs if line["event"] != "run.accepted"]

    def runs(self, kind: Kind = Kind.PREDICT) -> list[RunView]:
        """Oldest first."""
        return self.services.ledger.runs(kinds=[kind])[::-1]

    def slots(self, kind: Kind = Kind.PREDICT) -> list[str | None]:
        return [run.slot for run in self.runs(kind)]

    def work(self) -> None:
        """A worker does what waits."""
        for run in self.runs():
            if run.state is RunState.QUEUED:
                grant = self.services.claimed(run.run_id, Stage.PREDICT)
                outcome = predict_universe(grant, self.services, self.services.keeper(grant))
                self.services.ledger.finish(grant, outcome)
        for run in self.runs(Kind.SCORE):
            if run.state is RunState.QUEUED:
                grant = self.services.claimed(run.run_id, Stage.SCORE)
                self.services.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.REFUSED))

    def until(self, day: date, *, rows_of_last: int = TICKERS) -> None:
        """The features have come so far, and it is that day, noon."""
        n_dates = N_DATES + (day - LAST).days
        table = with_return_column(panel(n_dates=n_dates))
        self.services.with_source(table.slice(0, table.num_rows - TICKERS + rows_of_last))
        self.services.today = day


@pytest.fixture
def watch(services: FakeServices) -> Watch:
    services.with_policy(live=LIVE)
    promoted(services)
    return Watch(services)


def test_the_newest_complete_date_is_opened_once_whoever_looks(watch: Watch) -> None:
    other = Watch(watch.services)
    assert [watch(), other(), watch()] == [["predict.opened"], [], []]
    (run,) = watch.runs()
    assert (run.slot, run.as_of, run.requested_by) == (LAST.isoformat(), LAST, "reconciler")
    assert [one.run_id for one in watch.services.sent] == [run.run_id]


def test_experiments_that_cannot_be_looked_at_hold_up_no_date(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def newer() -> None:
        raise ValueError("a plan of tomorrow")

    monkeypatch.setattr(watch.services.ledger, "running_experiments", newer)
    assert watch() == ["live.watch_crashed", "predict.opened"]


def test_a_date_is_opened_as_soon_as_its_features_are_complete(watch: Watch) -> None:
    watch()
    watch.work()
    watch.until(LAST + DAY, rows_of_last=2)
    assert watch() == ["score.opened"]
    watch.work()
    assert watch() == []
    watch.until(LAST + DAY)
    assert watch() == ["predict.opened"]
    assert watch.slots() == [LAST.isoformat(), (LAST + DAY).isoformat()]


def test_nothing_is_opened_without_a_champion_or_where_it_is_off_or_paused(services: FakeServices) -> None:
    watch = Watch(services)
    services.with_policy(live=LIVE)
    assert watch() == []
    promoted(services)
    services.with_policy(schedule=SchedulePolicy(paused=("drift_check", "retrain")))
    assert watch() == []
    services.with_policy(schedule=SchedulePolicy(paused=("drift_check",)))
    assert watch() == ["predict.opened"]


def test_a_refused_date_is_asked_for_again_once_another_model_is_the_champion(services: FakeServices) -> None:
    services.with_policy(live=LIVE)
    refused = services.granted(Kind.PREDICT, Stage.PREDICT, as_of=LAST, slot=LAST.isoformat())
    services.ledger.finish(refused, predict_universe(refused, services, services.keeper(refused)))
    watch = Watch(services)
    promoted(services)
    assert watch() == ["predict.opened"]
    (_, run) = watch.runs()
    assert run.slot == f"{LAST.isoformat()}/2"
    grant = services.claimed(run.run_id, Stage.PREDICT)
    services.ledger.finish(
        grant, StageOutcome(result={"reasons": ["as the test wants it"]}, run_state=RunState.REFUSED)
    )
    assert watch() == []
    promoted(services, "made-2", rounds=9)
    assert watch() == ["predict.opened"]


def test_missed_dates_within_the_grace_are_predicted_each_by_a_run_of_its_own_and_older_ones_said_to_be_missed(
    watch: Watch,
) -> None:
    watch.services.with_policy(schedule=SchedulePolicy(grace_hours=24))
    watch()
    watch.work()
    # It is noon of day 4: day 1 began 84 h ago and day 2 60 h ago, and 36 h + 24 h are allowed.
    watch.until(LAST + 4 * DAY)
    assert watch() == ["predict.dates_missed", "predict.opened"]
    for _ in range(4):
        watch.work()
        watch()
    found = {run.slot: run.state for run in watch.runs()}
    assert found == {
        LAST.isoformat(): RunState.SUCCEEDED,
        (LAST + DAY).isoformat(): RunState.SKIPPED,
        **{(LAST + n * DAY).isoformat(): RunState.SUCCEEDED for n in (2, 3, 4)},
    }
    (skipped,) = [run for run in watch.runs() if run.state is RunState.SKIPPED]
    assert skipped.reason == "missed, and older than its grace"


def test_late_features_are_said_once_and_taken_back_when_they_come(watch: Watch) -> None:
    watch()
    watch.work()
    watch()
    watch.work()
    watch.services.today = LAST + DAY
    assert watch() == []  # 12 h after the date began
    watch.services.today = LAST + 2 * DAY
    assert watch() == ["features.late"]
    assert [watch(), Watch(watch.services)()] == [[], []]
    (late,) = watch.services.ledger.late_features()
    assert (late.strategy, late.late_date) == ("growth", LAST + DAY)
    assert late.late_words == "the features of 2020-07-19 are not complete, 36 h after it began"
    watch.until(LAST + 2 * DAY)
    assert watch()[0] == "features.came"
    assert watch.services.ledger.late_features() == []


def test_what_is_there_of_a_late_date_is_said(watch: Watch) -> None:
    watch.until(LAST + DAY, rows_of_last=2)
    watch.services.today = LAST + 2 * DAY
    assert "features.late" in watch()
    (late,) = watch.services.ledger.late_features()
    assert "2 of about 8 rows are there" in str(late.late_words)


def test_nobody_waits_for_the_next_day_of_a_history(watch: Watch) -> None:
    watch.services.today = LAST + 400 * DAY
    assert watch() == ["predict.opened"]
    assert watch.services.ledger.late_features() == []


def test_what_was_late_is_taken_back_when_nobody_waits_any_more(watch: Watch) -> None:
    watch.services.today = LAST + 2 * DAY
    assert "features.late" in watch()
    watch.services.with_policy(schedule=SchedulePolicy(paused=("drift_check", "retrain")))
    assert watch() == ["features.no_longer_awaited"]
    assert watch.services.ledger.late_features() == []


def rows_at(services: FakeServices, day: date) -> list[str]:
    found = services.ledger.predictions("growth", day, day)
    return found.column("ticker").to_pylist()  # type: ignore[no-any-return]


def test_a_date_asked_for_early_is_predicted_once_it_is_complete(watch: Watch) -> None:
    services, early = watch.services, LAST + DAY
    watch()
    watch.work()
    watch.until(early, rows_of_last=2)
    outcome = predicted(services, early, slot=early.isoformat())
    assert outcome.run_state is RunState.REFUSED
    (reason,) = outcome.result["reasons"]
    assert reason.startswith(
        "the date does not count: 2020-07-19 (2 rows where its neighbours have 8); it is predicted"
    )
    assert "predict.opened" not in watch()
    watch.work()
    watch.until(early)
    assert watch() == ["predict.opened"]
    watch.work()
    assert watch.slots()[-1] == f"{early.isoformat()}/2"
    assert len(rows_at(services, early)) == TICKERS
    assert [watch(), watch()] == [["score.opened"], []]


def test_a_date_asked_for_before_it_had_a_row_is_predicted_when_it_comes(watch: Watch) -> None:
    services, early = watch.services, LAST + DAY
    watch()
    watch.work()
    services.today = early
    grant = services.granted(Kind.PREDICT, Stage.PREDICT, as_of=early, slot=early.isoformat())
    with pytest.raises(EmptyWindow):
        predict_universe(grant, services, services.keeper(grant))
    services.ledger.fail(grant, error="no rows", retry=False)
    watch.until(early)
    assert watch() == ["predict.opened"]
    watch.work()
    assert len(rows_at(services, early)) == TICKERS


def test_rows_that_are_added_to_a_predicted_date_are_predicted_and_the_first_prediction_of_each_counts(
    watch: Watch,
) -> None:
    services = watch.services
    watch.until(LAST, rows_of_last=6)
    watch()
    watch.work()
    watch()
    watch.work()
    first = services.ledger.predictions("growth", LAST, LAST)
    assert first.num_rows == 6
    watch.until(LAST)
    assert watch() == []  # looked at now and then
    watch.now_s += COUNTED_EVERY_S
    assert watch() == ["predict.opened"]
    (_, run) = watch.runs()
    assert (run.slot, run.reason) == (f"{LAST.isoformat()}/2", "rows were added")
    watch.work()
    found = services.ledger.predictions("growth", LAST, LAST)
    assert found.column("ticker").to_pylist() == [f"T{number}" for number in range(TICKERS)]
    assert found.slice(0, 6).equals(first)
    for _ in range(3):
        watch.now_s += COUNTED_EVERY_S
        assert "predict.opened" not in watch()


def test_a_row_without_a_ticker_is_no_row_that_was_added(watch: Watch) -> None:
    table = panel()
    names = table.column("ticker").to_pylist()
    names[-1] = None
    watch.services.with_source(table.set_column(0, "ticker", pa.array(names)))
    watch()
    watch.work()
    watch.now_s += COUNTED_EVERY_S
    assert watch() == ["score.opened"]
    assert len(rows_at(watch.services, LAST)) == TICKERS - 1


def test_a_feed_that_ended_long_ago_gets_one_run(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    services = watch.services
    services.today = LAST + 400 * DAY
    latest = services.source.latest_date
    # Another strategy's feed goes on.
    monkeypatch.setattr(
        services.source,
        "latest_date",
        lambda name=None, **more: LAST + 400 * DAY if name is None else latest(name, **more),
    )
    assert watch() == ["predict.opened"]
    (run,) = watch.runs()
    grant = services.claimed(run.run_id, Stage.PREDICT)
    services.ledger.fail(grant, error="as the test wants it", retry=False)
    assert [watch(), watch()] == [[], []]
    assert len(watch.runs()) == 1


def test_late_features_are_said_while_the_source_is_away(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch()
    watch.work()

    def away(*_: object, **__: object) -> None:
        raise SourceUnavailable

    monkeypatch.setattr(watch.services.source, "latest_date", away)
    assert watch() == ["live.not_looked"]
    watch.services.today = LAST + 2 * DAY
    assert watch() == ["features.late", "live.not_looked"]
    assert watch() == ["live.not_looked"]


def test_a_source_that_is_away_is_waited_for(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise SourceUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(watch.services.source, "latest_date", away)
        assert watch() == ["live.not_looked"]
    assert watch() == ["predict.opened"]


def test_the_error_of_one_strategy_stops_no_other(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    services = watch.services
    champion = services.ledger.champion("growth")
    strategies = {name: small_strategy(name, live=LIVE) for name in ("broken", "growth")}
    vars(services)["strategies"] = Strategies(strategies)
    services.ledger.decide(promoting(services.ledger, "broken"), decision_for("1", identity=champion.identity))
    rows = services.source.rows_by_date
    latest = services.source.latest_date
    monkeypatch.setattr(
        services.source, "latest_date", lambda name=None, **more: LAST if name == "broken" else latest(name, **more)
    )

    def breaks(name: str, window: object) -> object:
        if name == "broken":
            raise ZeroDivisionError
        return rows(name, window)  # type: ignore[arg-type]

    monkeypatch.setattr(services.source, "rows_by_date", breaks)
    assert watch() == ["live.strategy_crashed", "predict.opened"]


def test_a_look_at_strategies_that_are_up_to_date_asks_the_source_one_question(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        watch()
        watch.work()
    asked: list[str] = []
    for name in ("latest_date", "count", "rows_by_date", "read", "columns"):
        real = getattr(watch.services.source, name)
        monkeypatch.setattr(
            watch.services.source, name, lambda *a, _real=real, _name=name, **k: asked.append(_name) or _real(*a, **k)
        )
    watch()
    assert asked == ["latest_date"]


def test_a_scoring_is_opened_once_for_each_newest_date_after_its_prediction(watch: Watch) -> None:
    assert watch() == ["predict.opened"]
    assert watch() == []  # the prediction is not done
    watch.work()
    assert watch() == ["score.opened"]
    assert [watch(), Watch(watch.services)()] == [[], []]
    assert watch.slots(Kind.SCORE) == [LAST.isoformat()]
    watch.work()
    assert watch() == []


def test_what_others_asked_is_scored_where_the_schedule_predicts_nothing(watch: Watch) -> None:
    watch()
    watch.work()  # as a backend's predictions are in the log
    watch.services.with_policy(live=LivePolicy(predict=False))
    assert watch() == ["score.opened"]
    watch.work()
    watch.until(LAST + DAY)
    assert watch() == ["score.opened"]
    assert watch.slots() == [LAST.isoformat()], "nothing more was predicted"
    assert watch.services.ledger.late_features() == []


class Scored:
    """A strategy with a prediction, whose scorings end as a test says."""

    first = LAST - 30 * DAY

    def __init__(self, watch: Watch) -> None:
        self.watch, self.services = watch, watch.services
        watch.until(LAST)
        watch()
        watch.work()
        watch()

    def end(self, **outcomes: object) -> None:
        """The waiting scoring has found what is known now."""
        source, strategy = self.services.source, self.services.strategies["growth"]
        digest = read_outcomes(source, strategy, first=self.first, last=LAST).digest
        grant = self.services.claimed(self.watch.runs(Kind.SCORE)[-1].run_id, Stage.SCORE)
        known = {"first": self.first.isoformat(), "last": LAST.isoformat(), "digest": digest, **outcomes}
        found = LiveFindings(days=(), document={"outcomes": known})
        outcome = StageOutcome(result={"reasons": []}, run_state=RunState.SUCCEEDED, as_of=LAST, live=found)
        self.services.ledger.finish(grant, outcome)

    def fail(self) -> None:
        grant = self.services.claimed(self.watch.runs(Kind.SCORE)[-1].run_id, Stage.SCORE)
        self.services.ledger.fail(grant, error="as the test wants it", retry=False)

    def restate(self) -> None:
        """Each return is the other way round."""
        table: pa.Table = self.services.source._table  # type: ignore[attr-defined]
        place = table.column_names.index("target_return")
        flipped = pc.multiply(table.column("target_return"), -1.0)
        self.services.with_source(table.set_column(place, "target_return", flipped))

    def later(self, seconds: float) -> list[str]:
        """A look then."""
        self.watch.now_s += seconds
        self.services.timed.advance(seconds)
        return self.watch()


@pytest.fixture
def scoring(watch: Watch) -> Scored:
    return Scored(watch)


def test_outcomes_that_are_restated_back_and_forth_are_scored_each_time(scoring: Scored) -> None:
    scoring.end()
    for _ in range(4):
        scoring.restate()
        assert scoring.later(RESTATED_EVERY_S) == ["score.opened"]
        scoring.end()
    slots = [str(slot) for slot in scoring.watch.slots(Kind.SCORE)]
    assert slots[0] == LAST.isoformat()
    assert (slots[3], slots[4]) == (f"{slots[1]}/2", f"{slots[2]}/2")
    assert scoring.later(RESTATED_EVERY_S) == []


def test_a_scoring_that_could_not_ask_the_champion_is_made_again_after_a_while_each_time_longer(
    scoring: Scored,
) -> None:
    scoring.end(champion_not_asked="champion 1 cannot be asked: MLflow does not answer")
    assert scoring.watch() == []
    assert scoring.later(121) == ["score.opened"]
    assert scoring.watch() == []
    scoring.end(champion_not_asked="champion 1 cannot be asked: MLflow does not answer")
    assert scoring.later(121) == []
    assert scoring.later(121) == ["score.opened"]
    scoring.end(champion_not_asked=None)
    assert scoring.later(3000) == []
    day = LAST.isoformat()
    assert scoring.watch.slots(Kind.SCORE) == [day, f"{day}/2", f"{day}/3"]


def test_a_scoring_that_failed_is_made_again_and_one_that_was_refused_is_not(scoring: Scored) -> None:
    scoring.fail()
    assert scoring.watch() == []
    assert scoring.later(121) == ["score.opened"]
    scoring.watch.work()
    assert scoring.later(3000) == []
    assert scoring.watch.slots(Kind.SCORE) == [LAST.isoformat(), f"{LAST.isoformat()}/2"]


def test_nothing_is_scored_where_the_newest_prediction_lies_years_before_the_newest_date(
    watch: Watch,
) -> None:
    watch()
    watch.work()
    watch.services.with_policy(live=LivePolicy(predict=False))
    watch.until(LAST + (SCORED_DAYS + 1) * DAY)
    assert watch() == []
    watch.until(LAST + SCORED_DAYS * DAY)
    watch.now_s += COUNTED_EVERY_S
    assert watch() == ["score.opened"]


def test_restated_outcomes_open_another_scoring(watch: Watch) -> None:
    watch.until(LAST)
    watch()
    watch.work()
    watch()
    strategy = watch.services.strategies["growth"]
    first = LAST - 30 * DAY
    digest = read_outcomes(watch.services.source, strategy, first=first, last=LAST).digest
    (run,) = watch.runs(Kind.SCORE)
    grant = watch.services.claimed(run.run_id, Stage.SCORE)
    document = {"outcomes": {"first": first.isoformat(), "last": LAST.isoformat(), "digest": digest}}
    watch.services.ledger.finish(
        grant,
        StageOutcome(
            result={"reasons": []},
            run_state=RunState.SUCCEEDED,
            as_of=LAST,
            live=LiveFindings(days=(), document=document),
        ),
    )
    assert watch() == []
    table: pa.Table = watch.services.source._table  # type: ignore[attr-defined]
    place = table.column_names.index("target_return")
    flipped = pc.multiply(table.column("target_return"), -1.0)
    watch.services.with_source(table.set_column(place, "target_return", flipped))
    assert watch() == []  # looked at by the hour
    watch.now_s += RESTATED_EVERY_S
    assert watch() == ["score.opened"]
    first_slot, second = watch.slots(Kind.SCORE)
    assert (first_slot, str(second)[:11]) == ("2020-07-18", "2020-07-18/")
    assert watch.runs(Kind.SCORE)[1].reason == "outcomes were restated"
