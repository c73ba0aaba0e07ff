"""An experiment on a real ledger, from its start to its end: what is predicted beside the champion, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost as xgb
from sqlalchemy import text

from mlops.domain.errors import (
    ConfigurationError,
    ExperimentRunning,
    InsufficientData,
    InvalidTransition,
    NoChampion,
    RegistryUnavailable,
    UnrecordedModelFile,
    VersionNotFound,
)
from mlops.domain.experiments.decision import Action, Mode
from mlops.domain.experiments.policy import ExperimentPolicy, GuardrailPolicy
from mlops.domain.experiments.records import LATENCY_BOUNDS_MS, AnswerCount, Experiment, Measure
from mlops.domain.policies import LivePolicy, PromotionPolicy
from mlops.domain.ports import ModelVersion
from mlops.domain.promotion.evidence import replay
from mlops.domain.promotion.explanation import explanation
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.reporting.narrative import predict_lines, score_lines
from mlops.runs.approval import approval_request
from mlops.runs.experiments import DailyDifferences, ExperimentOptions, preview, start
from mlops.stages.live.predict import predict_universe
from mlops.stages.live.score import score_predictions
from mlops.stages.promote import promote
from tests.support.ledgers import LEASE_S, decision_for, promoting
from tests.support.live import DATES, LIVE, TRAINED_AS_OF, predicted
from tests.support.models import trained_model
from tests.support.services import FEATURES, LAST, MODEL, TICKERS, FakeServices, panel

DAY = timedelta(days=1)
N_DAYS = 14
STARTED = LAST - N_DAYS * DAY


def market() -> pa.Table:
    """The panel, whose next date's return follows today's `momentum`."""
    table = panel()
    momentum = table.column("momentum").to_numpy()
    noise = np.random.default_rng(11).normal(size=len(momentum)) * 0.004
    following = 0.02 * momentum + noise
    last = np.concatenate([np.zeros(TICKERS), following[:-TICKERS]])
    table = table.set_column(table.column_names.index("target_return"), "target_return", pa.array(following))
    return table.append_column("return_1d", pa.array(last))


def registered(
    services: FakeServices,
    run_id: str,
    *,
    sign: int,
    rounds: int = 5,
    features: tuple[str, ...] = FEATURES,
    dates: Mapping[str, str] = DATES,
) -> ModelVersion:
    """A version that goes with the market, or against it."""
    table = market()
    frame = pd.DataFrame({name: table.column(name).to_numpy() for name in features}).astype("float32")
    y = (sign * table.column("target_return").to_numpy() > 0).astype(int)
    model = xgb.XGBClassifier(n_estimators=rounds, max_depth=2, n_jobs=1, seed=1).fit(frame, y)
    trained = trained_model(run_id, model_name=MODEL)
    return services.registry.log_training(replace(trained, model=model, tags={**trained.tags, **dates}))


def decided(services: FakeServices, version: ModelVersion, **changes: object) -> None:
    """A run's decision about a version; without changes it becomes the champion."""
    champion = services.ledger.champion("growth")
    told = {
        "expected_seq": champion.seq,
        "identity": version.identity,
        "as_of": TRAINED_AS_OF,
        "trained_as_of": TRAINED_AS_OF,
        **changes,
    }
    grant = promoting(services.ledger)
    services.ledger.decide(grant, decision_for(version.version, **told))
    services.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED))


def judged(services: FakeServices, version: ModelVersion, **changes: object) -> None:
    """A challenger of which nobody knows whether it is better."""
    decided(services, version, **{"decision": "inconclusive", "target_stage": "Staging", **changes})


def with_two(services: FakeServices, *, champion: int, challenger: int) -> FakeServices:
    """Version 1 is the champion, version 2 was judged beside it. champion, challenger : 1 with the market, -1 against"""
    services.with_policy(live=LIVE)
    services.with_source(market())
    services.today = STARTED
    decided(services, registered(services, "made-1", sign=champion))
    judged(services, registered(services, "made-2", sign=challenger, rounds=6))
    return services


@pytest.fixture
def better(services: FakeServices) -> FakeServices:
    """The challenger goes with the market, the champion against it."""
    return with_two(services, champion=-1, challenger=1)


def begun(services: FakeServices, **options: object) -> Experiment:
    return start(services, "growth", "2", ExperimentOptions(**options), by="ann", reason="a test")


def predict_days(services: FakeServices, days: list[date]) -> None:
    services.today = LAST
    for day in days:
        outcome = predicted(services, day)
        assert [one["why_not"] for one in outcome.result["beside"]] == [None]


