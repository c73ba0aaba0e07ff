"""`predict.batch` and `live.score` on real workers, by name and by dispatch; no MLflow is there, and none is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from mlops.domain.records import RunState
from mlops.ledger.live.predictions import prediction_schema
from tasks import dispatch
from tests.integration.workers.conftest import DEADLINE_S, Workers
from tests.support.services import LAST, TICKERS

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # by Celery's backend
N_PREDICTED, HORIZON = 24, 20


def predictions() -> pa.Table:
    """Of the newest 24 dates, by a model that nobody has any more; the label looks 20 dates ahead."""
    rows = [(LAST - timedelta(days=day), f"T{number}") for day in range(N_PREDICTED) for number in range(TICKERS)]
    n = len(rows)
    return pa.table(
        {
            "strategy": ["growth"] * n,
            "version": ["7"] * n,
            "model_sha256": ["ab" * 32] * n,
            "variant": ["champion"] * n,
            "ticker": [ticker for _, ticker in rows],
            "as_of": [day for day, _ in rows],
            "predicted_at": [datetime.now(UTC)] * n,
            "probability": [(place % 10 + 0.5) / 10 for place in range(n)],
            "row_digest": [bytes(16)] * n,
        },
        schema=prediction_schema(),
    )


def test_a_prediction_by_name_is_refused_with_the_reason_where_there_is_no_champion(workers: Workers) -> None:
    result = workers.caller.send_task("predict.batch", kwargs={"strategy": "growth"}, queue="control")
    outcome = result.get(timeout=DEADLINE_S)
    assert (outcome["run_id"], outcome["kind"], outcome["state"]) == (result.id, "predict", "refused")
    assert "has no champion" in outcome["reasons"][0]


def test_a_date_that_was_refused_is_asked_for_again_by_another_run(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "process_services", lambda: workers.services)
    first = dispatch.start_prediction("growth", as_of=LAST, reason="a test")
    assert dispatch.wait(first.run_id, timeout_s=DEADLINE_S).state is RunState.REFUSED
    second = dispatch.start_prediction("growth", as_of=LAST, reason="a test")
    assert second.created
    slots = [dispatch.wait(one.run_id, timeout_s=DEADLINE_S).slot for one in (first, second)]
    assert slots == [LAST.isoformat(), f"{LAST.isoformat()}/2"]


def test_predictions_are_scored_by_name(workers: Workers) -> None:
    workers.services.ledger.write_predictions("router-1", "router", predictions())
    result = workers.caller.send_task("live.score", kwargs={"strategy": "growth"}, queue="control")
    outcome = result.get(timeout=2 * DEADLINE_S)
    assert (outcome["run_id"], outcome["kind"], outcome["state"]) == (result.id, "score", "succeeded")
    scored = outcome["stages"]["score"]
    assert (scored["n_days"], scored["n_predictions"]) == (N_PREDICTED, N_PREDICTED * TICKERS)
    days = workers.services.ledger.live_days("growth")
    assert {day.run_id for day in days} == {result.id}
    assert sum(day.n_labelled for day in days) == scored["n_labelled"] == (N_PREDICTED - HORIZON) * TICKERS


def test_an_argument_that_does_not_exist_is_refused(workers: Workers) -> None:
    result = workers.caller.send_task("live.score", kwargs={"strategy": "growth", "day": "x"}, queue="control")
    with pytest.raises(Exception, match=r"live\.score: day: Extra inputs are not permitted"):
        result.get(timeout=DEADLINE_S)
