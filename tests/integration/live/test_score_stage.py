"""The score stage on a real ledger: each day once, what is restated as another row, and what follows from decay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from mlops.domain.errors import EmptyWindow, LeaseLost, MissingColumn, RegistryUnavailable
from mlops.domain.live.day_score import DayScore
from mlops.domain.live.decay import Decay
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.domain.training.judged_twin import TWIN_TAG, held_out_by_twin
from mlops.reporting.narrative import score_lines
from mlops.stages.live import report as live_report
from mlops.stages.live.score import score_predictions
from tests.support.ledgers import LEASE_S
from tests.support.live import DATES, LIVE, TRAINED_AS_OF, classifier_of, predicted, promoted, with_return_column
from tests.support.registry import file_of, sha256_of
from tests.support.services import FEATURES, FIRST, LAST, MODEL, N_DATES, TICKERS, FakeServices, panel

DAY = timedelta(days=1)
HORIZON = 5
N_PREDICTED = 8


def days_of(n: int = N_PREDICTED) -> list[date]:
    """The newest dates of the panel, oldest first."""
    return [LAST - place * DAY for place in range(n)][::-1]


@pytest.fixture
def live(services: FakeServices) -> FakeServices:
    """The champion has predicted the newest eight dates; a label looks five dates ahead."""
    services.with_policy(live=LIVE)
    services.with_source(with_return_column(panel()))
    promoted(services)
    for day in days_of():
        predicted(services, day)
    return services


def scored(services: FakeServices, **asked: Any) -> StageOutcome:
    """A scoring, finished."""
    grant = services.granted(Kind.SCORE, Stage.SCORE, **asked)
    outcome = score_predictions(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return outcome


def changed(services: FakeServices, name: str, change: Callable[[np.ndarray[Any, Any]], None]) -> None:
    """The view's column with other values."""
    table: pa.Table = services.source._table  # type: ignore[attr-defined]
    values = table.column(name).to_numpy().copy()
    change(values)
    services.with_source(table.set_column(table.column_names.index(name), name, pa.array(values)))


def test_each_day_is_scored_as_scikit_learn_does_and_what_is_not_ripe_is_counted(live: FakeServices) -> None:
    outcome = scored(live)
    days = live.ledger.live_days("growth")
    assert [day.as_of for day in days] == days_of()
    assert [day.n_labelled for day in days] == [TICKERS] * (N_PREDICTED - HORIZON) + [0] * HORIZON
    first = DayScore.from_json(days[0].score)
    said = live.ledger.predictions("growth", days_of()[0], days_of()[0])
    probability = said.column("probability").to_numpy()
    at = (N_DATES - N_PREDICTED) * TICKERS
    y = (panel().column("target_return").to_numpy()[at : at + TICKERS] > 0).astype(int)
    assert first.n_hits == accuracy_score(y, probability >= 0.5, normalize=False)
    assert first.log_loss == pytest.approx(log_loss(y, probability, labels=[0, 1], normalize=False), abs=1e-9)
    assert first.roc_auc == pytest.approx(roc_auc_score(y, probability))
    assert outcome.result["n_unripe"] == HORIZON * TICKERS
    assert f"{HORIZON * TICKERS} are not ripe yet" in score_lines(outcome.result)[1]
    assert live.ledger.unripe_predictions(["growth"])["growth"].n_predictions == HORIZON * TICKERS


def test_a_days_mark_is_the_next_dates_return_of_what_was_called_positive(live: FakeServices) -> None:
    scored(live)
    days = live.ledger.live_days("growth")
    said = live.ledger.predictions("growth", days_of()[0], days_of()[0])
    held = said.column("probability").to_numpy() >= 0.5
    at = (N_DATES - N_PREDICTED + 1) * TICKERS
    returns = with_return_column(panel()).column("return_1d").to_numpy()[at : at + TICKERS]
    assert DayScore.from_json(days[0].score).mark == pytest.approx(returns[held].mean() if held.any() else 0.0)
    assert DayScore.from_json(days[-1].score).mark is None  # there is no next date yet


