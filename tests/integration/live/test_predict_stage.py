"""The predict stage on a real ledger: one batch a run, whoever dies and whatever changes meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlops.domain.errors import (
    EmptyWindow,
    LeaseLost,
    MissingColumn,
    RegistryUnavailable,
    UnusableFeatures,
    UnusableModelFile,
    VersionNotFound,
)
from mlops.domain.live.rows import prepare_rows, row_digests
from mlops.domain.policies import DataPolicy, LivePolicy
from mlops.domain.records import Kind, RunState, Stage
from mlops.reporting.narrative import predict_lines
from mlops.runs.request import prediction_request
from mlops.stages.live.predict import predict_dates, predict_universe
from tests.support.ledgers import LEASE_S
from tests.support.live import DATES, LIVE, TRAINED_AS_OF, classifier_of, predicted, promoted, without
from tests.support.models import trained_model
from tests.support.services import FEATURES, LAST, MODEL, TICKERS, FakeServices, panel

DAY = timedelta(days=1)


@pytest.fixture
def live(services: FakeServices) -> FakeServices:
    """A strategy whose champion is version 1."""
    services.with_policy(live=LIVE)
    promoted(services)
    return services


def rows_of(services: FakeServices, day: date = LAST) -> pa.Table:
    return services.ledger.predictions("growth", day, day)


def test_the_newest_date_is_predicted_by_the_champion_with_the_rows_digests(live: FakeServices) -> None:
    outcome = predicted(live, None)
    assert (outcome.as_of, outcome.run_state) == (LAST, RunState.SUCCEEDED)
    rows = rows_of(live)
    assert rows.column("ticker").to_pylist() == [f"T{number}" for number in range(TICKERS)]
    table = panel()
    x = np.column_stack([table.column(name).to_numpy()[-TICKERS:] for name in FEATURES])
    model = classifier_of(table)
    expected = model.predict_proba(pd.DataFrame(x.astype("float32"), columns=list(FEATURES)))[:, 1]
    np.testing.assert_allclose(rows.column("probability").to_numpy(), expected, rtol=0, atol=1e-6)
    assert rows.column("row_digest").to_pylist() == row_digests(prepare_rows(x))
    champion = live.ledger.champion("growth")
    assert set(rows.column("model_sha256").to_pylist()) == {champion.identity.sha256}
    assert (
        f"Predicted by version 1 (sha256 {str(champion.identity.sha256)[:12]}): 8 rows"
        in predict_lines(outcome.result)[1]
    )


def test_without_a_champion_it_is_refused_with_the_reason(services: FakeServices) -> None:
    outcome = predicted(services)
    assert outcome.run_state is RunState.REFUSED
    (reason,) = outcome.result["reasons"]
    assert "'growth' has no champion" in reason
    assert predict_lines(outcome.result)[-1] == f"  - {reason}"


def test_a_worker_that_died_between_copy_and_finish_costs_nothing_and_writes_nothing_twice(
    live: FakeServices,
) -> None:
    grant = live.granted(Kind.PREDICT, Stage.PREDICT, as_of=LAST)
    first = predict_universe(grant, live, live.keeper(grant))
    promoted(live, "made-2", rounds=9)  # the champion is another one by the time of the second try
    live.timed.advance(LEASE_S + 1)
    live.ledger.due_publications()
    again = live.claimed(grant.run_id, Stage.PREDICT)
    second = predict_universe(again, live, live.keeper(again))
    assert second.result == first.result
    assert (second.result["version"], len(rows_of(live))) == ("1", TICKERS)


def test_a_worker_that_lost_its_lease_writes_no_prediction(live: FakeServices) -> None:
    grant = live.granted(Kind.PREDICT, Stage.PREDICT, as_of=LAST)
    live.timed.advance(LEASE_S + 1)
    live.ledger.due_publications()
    other = live.claimed(grant.run_id, Stage.PREDICT)
    with pytest.raises(LeaseLost):
        predict_universe(grant, live, live.keeper(grant))
    assert len(rows_of(live)) == 0
    predict_universe(other, live, live.keeper(other))
    assert len(rows_of(live)) == TICKERS


def test_a_second_run_of_the_date_finds_the_first_ones_predictions(live: FakeServices) -> None:
    first = predicted(live, LAST)
    second = predicted(live, None)
    assert second.result["predicted_by"] is not None
    assert {**second.result, "predicted_by": None} == first.result
    assert len(rows_of(live)) == TICKERS


def test_a_champion_that_is_swapped_in_the_day_predicts_it_too(live: FakeServices) -> None:
    predicted(live)
    promoted(live, "made-2", rounds=9)
    assert predicted(live).result["version"] == "2"
    days = live.ledger.prediction_days("growth", LAST, LAST)
    assert [(day.version, day.n_tickers) for day in days] == [("1", TICKERS), ("2", TICKERS)]


def asked(services: FakeServices) -> str | None:
    return prediction_request(services.policies, services.ledger, "growth", LAST, reason="r", requested_by="test").slot


def test_a_date_has_one_run_until_that_is_no_answer_any_more(services: FakeServices) -> None:
    assert asked(services) == "2020-07-18"
    predicted(services, slot="2020-07-18")  # refused: there is no champion
    assert asked(services) == "2020-07-18/2"
    promoted(services)
    predicted(services, slot="2020-07-18/2")
    assert asked(services) == "2020-07-18/2"
    promoted(services, "made-2", rounds=9)
    assert asked(services) == "2020-07-18/3"
    services.granted(Kind.PREDICT, Stage.PREDICT, as_of=LAST, slot="2020-07-18/3")
    assert asked(services) == "2020-07-18/3"


def test_infinities_are_missing_as_in_training(live: FakeServices) -> None:
    table = panel()
    for place, value in ((0, np.inf), (1, -np.inf), (2, np.nan)):
        values = table.column(FEATURES[0]).to_numpy().copy()
        values[-TICKERS + place] = value
        table = table.set_column(table.column_names.index(FEATURES[0]), FEATURES[0], pa.array(values))
    same = panel()
    values = same.column(FEATURES[0]).to_numpy().copy()
    values[-TICKERS : -TICKERS + 3] = np.nan
    same = same.set_column(same.column_names.index(FEATURES[0]), FEATURES[0], pa.array(values))
    live.with_source(table)
    predicted(live)
    served = rows_of(live)
    live.with_source(same)
    promoted(live, "made-2")  # the same model again, another version
    predicted(live)
    again = rows_of(live).slice(TICKERS)
    assert served.column("probability").to_pylist() == again.column("probability").to_pylist()
    assert served.column("row_digest").to_pylist() == again.column("row_digest").to_pylist()


def test_a_date_without_rows_is_named(live: FakeServices) -> None:
    live.with_source(without(panel(), LAST - DAY))
    with pytest.raises(EmptyWindow, match="no rows of 2020-07-17; its newest before are of 2020-07-16"):
        predicted(live, LAST - DAY)


def test_a_date_that_the_champions_training_knew_is_refused(live: FakeServices) -> None:
    outcome = predicted(live, date.fromisoformat(DATES["holdout_end"]))
    assert outcome.run_state is RunState.REFUSED
    known_to = TRAINED_AS_OF - DAY  # by whose returns the held-out dates are marked
    outcome = predicted(live, known_to)
    assert outcome.run_state is RunState.REFUSED
    (reason,) = outcome.result["reasons"]
    assert reason.startswith(f"version 1 was trained and judged on dates up to {known_to}: what it says of {known_to}")
    assert predicted(live, TRAINED_AS_OF).run_state is RunState.SUCCEEDED


def test_a_past_stretch_begins_after_what_the_champions_training_knew(live: FakeServices) -> None:
    strategy, champion = live.strategies["growth"], live.ledger.champion("growth")
    first, last = TRAINED_AS_OF - DAY, TRAINED_AS_OF + DAY
    with pytest.raises(EmptyWindow, match=f"trained and judged on dates up to {first}"):
        predict_dates(live, strategy, champion, first, last, batch_id="past")
    assert predict_dates(live, strategy, champion, TRAINED_AS_OF, last, batch_id="past") == 2 * TICKERS


def test_a_version_that_does_not_say_when_it_was_trained_is_asked_after_its_held_out_dates(live: FakeServices) -> None:
    versions = live.fake_registry._models[MODEL]
    tags = {name: value for name, value in versions[0].tags.items() if name != "training_date"}
    versions[0] = replace(versions[0], tags=tags)
    known_to = date.fromisoformat(DATES["holdout_end"])
    assert predicted(live, known_to).run_state is RunState.REFUSED
    assert predicted(live, known_to + DAY).run_state is RunState.SUCCEEDED


def test_a_date_that_has_not_begun_is_refused(live: FakeServices) -> None:
    with pytest.raises(EmptyWindow, match="give a date that has begun"):
        predicted(live, LAST + DAY)


def test_a_view_without_a_feature_is_named(live: FakeServices) -> None:
    live.with_source(panel().drop_columns(["value"]))
    with pytest.raises(MissingColumn, match="the model reads value, which the feature view lacks"):
        predicted(live)


def test_a_feature_that_is_text_now_is_named(live: FakeServices) -> None:
    table = panel()
    text = pa.array([str(value) for value in table.column("value").to_pylist()])
    live.with_source(table.set_column(table.column_names.index("value"), "value", text))
    with pytest.raises(UnusableFeatures, match=r"the model reads value \(category\) as numbers"):
        predicted(live)


def test_a_ticker_that_repeats_is_refused(live: FakeServices) -> None:
    table = panel()
    live.with_source(pa.concat_tables([table, table.slice(table.num_rows - 1)]))
    with pytest.raises(UnusableFeatures, match="the same ticker and date"):
        predicted(live)


def test_a_model_file_of_another_digest_is_not_asked(live: FakeServices) -> None:
    content = live.fake_registry.files[MODEL, "1"]
    live.fake_registry.files[MODEL, "1"] = content[:-1] + b" }"
    with pytest.raises(UnusableModelFile, match="it was changed after it was logged and is not loaded"):
        predicted(live)
    assert len(rows_of(live)) == 0


def test_a_number_that_is_another_models_by_now_is_not_asked(live: FakeServices) -> None:
    live.fake_registry.forget(MODEL)
    live.registry.log_training(trained_model("other", model_name=MODEL))
    with pytest.raises(VersionNotFound, match="another model"):
        predicted(live)


def test_a_registry_that_is_away_is_waited_for(live: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise RegistryUnavailable

    monkeypatch.setattr(live.fake_registry, "model_file", silent)
    with pytest.raises(RegistryUnavailable):
        predicted(live)


def test_a_run_of_a_release_without_live_policy_is_predicted_with_the_defaults(live: FakeServices) -> None:
    live.with_policy(live=LivePolicy())
    grant = live.granted(Kind.PREDICT, Stage.PREDICT, as_of=LAST)
    assert "live" not in grant.policy
    outcome = predict_universe(grant, live, live.keeper(grant))
    assert outcome.run_state is RunState.SUCCEEDED


def test_without_a_date_the_newest_complete_one_is_meant_whatever_drift_is_decided_as_of(live: FakeServices) -> None:
    live.with_policy(data=DataPolicy(as_of="today", min_current_rows=40))
    live.today = LAST + 2 * DAY  # a Sunday, as it were
    outcome = predicted(live, None)
    assert (outcome.as_of, outcome.run_state) == (LAST, RunState.SUCCEEDED)