def scored(services: FakeServices, as_of: date) -> StageOutcome:
    grant = services.granted(Kind.SCORE, Stage.SCORE, as_of=as_of)
    outcome = score_predictions(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return outcome


def days_after(first: date, n: int) -> list[date]:
    return [first + place * DAY for place in range(1, n + 1)]


def test_a_better_challenger_is_promoted_once_and_its_decision_is_made_again_from_the_ledger_alone(
    better: FakeServices,
) -> None:
    better.with_policy(guardrails=GuardrailPolicy(min_answers=16))
    experiment = begun(better, mode=Mode.CANARY, steps=(0.1, 1.0), min_days_on_step=3)
    assert (experiment.started_as_of, experiment.plan.measure) == (STARTED, Measure.MARK)
    days = days_after(STARTED, N_DAYS)
    predict_days(better, days)
    actions = []
    for day in days:
        outcome = scored(better, day)
        actions.append(outcome.result["experiment"]["action"])
        if day == days[1]:
            again = scored(better, day)
            assert again.result["experiment"] == outcome.result["experiment"]
            assert len(better.ledger.looks(experiment.id)) == 2
        if outcome.result["experiment"]["end"]:
            break
    assert actions[0] == "wait"
    # Three scored days, as the first date's return is known on the second; and five dates' calls, to be compared.
    assert actions.index("advance") == 4
    looks = better.ledger.looks(experiment.id)
    assert "positive share (0 of 16 answers)" in looks[3].words
    assert actions[-1] == "promote"
    ended = better.ledger.experiment(experiment.id)
    champion = better.ledger.champion("growth")
    assert (ended.end, champion.version, champion.promotion_id) == (Action.PROMOTE, "2", ended.promotion_id)
    assert better.registry.version(MODEL, "2").stage == "Production"
    promotion = better.ledger.promotions("growth")[0]
    assert promotion.id == ended.promotion_id
    found = replay(promotion.evidence, promotion.evidence_digest)
    assert found is not None
    assert found.agrees
    lines = explanation(promotion, found)
    assert any(line.startswith(f"Experiment {experiment.id} against champion 1") for line in lines)
    swapped = {**promotion.evidence, "differences": [[day, -value] for day, value in promotion.evidence["differences"]]}
    assert not replay(swapped, promotion.evidence_digest).agrees  # type: ignore[union-attr]  # there is one
    assert any("the challenger is better" in line for line in score_lines(outcome.result))
    # What is reported of the champion says nothing of the challenger's days.
    assert {day.variant for day in better.ledger.live_days("growth")} == {"champion", "challenger"}
    report = better.ledger.live_report("growth")
    assert report is not None
    assert [one["variant"] for one in report.document["performance"]] == ["champion"]
    assert report.document["counts"]["n_predictions"] == N_DAYS * TICKERS - TICKERS * (days[-1] - day).days
    assert scored(better, day).result["experiment"]["end"] == "promote"  # found by a second scoring
    assert len(better.ledger.promotions("growth")) == 3


def test_what_is_reported_of_the_champion_is_the_same_with_a_challenger_beside_it(better: FakeServices) -> None:
    days = days_after(STARTED, 6)
    better.today = LAST
    for day in days:
        predicted(better, day)
    alone = scored(better, days[-1])
    before = better.ledger.live_report("growth")
    better.today = STARTED
    begun(better)
    predict_days(better, days)
    beside = scored(better, days[-1])
    after = better.ledger.live_report("growth")
    assert before is not None
    assert after is not None
    assert after.document == before.document
    assert beside.result["experiment"]["n_days"] == 5  # the last date's return is not known
    new = {"experiment", "n_new_days"}
    assert {name: value for name, value in beside.result.items() if name not in new} == {
        name: value for name, value in alone.result.items() if name not in new
    }


def test_a_worse_challenger_ends_and_the_champion_stays(services: FakeServices) -> None:
    with_two(services, champion=1, challenger=-1)
    experiment = begun(services)
    predict_days(services, days_after(STARTED, N_DAYS))
    outcome = scored(services, LAST)
    assert outcome.result["experiment"]["end"] == "keep"
    assert services.ledger.champion("growth").version == "1"
    decided = services.ledger.promotions("growth")[0]
    assert (decided.decision, services.ledger.experiment(experiment.id).promotion_id) == ("keep", decided.id)
    found = replay(decided.evidence, decided.evidence_digest)
    assert found is not None
    assert found.agrees
    assert "version 2 was not promoted: the champion stays" in explanation(decided, found)[0]


def test_at_its_deadline_it_ends_undecided_and_the_champion_stays(better: FakeServices) -> None:
    experiment = begun(better, deadline_days=5)
    predict_days(better, days_after(STARTED, 5))
    assert scored(better, STARTED + 4 * DAY).result["experiment"]["end"] is None
    outcome = scored(better, STARTED + 5 * DAY)
    assert (outcome.result["experiment"]["end"], outcome.run_state) == ("undecided", RunState.SUCCEEDED)
    decided = better.ledger.promotions("growth")[0]
    assert (decided.decision, better.ledger.experiment(experiment.id).promotion_id) == ("inconclusive", decided.id)
    assert better.ledger.champion("growth").version == "1"


def test_a_process_that_dies_after_the_decision_leaves_one(better: FakeServices) -> None:
    experiment = begun(better)
    predict_days(better, days_after(STARTED, N_DAYS))
    grant = better.granted(Kind.SCORE, Stage.SCORE, as_of=LAST)
    score_predictions(grant, better, better.keeper(grant))  # and the process is gone
    better.timed.advance(LEASE_S + 1)
    better.ledger.due_publications()
    other = better.claimed(grant.run_id, Stage.SCORE)
    outcome = score_predictions(other, better, better.keeper(other))
    better.ledger.finish(other, outcome)
    assert (outcome.result["experiment"]["end"], outcome.result["experiment"]["decision"]) == ("promote", "promote")
    assert len(better.ledger.looks(experiment.id)) == 1
    assert [one.version for one in better.ledger.promotions("growth")] == ["2", "2", "1"]


def test_where_the_approval_is_a_persons_the_scoring_awaits_it(better: FakeServices) -> None:
    better.with_policy(promotion=PromotionPolicy(approval="manual", min_accuracy=0.6))
    begun(better)
    predict_days(better, days_after(STARTED, N_DAYS))
    outcome = scored(better, LAST)
    assert outcome.run_state is RunState.AWAITING_APPROVAL
    assert better.ledger.champion("growth").version == "1"
    waiting = better.ledger.promotions("growth")[0]
    assert waiting.decision == "await_approval"
    assert replay(waiting.evidence, waiting.evidence_digest).agrees  # type: ignore[union-attr]  # there is one
    request = approval_request(
        better.ledger, better.registry, str(waiting.run_id), answer="approve", actor="ann", reason="I looked at it"
    )
    grant = better.claimed(better.ledger.accept(request).run_id, Stage.PROMOTE)
    assert promote(grant, better, better.keeper(grant)).run_state is RunState.SUCCEEDED
    champion = better.ledger.champion("growth")
    # The challenger's own date, not the look's, before which no version would be promoted.
    assert (champion.version, champion.as_of) == ("2", TRAINED_AS_OF)


def test_a_try_after_the_one_that_asked_a_person_asks_too_whatever_was_started_meanwhile(better: FakeServices) -> None:
    better.with_policy(promotion=PromotionPolicy(approval="manual", min_accuracy=0.6))
    first = begun(better)
    predict_days(better, days_after(STARTED, N_DAYS))
    grant = better.granted(Kind.SCORE, Stage.SCORE, as_of=LAST)
    score_predictions(grant, better, better.keeper(grant))  # and the process is gone
    better.today = STARTED
    second = begun(better)
    better.today = LAST
    better.timed.advance(LEASE_S + 1)
    better.ledger.due_publications()
    other = better.claimed(grant.run_id, Stage.SCORE)
    outcome = score_predictions(other, better, better.keeper(other))
    assert outcome.run_state is RunState.AWAITING_APPROVAL
    assert (outcome.result["experiment"]["id"], outcome.result["experiment"]["decision"]) == (
        first.id,
        "await_approval",
    )
    assert better.ledger.looks(second.id) == []


def test_a_challenger_whose_features_are_missing_is_stopped_by_its_guardrail(services: FakeServices) -> None:
    services.with_policy(live=LIVE, guardrails=GuardrailPolicy(min_answers=8))
    services.with_source(market())
    services.today = STARTED
    decided(services, registered(services, "made-1", sign=-1, features=FEATURES[:2]))
    judged(services, registered(services, "made-2", sign=1))
    begun(services)
    table = market()
    values = table.column("noise").to_numpy().copy()
    values[-N_DAYS * TICKERS :] = np.nan
    services.with_source(table.set_column(table.column_names.index("noise"), "noise", pa.array(values)))
    predict_days(services, days_after(STARTED, 1))
    ended = scored(services, STARTED + DAY).result["experiment"]
    assert (ended["end"], services.ledger.champion("growth").version) == ("abort", "1")
    assert ended["words"] == "ended by a guardrail: missing features is 0.333, and may be 0.05"  # one of three features
    decision = services.ledger.promotions("growth")[0]
    assert replay(decision.evidence, decision.evidence_digest).agrees  # type: ignore[union-attr]  # there is one


def test_a_canary_whose_challenger_answers_nobody_stays_on_its_step(better: FakeServices) -> None:
    better.with_policy(guardrails=GuardrailPolicy(min_answers=8))
    made = begun(better, mode=Mode.CANARY, steps=(0.1, 0.2, 1.0), min_days_on_step=1)
    champion_answered = AnswerCount(
        strategy="growth",
        version="1",
        model_sha256=str(made.champion.sha256),
        variant="champion",
        minute=better.ledger.now().replace(second=0, microsecond=0) + timedelta(minutes=1),
        writer="one",
        n=500,
        n_errors=0,
        n_positive=0,
        n_missing_rows=0,
        latency_ms=(0,) * (len(LATENCY_BOUNDS_MS) + 1),  # frames alone
    )
    days = days_after(STARTED, 8)
    predict_days(better, days)
    better.ledger.count_answers([champion_answered])
    found = [scored(better, day).result["experiment"] for day in days[:7]]
    assert found[-1]["words"] == "10% until its guardrails are known: error rate (0 of 8 answers)"
    assert better.ledger.experiment(made.id).step == 0
    its = replace(champion_answered, variant="challenger", version="2", model_sha256=str(made.challenger.sha256), n=50)
    better.ledger.count_answers([its])
    assert scored(better, days[7]).result["experiment"]["action"] == "advance"  # no call of one row is waited for


def test_a_champion_that_moved_ends_it(better: FakeServices) -> None:
    experiment = begun(better)
    predict_days(better, days_after(STARTED, 2))
    decided(better, registered(better, "made-3", sign=-1, rounds=7))
    assert better.ledger.experiment(experiment.id).end is Action.ABORT
    outcome = scored(better, STARTED + 2 * DAY)
    assert "experiment" not in outcome.result


def test_a_label_that_is_another_one_ends_it_with_its_evidence(better: FakeServices) -> None:
    experiment = begun(better)
    predict_days(better, days_after(STARTED, 2))
    assert scored(better, STARTED + DAY).result["experiment"]["end"] is None
    better.with_policy(
        training=replace(better.policies.settled("growth").strategy.training, label="target_return >= 0")
    )
    outcome = scored(better, STARTED + 2 * DAY)
    assert outcome.result["experiment"]["words"] == (
        "ended: the label was 'target_return > 0' and is 'target_return >= 0' now, by which its days cannot be counted "
        "together"
    )
    decided = better.ledger.promotions("growth")[0]
    assert (decided.decision, decided.id) == ("keep", better.ledger.experiment(experiment.id).promotion_id)
    assert replay(decided.evidence, decided.evidence_digest).agrees  # type: ignore[union-attr]  # there is one


def test_while_it_is_paused_nobody_is_asked_and_no_model_is_kept(
    better: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    better.with_policy(experiments=ExperimentPolicy(switch_hook="task:desk.may_switch"))
    begun(better)
    with better.timed.owner.transaction() as connection:
        connection.execute(text("UPDATE mlops_experiment SET paused = true"))
    predict_days(better, days_after(STARTED, N_DAYS))
    asked: list[object] = []
    monkeypatch.setattr(better, "ask_task", lambda *question: asked.append(question))
    waits = scored(better, LAST).result["experiment"]
    assert (waits["action"], asked) == ("wait", [])
    assert waits["words"].startswith("paused since the ledger was set back in time, until a person releases it: the")


def test_while_a_switch_is_refused_it_waits_and_says_so(better: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    hooked = ExperimentPolicy(switch_hook="task:desk.may_switch", switch_timeout_s=0.1)
    better.with_policy(experiments=hooked)
    experiment = begun(better)
    predict_days(better, days_after(STARTED, N_DAYS))
    monkeypatch.setattr(better, "ask_task", lambda *_: {"may_switch": False, "reason": "positions are open"})
    waits = scored(better, LAST - DAY).result["experiment"]
    assert (waits["action"], waits["end"]) == ("wait", None)
    assert "positions are open" in waits["words"]
    monkeypatch.setattr(better, "ask_task", lambda *_: {"may_switch": True})
    assert scored(better, LAST).result["experiment"]["end"] == "promote"
    assert better.ledger.looks(experiment.id)[-1].as_of == LAST


def test_a_former_champion_is_watched_beside_the_challenger(better: FakeServices) -> None:
    decided(better, registered(better, "made-3", sign=-1, rounds=7))
    better.with_policy(experiments=ExperimentPolicy(watched_former=1, watch_days=100))
    begun(better)
    better.today = LAST
    beside = predicted(better, STARTED + DAY).result["beside"]
    assert [(one["variant"], one["version"], one["n_rows"]) for one in beside] == [
        ("challenger", "2", TICKERS),
        ("former", "1", TICKERS),
    ]
    days = better.ledger.prediction_days("growth", STARTED + DAY, STARTED + DAY)
    assert sorted((day.variant, day.version, day.n_tickers) for day in days) == [
        ("challenger", "2", TICKERS),
        ("champion", "3", TICKERS),
        ("former", "1", TICKERS),
    ]


def test_a_challenger_that_cannot_be_asked_spoils_nothing_and_a_second_run_asks_it_again(
    better: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(better)
    better.today = LAST
    asked = better.fake_registry.model_file

    def silent(name: str, version: str) -> bytes:
        if version == "2":
            raise RegistryUnavailable
        return asked(name, version)

    monkeypatch.setattr(better.fake_registry, "model_file", silent)
    outcome = predicted(better, STARTED + DAY)
    assert (outcome.run_state, outcome.result["n_rows"]) == (RunState.SUCCEEDED, TICKERS)
    assert any("Challenger 2 did not predict: MLflow does not answer" in line for line in predict_lines(outcome.result))
    monkeypatch.undo()
    again = predicted(better, STARTED + DAY)
    assert again.result["predicted_by"] is not None
    assert [one["n_rows"] for one in again.result["beside"]] == [TICKERS]
    assert len(better.ledger.predictions("growth", STARTED + DAY, STARTED + DAY)) == 2 * TICKERS


def test_a_try_that_died_between_the_two_batches_writes_the_second_alone(
    better: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(better)
    better.today = LAST
    grant = better.granted(Kind.PREDICT, Stage.PREDICT, as_of=STARTED + DAY)

    def dies(*_: object, **__: object) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlops.stages.live.predict.predict_beside", dies)
    with pytest.raises(KeyboardInterrupt):
        predict_universe(grant, better, better.keeper(grant))
    monkeypatch.undo()
    better.timed.advance(LEASE_S + 1)
    better.ledger.due_publications()
    other = better.claimed(grant.run_id, Stage.PREDICT)
    outcome = predict_universe(other, better, better.keeper(other))
    assert [one["n_rows"] for one in outcome.result["beside"]] == [TICKERS]
    assert len(better.ledger.predictions("growth", STARTED + DAY, STARTED + DAY)) == 2 * TICKERS


def test_a_preview_says_how_long_it_takes_and_when_the_held_out_test_is_better(better: FakeServices) -> None:
    found = preview(better, "growth", "2")
    assert found.n_differences == 20
    assert found.origin == "2020-04-06 to 2020-04-25, which version 2 held out"
    assert found.words[0].startswith("About ")
    assert any("by the mark" in words for words in found.words)
    assert any("by the increment" in words for words in found.words)
    slow = preview(better, "growth", "2", ExperimentOptions(sharpe=0.5))
    assert slow.words[0].startswith("More than two years")
    assert "use the held-out test instead" in slow.words[0]
    assert better.ledger.running_experiment("growth") is None
    better.with_policy(live=LivePolicy())
    assert "live.predict is off for 'growth'" in preview(better, "growth", "2").words[-1]


def test_an_older_challenger_is_compared_on_dates_that_the_champion_held_out(better: FakeServices) -> None:
    later = {"holdout_start": "2020-04-16", "holdout_end": "2020-04-30"}
    decided(better, registered(better, "made-3", sign=-1, rounds=7, dates={**DATES, **later}))
    found = preview(better, "growth", "2")
    assert (found.origin, found.n_differences) == ("2020-04-16 to 2020-04-30, which version 3 held out", 15)


def test_another_experiment_of_the_same_two_has_half_of_the_alpha(better: FakeServices) -> None:
    unseen = begun_of(better, "2")
    better.ledger.steer_experiment(unseen.id, "abort", by="ann", reason="a test")
    first = begun_of(better, "2")
    assert first.plan.alpha == unseen.plan.alpha  # no day of that one was scored
    days = days_after(STARTED, 3)
    predict_days(better, days)
    scored(better, days[1])
    better.ledger.steer_experiment(first.id, "abort", by="ann", reason="a test")
    found = preview(better, "growth", "2")
    assert found.plan.alpha == first.plan.alpha / 2
    assert any(words.startswith("Experiments of the same two before this one: 1;") for words in found.words)
    two = better.registry.version(MODEL, "2")
    decided(better, two, identity=better.ledger.experiment(first.id).challenger)
    judged(better, better.registry.version(MODEL, "1"), identity=first.champion)
    assert preview(better, "growth", "1").plan.alpha == first.plan.alpha / 2  # the same two, whichever is the champion


def test_what_cannot_be_tried_is_refused_with_what_to_do(services: FakeServices) -> None:
    services.with_policy(live=LIVE)
    services.with_source(market())
    services.today = STARTED
    first = registered(services, "made-1", sign=-1)
    with pytest.raises(NoChampion, match="acis promote growth --version 1"):
        begun_of(services, "1")
    decided(services, first)
    with pytest.raises(VersionNotFound, match="no version '9'"):
        begun_of(services, "9")
    with pytest.raises(InvalidTransition, match="is the same model; name another version"):
        begun_of(services, "1")
    second = registered(services, "made-2", sign=1, rounds=6)
    with pytest.raises(InvalidTransition, match="never judged; `acis promote growth --version 2` does"):
        begun_of(services, "2")
    gate = {"metric": "accuracy", "passed": False, "words": "accuracy 0.55, asked is 0.7"}
    judged(services, second, decision="refuse", target_stage="Archived", evidence={"gates": [gate]})
    with pytest.raises(InvalidTransition, match=r"missed a gate when it was judged: accuracy 0\.55, asked is 0\.7"):
        begun_of(services, "2")
    judged(services, second)
    with pytest.raises(ConfigurationError, match="kept with its reason"):
        start(services, "growth", "2", by="ann", reason=" ")
    services.today = TRAINED_AS_OF - DAY
    with pytest.raises(
        InvalidTransition, match="was trained as of 2020-05-01, and the newest complete date is 2020-04-30"
    ):
        begun_of(services, "2")
    services.today = STARTED
    with pytest.raises(ConfigurationError, match="share of the keys above 0"):
        preview(services, "growth", "2", ExperimentOptions(mode=Mode.AB, share=0.0))
    with pytest.raises(ConfigurationError, match=r"steps cannot be 0\.0: input should be greater than 0"):
        ExperimentOptions(mode=Mode.CANARY, steps=(0.0, 1.0))
    with pytest.raises(InsufficientData, match=r"known of 3 days \(.*\), and 5 are needed"):
        of_days(services, 3)
    with pytest.raises(InsufficientData, match=r"known of 5 days \(.*\), and they are all alike"):
        of_days(services, 5)
    with pytest.raises(InsufficientData, match=r"compared by increment.*allows mark"):
        few(services)
    begun_of(services, "2")
    with pytest.raises(ExperimentRunning, match=r"experiment \d+ with version 2 runs since"):
        begun_of(services, "2")
    services.fake_registry.files[MODEL, "2"] = b"another file"
    with pytest.raises(UnrecordedModelFile):
        preview(services, "growth", "2")


def begun_of(services: FakeServices, version: str) -> Experiment:
    return start(services, "growth", version, by="ann", reason="a test")


def of_days(services: FakeServices, n: int) -> None:
    """A preview, told by so many days on which the two differ by nothing."""
    one = DailyDifferences(
        measure=Measure.MARK, dates=tuple(days_after(STARTED, n)), values=np.zeros(n), origin="some days"
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(services, "daily_differences", lambda *_: {Measure.MARK: one})
        preview(services, "growth", "2")


def few(services: FakeServices) -> None:
    """Four names a date, of which the increment's spread is not known."""
    table = market()
    names = np.asarray(table.column("ticker").to_pylist())
    services.with_source(table.filter(pa.array(np.isin(names, ["T0", "T1", "T2", "T3"]))))
    try:
        preview(services, "growth", "2", ExperimentOptions(measure=Measure.INCREMENT))
    finally:
        services.with_source(market())