def test_a_second_scoring_of_the_same_outcomes_writes_no_day(live: FakeServices) -> None:
    scored(live)
    again = scored(live)
    assert (again.result["n_new_days"], again.result["n_restated_days"]) == (0, 0)
    assert [len(live.ledger.live_day_history("growth", day)) for day in days_of()] == [1] * N_PREDICTED
    assert len(live.ledger.live_reports("growth")) == 2


def test_a_restated_outcome_is_another_row_with_the_time_it_became_known(live: FakeServices) -> None:
    scored(live)
    old = live.ledger.live_days("growth")
    live.timed.advance(3600)

    def flip(values: np.ndarray[Any, Any]) -> None:
        at = (N_DATES - N_PREDICTED) * TICKERS
        values[at : at + TICKERS] *= -1

    changed(live, "target_return", flip)
    outcome = scored(live)
    assert (outcome.result["n_new_days"], outcome.result["n_restated_days"]) == (1, 1)
    first, second = live.ledger.live_day_history("growth", days_of()[0])
    assert (second.known_at - first.known_at).total_seconds() >= 3600
    assert live.ledger.live_days("growth")[0] == second
    assert first == old[0]


def test_labels_that_become_ripe_are_no_restated_ones(live: FakeServices) -> None:
    scored(live)
    live.with_source(with_return_column(panel(n_dates=N_DATES)))
    grown = panel(n_dates=N_DATES + 2, seed=4)
    same = with_return_column(panel())
    tail = with_return_column(grown).slice(N_DATES * TICKERS)
    live.with_source(pa.concat_tables([same, tail]))
    live.today = LAST + 2 * DAY
    outcome = scored(live)
    # Two more dates are ripe, and the last predicted date has got its next day's return.
    assert (outcome.result["n_new_days"], outcome.result["n_restated_days"]) == (3, 0)
    assert outcome.result["n_unripe"] == (HORIZON - 2) * TICKERS


def test_a_view_without_the_labels_column_is_named(live: FakeServices) -> None:
    live.with_source(with_return_column(panel()).drop_columns(["target_return"]))
    with pytest.raises(MissingColumn, match="lacks target_return, so that no outcome"):
        scored(live)
    assert live.ledger.live_days("growth") == []


def test_a_view_without_the_return_column_is_scored_without_a_signal(live: FakeServices) -> None:
    live.with_source(panel())
    scored(live)
    report = live.ledger.live_report("growth")
    assert report is not None
    assert report.document["notes"][0] == "live.return_column: the feature view has no column 'return_1d'"
    assert report.document["performance"][0]["signal"] is None


def test_two_versions_on_one_day_are_scored_each_by_itself(live: FakeServices) -> None:
    promoted(live, "made-2", rounds=9)
    predicted(live, LAST - 7 * DAY)
    scored(live)
    found = [(day.as_of, day.version) for day in live.ledger.live_days("growth")][:2]
    assert found == [(LAST - 7 * DAY, "1"), (LAST - 7 * DAY, "2")]
    report = live.ledger.live_report("growth")
    assert report is not None
    assert [one["version"] for one in report.document["performance"]] == ["1", "2"]
    assert report.document["headline"]["version"] == "2"


def test_what_a_version_says_of_dates_before_its_training_is_no_prediction(live: FakeServices) -> None:
    day = TRAINED_AS_OF - DAY
    known = live.ledger.predictions("growth", LAST, LAST)
    asked = known.set_column(known.column_names.index("as_of"), "as_of", pa.array([day] * len(known), pa.date32()))
    live.ledger.write_predictions("a backtest", "router", asked)
    outcome = scored(live)
    assert [scored_day.as_of for scored_day in live.ledger.live_days("growth")] == days_of()
    document = live.ledger.live_report("growth").document
    assert document["counts"]["n_hindsight"] == TICKERS
    assert any("no predictions" in note for note in document["notes"])
    assert outcome.result["n_predictions"] == N_PREDICTED * TICKERS


def test_where_nothing_was_predicted_it_is_refused(services: FakeServices) -> None:
    outcome = scored(services)
    assert outcome.run_state is RunState.REFUSED
    assert "nothing was predicted for 'growth'" in outcome.result["reasons"][0]


