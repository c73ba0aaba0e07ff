"""What `make run` lets its champions predict of the past, and when it is scored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pytest

from devstack.demo import SCORED_AS_OF, Pass, predict_past, sample_passes, score_past
from mlops.domain.records import Kind, RunState, RunView, Stage, StageOutcome
from mlops.runs.request import run_request
from tests.support.live import TRAINED_AS_OF, predicted, promoted
from tests.support.services import TICKERS, FakeServices

DAY = timedelta(days=1)


def of(first: date, last: date) -> Pass:
    return Pass(title="a test", as_of=None, slot=None, predicts=(first, last))


def predict(services: FakeServices, first: date, last: date) -> list[tuple[str, date, date, int]]:
    found = predict_past(services, of(first, last), on_date=lambda *_: None)
    return [(one.version, one.first, one.last, one.n_predictions) for one in found]


def test_each_date_is_predicted_from_its_rows_and_a_second_start_predicts_nothing(services: FakeServices) -> None:
    promoted(services)
    first, last = TRAINED_AS_OF + DAY, TRAINED_AS_OF + 10 * DAY
    told: list[tuple[str, date, int, int]] = []
    predict_past(services, of(first, last), on_date=lambda *one: told.append(one))
    assert [(day, done) for _, day, done, _ in told] == [(first + n * DAY, n + 1) for n in range(10)]
    log = services.ledger.predictions("growth", first, last)
    assert log.num_rows == 10 * TICKERS
    assert predict(services, first, last) == []
    assert services.ledger.predictions("growth", first, last).num_rows == 10 * TICKERS


def test_a_date_of_the_past_is_predicted_as_the_day_s_own_run_does(services: FakeServices) -> None:
    promoted(services)
    day = TRAINED_AS_OF + 5 * DAY
    predict(services, TRAINED_AS_OF + DAY, day)
    in_a_batch = services.ledger.predictions("growth", day, day)
    services.timed.wipe()
    promoted(services, "made-2")
    assert predicted(services, day).run_state is RunState.SUCCEEDED
    alone = services.ledger.predictions("growth", day, day)
    for column in ("ticker", "probability", "row_digest"):
        assert in_a_batch.column(column).to_pylist() == alone.column(column).to_pylist()


def test_a_champion_predicts_nothing_that_its_training_has_seen(services: FakeServices) -> None:
    promoted(services)
    assert predict(services, TRAINED_AS_OF - 10 * DAY, TRAINED_AS_OF) == []
    assert predict(services, TRAINED_AS_OF - 10 * DAY, TRAINED_AS_OF + 2 * DAY) == [
        ("1", TRAINED_AS_OF + DAY, TRAINED_AS_OF + 2 * DAY, 2 * TICKERS)
    ]


def test_without_a_champion_nothing_is_predicted_or_scored(services: FakeServices) -> None:
    assert predict(services, TRAINED_AS_OF + DAY, TRAINED_AS_OF + 2 * DAY) == []
    assert score_past(services, on_change=lambda _: None) == []


def test_the_scoring_is_one_run_however_often_the_demo_starts(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(services)
    predict(services, TRAINED_AS_OF + DAY, TRAINED_AS_OF + 2 * DAY)

    def end(views: Sequence[RunView]) -> None:
        for view in views:
            if view.finished_at is None:
                grant = services.claimed(view.run_id, Stage.SCORE)
                services.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.REFUSED))

    monkeypatch.setattr("devstack.demo.POLL_S", 0.0)
    first = score_past(services, on_change=end)
    second = score_past(services, on_change=end)
    assert [view.run_id for view in first] == [view.run_id for view in second]
    assert len(first) == 1


def test_a_scoring_of_another_date_that_is_active_is_waited_for_and_then_its_own_is_opened(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(services)
    predict(services, TRAINED_AS_OF + DAY, TRAINED_AS_OF + 2 * DAY)
    other = run_request(
        services.policies, "growth", Kind.SCORE, reason="ripe", requested_by="reconciler", slot="2020-07-18"
    )
    accepted = services.ledger.accept(other)

    def end(views: Sequence[RunView]) -> None:
        for view in views:
            if view.finished_at is None:
                grant = services.claimed(view.run_id, Stage.SCORE)
                services.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.REFUSED))

    monkeypatch.setattr("devstack.demo.POLL_S", 0.0)
    (view,) = score_past(services, on_change=end)
    assert view.run_id != accepted.run_id
    assert view.as_of == SCORED_AS_OF


def test_the_passes_predict_until_the_next_one_and_no_date_twice() -> None:
    one, two = (one.predicts for one in sample_passes())
    assert one is not None
    assert two is not None
    assert one[1] < two[0]
    for found in sample_passes():
        assert found.as_of is not None
        assert found.predicts is not None
        assert found.as_of < found.predicts[0]