def test_a_scoring_as_of_an_earlier_date_takes_nothing_back(live: FakeServices) -> None:
    scored(live)
    before = live.ledger.live_days("growth")
    outcome = scored(live, as_of=LAST - DAY)
    assert (outcome.run_state, live.ledger.live_days("growth")) == (RunState.REFUSED, before)


def test_a_scoring_without_a_date_is_as_of_the_newest_complete_one(live: FakeServices) -> None:
    live.with_policy(data=DataPolicy(as_of="today", min_current_rows=40))
    live.today = LAST + 2 * DAY
    outcome = scored(live)
    assert (outcome.as_of, outcome.run_state) == (LAST, RunState.SUCCEEDED)


def test_a_scoring_as_of_a_date_that_has_not_begun_is_refused_and_stops_no_later_one(live: FakeServices) -> None:
    grant = live.granted(Kind.SCORE, Stage.SCORE, as_of=LAST + 365 * DAY)
    with pytest.raises(EmptyWindow, match=f"as of {LAST + 365 * DAY}, and it is {LAST}; give a date that has begun"):
        score_predictions(grant, live, live.keeper(grant))
    live.ledger.fail(grant, error="as a worker ends it", retry=False)
    assert scored(live).run_state is RunState.SUCCEEDED


def test_the_days_are_scored_while_the_registry_is_away(live: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise RegistryUnavailable

    monkeypatch.setattr(live.fake_registry, "model_file", silent)
    scored(live)
    assert len(live.ledger.live_days("growth")) == N_PREDICTED
    report = live.ledger.live_report("growth")
    assert report is not None
    assert "champion 1 cannot be asked: MLflow does not answer" in report.document["decay"]["why_not"]
    assert report.document["parity"] is None


def test_a_worker_that_lost_its_lease_leaves_no_score(live: FakeServices) -> None:
    grant = live.granted(Kind.SCORE, Stage.SCORE)
    outcome = score_predictions(grant, live, live.keeper(grant))
    live.timed.advance(LEASE_S + 1)
    live.ledger.due_publications()
    other = live.claimed(grant.run_id, Stage.SCORE)
    with pytest.raises(LeaseLost):
        live.ledger.finish(grant, outcome)
    assert (live.ledger.live_days("growth"), live.ledger.live_reports("growth")) == ([], [])
    live.ledger.finish(other, score_predictions(other, live, live.keeper(other)))
    assert len(live.ledger.live_days("growth")) == N_PREDICTED


def test_rows_that_are_gone_have_no_outcome_and_are_said(live: FakeServices) -> None:
    table = with_return_column(panel())
    gone = (N_DATES - N_PREDICTED) * TICKERS
    live.with_source(pa.concat_tables([table.slice(0, gone), table.slice(gone + 1)]))
    scored(live)
    day = live.ledger.live_days("growth")[0]
    assert (day.n_predictions, day.n_labelled) == (TICKERS, TICKERS - 1)
    report = live.ledger.live_report("growth")
    assert report is not None
    counts = report.document["counts"]
    assert (counts["n_gone"], counts["n_without_outcome"], counts["n_unripe"]) == (1, 0, HORIZON * TICKERS)
    assert report.document["words"][1] == (
        "Predictions without an outcome: the rows of 1 are not in the feature view any more"
    )


def test_a_ripe_label_without_a_value_is_not_called_unripe(live: FakeServices) -> None:
    def blank(values: np.ndarray[Any, Any]) -> None:
        values[(N_DATES - N_PREDICTED) * TICKERS] = np.nan

    changed(live, "target_return", blank)
    scored(live)
    report = live.ledger.live_report("growth")
    assert report is not None
    counts = report.document["counts"]
    assert (counts["n_gone"], counts["n_without_outcome"], counts["n_unripe"]) == (0, 1, HORIZON * TICKERS)
    assert counts["n_labelled"] == (N_PREDICTED - HORIZON) * TICKERS - 1
    assert report.document["outcomes"]["ripe_to"] == (LAST - HORIZON * DAY).isoformat()
    assert report.document["estimate"][0]["first"] == (LAST - (HORIZON - 1) * DAY).isoformat()
    unripe = live.ledger.unripe_predictions(["growth"])["growth"]
    assert (unripe.n_predictions, unripe.first) == (HORIZON * TICKERS, LAST - (HORIZON - 1) * DAY)


def test_outcomes_that_are_all_alike_are_said_to_be_known(live: FakeServices) -> None:
    changed(live, "target_return", lambda values: values.fill(0.01))
    scored(live)
    report = live.ledger.live_report("growth")
    assert report is not None
    first = report.document["words"][0]
    assert "all outcomes of 3 days are alike" in first or "estimated" in first


def test_rows_that_training_would_read_otherwise_are_named(live: FakeServices) -> None:
    scored(live)
    report = live.ledger.live_report("growth")
    assert report is not None
    n = N_PREDICTED * TICKERS
    assert (report.document["parity"]["n_rows"], report.document["parity"]["n_equal"]) == (n, n)

    def restate(values: np.ndarray[Any, Any]) -> None:
        values[-TICKERS] += 1.0

    changed(live, FEATURES[0], restate)
    scored(live)
    parity = live.ledger.live_reports("growth")[0].document["parity"]
    assert (parity["n_equal"], parity["n_other"], parity["n_gone"]) == (n - 1, 1, 0)
    assert parity["examples"] == [{"ticker": "T0", "date": LAST.isoformat()}]


def test_a_snapshot_of_a_release_without_live_policy_is_scored_with_the_defaults(live: FakeServices) -> None:
    live.with_policy(live=type(LIVE)())
    grant = live.granted(Kind.SCORE, Stage.SCORE)
    assert "live" not in grant.policy
    assert score_predictions(grant, live, live.keeper(grant)).run_state is RunState.SUCCEEDED


def test_what_the_champion_did_at_its_promotion_is_measured_on_the_dates_that_its_training_held_out(
    live: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def detect(days: dict[date, DayScore], **asked: Any) -> Decay:
        seen.update(asked, days=days)
        return Decay(fired_on=None, alpha=0.01, n_days=len(days), signals=(), words="no decay")

    monkeypatch.setattr(live_report, "detect_decay", detect)
    scored(live)
    first, last = (date.fromisoformat(DATES[name]) for name in ("holdout_start", "holdout_end"))
    held_out = seen["at_promotion"]
    assert list(held_out) == [first + place * DAY for place in range((last - first).days + 1)]
    assert sorted(seen["days"]) == days_of()
    table = panel()
    at = (first - FIRST).days * TICKERS
    frame = pd.DataFrame({name: table.column(name).to_numpy() for name in FEATURES}).astype("float32")
    n = len(held_out) * TICKERS
    probability = classifier_of(table).predict_proba(frame)[at : at + n, 1]
    y = (table.column("target_return").to_numpy()[at : at + n] > 0).astype(int)
    total = sum(score.log_loss for score in held_out.values())
    assert total == pytest.approx(log_loss(y, probability, normalize=False), rel=1e-5)


def test_what_a_refitted_champion_did_at_its_promotion_is_its_twins(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, grant, twin = services, services.granted(Kind.TRAIN, Stage.TRAIN), classifier_of(panel(), rounds=2)
    result = {
        "model_sha256": sha256_of(file_of(classifier_of(panel()))),
        "metrics": {},
        **DATES,
        "twin": {
            "model_sha256": sha256_of(file_of(twin)),
            "train_start": DATES["train_start"],
            "train_end": DATES["train_end"],
            "n_train": 100,
            "distance": 0.1,
        },
    }
    live.ledger.finish(grant, StageOutcome(result=result, run_state=RunState.SUCCEEDED))
    live.with_policy(live=LIVE)
    live.with_source(with_return_column(panel()))
    version, registry = promoted(live, grant.run_id), live.fake_registry
    registry.twins[MODEL, "1"] = file_of(twin)
    first, last = (date.fromisoformat(DATES[name]) for name in ("holdout_start", "holdout_end"))
    of_twin = {"holdout_start": held_out_by_twin(first), "holdout_end": held_out_by_twin(last)}
    registry.set_tags(MODEL, "1", {**version.tags, **of_twin, TWIN_TAG: "ab" * 32})  # a tag proves nothing
    for day in days_of():
        predicted(live, day)
    seen: dict[str, Any] = {}

    def detect(_: object, **asked: Any) -> Decay:
        seen.update(asked)
        return Decay(fired_on=None, alpha=0.01, n_days=1, signals=(), words="no decay")

    monkeypatch.setattr(live_report, "detect_decay", detect)
    scored(live)
    table = panel()
    at, n = (first - FIRST).days * TICKERS, ((last - first).days + 1) * TICKERS
    frame = pd.DataFrame({name: table.column(name).to_numpy() for name in FEATURES}).astype("float32")
    y = (table.column("target_return").to_numpy()[at : at + n] > 0).astype(int)
    total = sum(score.log_loss for score in seen["at_promotion"].values())
    of_dates = twin.predict_proba(frame)[at : at + n, 1]
    assert total == pytest.approx(log_loss(y, of_dates, normalize=False), rel=1e-5)
    del registry.twins[MODEL, "1"]
    seen.clear()
    scored(live)
    report = live.ledger.live_report("growth")
    assert report is not None
    # The refit knows these dates: better no test than one against what it learnt.
    assert "judged_twin.ubj of version 1 is gone" in report.document["decay"]["why_not"]
    assert seen == {}


def test_the_report_says_what_the_model_relies_on_now_and_relied_on_in_training(live: FakeServices) -> None:
    scored(live)
    first = live.ledger.live_report("growth")
    assert first is not None
    found = first.document["attribution"]
    assert (found["first"], found["last"]) == (days_of()[0].isoformat(), LAST.isoformat())
    assert set(found["training"]) == set(found["now"]) == set(FEATURES)
    # The label follows `momentum`.
    assert max(found["training"], key=found["training"].__getitem__) == "momentum"
    assert max(found["now"], key=found["now"].__getitem__) == "momentum"
    # The training's part does not change, and is not read again.
    scored(live)
    again = live.ledger.live_reports("growth")[0]
    assert again.document["attribution"]["training"] == found["training"]


def test_slices_of_the_policys_columns_are_compared_and_a_column_that_is_not_there_is_named(
    live: FakeServices,
) -> None:
    table = with_return_column(panel())
    sector = pa.array([f"sector {place % 2}" for place in range(table.num_rows)])
    live.with_source(table.append_column("sector", sector))
    live.with_policy(live=replace(LIVE, slices=("sector", "value")))
    scored(live)
    report = live.ledger.live_report("growth")
    assert report is not None
    slices = report.document["slices"]
    assert {one["column"] for one in slices} == {"sector", "value"}
    assert {one["value"] for one in slices if one["column"] == "sector"} == {"sector 0", "sector 1"}
    live.with_policy(live=replace(LIVE, slices=("ticker",)))
    scored(live)
    report = live.ledger.live_report("growth")
    assert report is not None
    assert {one["value"] for one in report.document["slices"]} == {f"T{n}" for n in range(TICKERS)}
    live.with_policy(live=replace(LIVE, slices=("country",)))
    scored(live)
    report = live.ledger.live_report("growth")
    assert report is not None
    assert report.document["slices"] is None
    assert (
        "slices: live.slices: country is no column of numbers or text of the feature view" in (report.document["notes"])
    )


# ---- Decay


@pytest.fixture
def decayed(live: FakeServices, monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    """The sequential test has fired; what it says of its own is tested elsewhere."""
    fired = Decay(
        fired_on=LAST - 3 * DAY, alpha=0.01, n_days=5, signals=(), words="decay since 2020-07-15: log loss rose"
    )
    monkeypatch.setattr(live_report, "detect_decay", lambda *_, **__: fired)
    monkeypatch.setattr(live_report, "scores_at_promotion", lambda *_: {LAST - 60 * DAY: None})
    return live


def retrainings(services: FakeServices) -> list[tuple[str | None, str]]:
    return [(run.slot, run.reason) for run in services.ledger.runs(kinds=[Kind.RETRAIN])]


def test_decay_opens_no_retraining_by_default_and_says_that_it_would_have(decayed: FakeServices) -> None:
    outcome = scored(decayed)
    assert outcome.result["decayed_on"] == (LAST - 3 * DAY).isoformat()
    assert outcome.result["retrain_words"] == ("decay would have opened a retraining; live.retrain_on_decay is off")
    assert retrainings(decayed) == []


def test_decay_opens_one_retraining_where_the_policy_says_so(decayed: FakeServices) -> None:
    decayed.with_policy(live=replace(LIVE, retrain_on_decay=True))
    first = scored(decayed)
    assert retrainings(decayed) == [(f"decay of 1 on {LAST - 3 * DAY}", "decay since 2020-07-15: log loss rose")]
    second = scored(decayed)
    assert len(retrainings(decayed)) == 1
    assert first.result["retrain_run_id"] == second.result["retrain_run_id"]
    report = decayed.ledger.live_report("growth")
    assert report is not None
    assert report.document["decay"]["retrain_run_id"] == first.result["retrain_run_id"]


def retrained(services: FakeServices, as_of: date) -> None:
    grant: Grant = services.granted(Kind.TRAIN, Stage.TRAIN, as_of=as_of)
    services.ledger.finish(grant, StageOutcome(result={"version": "9"}, run_state=RunState.SUCCEEDED, as_of=as_of))


def test_decay_opens_another_retraining_where_the_last_one_died(decayed: FakeServices) -> None:
    decayed.with_policy(live=replace(LIVE, retrain_on_decay=True))
    for _ in range(2):
        found = scored(decayed).result["retrain_run_id"]
        decayed.ledger.fail(decayed.claimed(found, Stage.TRAIN), error="out of memory", retry=False)
    third = scored(decayed).result["retrain_run_id"]
    assert scored(decayed).result["retrain_run_id"] == third  # it is active
    slot = f"decay of 1 on {LAST - 3 * DAY}"
    assert sorted(str(one) for one, _ in retrainings(decayed)) == [slot, f"{slot}/2", f"{slot}/3"]


def test_decay_that_was_found_stands_while_the_registry_is_away(
    decayed: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scored(decayed)
    assert (first.result["headline"]["decay_tested"], first.result["headline"]["decay_why_not"]) == (True, None)

    def silent(*_: object) -> None:
        raise RegistryUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(decayed.fake_registry, "model_file", silent)
        for _ in range(2):
            headline = scored(decayed).result["headline"]
            assert (headline["decayed_on"], headline["decay_tested"]) == ((LAST - 3 * DAY).isoformat(), False)
            assert headline["decay_why_not"].startswith("champion 1 cannot be asked: MLflow does not answer")
        report = decayed.ledger.live_report("growth")
        assert report is not None
        assert report.document["outcomes"]["champion_not_asked"] == headline["decay_why_not"]
        assert report.document["words"][-1] == "Decay since 2020-07-15: log loss rose"
        assert report.document["decay"]["retrain_words"] == first.result["retrain_words"]
        promoted(decayed, "made-2", rounds=9)
        assert scored(decayed).result["decayed_on"] is None  # of another model nothing was found
    scored(decayed)
    report = decayed.ledger.live_report("growth")
    assert report is not None
    assert report.document["outcomes"]["champion_not_asked"] is None


def test_decay_opens_none_within_the_cooldown(decayed: FakeServices) -> None:
    decayed.with_policy(live=replace(LIVE, retrain_on_decay=True), drift=DriftPolicy(rule="raw", cooldown_days=10))
    retrained(decayed, LAST - 4 * DAY)
    outcome = scored(decayed)
    assert outcome.result["retrain_words"] == (
        f"decay opens no retraining: retrained 4 days ago, as of {LAST - 4 * DAY}; the cooldown is 10 days"
    )
    assert retrainings(decayed) == []


def test_a_replays_decay_opens_no_retraining(decayed: FakeServices) -> None:
    decayed.with_policy(live=replace(LIVE, retrain_on_decay=True))
    outcome = scored(decayed, namespace="replay-1")
    assert (outcome.run_state, retrainings(decayed)) == (RunState.REFUSED, [])
