"""The promote stage over a ledger and a registry in memory: who becomes the champion, and who never does."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from mlops.domain.errors import (
    ChampionMoved,
    CheckpointsUnavailable,
    LeaseLost,
    RegistryError,
    RegistryUnavailable,
    StageCancelled,
    UnusableModelFile,
    VersionNotFound,
)
from mlops.domain.policies import PromotionPolicy
from mlops.domain.ports import ModelVersion
from mlops.domain.promotion.records import Promotion, PromotionDecision
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.registry.adoption import record_version
from mlops.registry.kept_models import kept
from mlops.stages import paired_evaluation
from mlops.stages.labelled_rows import read_labelled
from mlops.stages.promote import COMPARISONS, promote
from mlops.stages.train import train
from tests.support.ledgers import decision_for, record_file
from tests.support.models import trained_model
from tests.support.registry import sha256_of
from tests.support.services import FEATURES, LAST, MODEL, TICKERS, FakeServices

GOOD = {"accuracy": 0.85, "roc_auc": 0.9}
HOLDOUT = (LAST - timedelta(days=24), LAST - timedelta(days=5))


def classifier(services: FakeServices, *, skill: bool, seed: int = 0, note: str = "") -> xgb.XGBClassifier:
    """Fitted to the panel's labels, or to their opposite; a seed above 0 gives another model as good, a note a file."""
    rows = read_labelled(services.source, services.strategies["growth"], as_of=LAST)
    y = rows.y if skill else 1 - rows.y
    drawn = {"subsample": 0.9, "random_state": seed} if seed else {}
    model = xgb.XGBClassifier(n_estimators=5, max_depth=2, n_jobs=1, **drawn)
    model.fit(pd.DataFrame(rows.x[:], columns=list(FEATURES)), y)
    model.get_booster().set_attr(note=note or None)
    return model


def registered(
    services: FakeServices,
    *,
    skill: bool = True,
    metrics: dict[str, float] | None = None,
    as_of: date = LAST,
    tags: dict[str, str] | None = None,
    seed: int | None = None,
    note: str = "",
) -> ModelVersion:
    """A challenger in Staging; without a seed, another model than those before it."""
    number = len(services.registry.versions(MODEL))
    trained = trained_model(f"run-{number}", metrics=metrics or GOOD)
    train_end = HOLDOUT[0] - timedelta(days=5)
    held_out = {
        "train_end": train_end.isoformat(),
        "holdout_start": HOLDOUT[0].isoformat(),
        "holdout_end": HOLDOUT[1].isoformat(),
    }
    all_tags = {"training_date": as_of.isoformat(), **held_out} if tags is None else tags
    version = services.registry.log_training(
        replace(
            trained,
            model=classifier(services, skill=skill, seed=number if seed is None else seed, note=note),
            tags=all_tags,
        )
    )
    services.registry.apply_stage(MODEL, version.version, "Staging", seq=0, tags={})
    return version


def decided(services: FakeServices, kind: Kind = Kind.PROMOTE, **asked: Any) -> tuple[Grant, StageOutcome]:
    grant = services.granted(kind, Stage.PROMOTE, **asked)
    outcome = promote(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return grant, outcome


def stages(services: FakeServices) -> dict[str, str]:
    return {item.version: item.stage for item in services.registry.versions(MODEL)}


def champion(services: FakeServices) -> str | None:
    return services.ledger.champion("growth").version


# --------------------------------------------------------------------------- the four answers


def test_the_first_version_that_clears_its_gate_is_promoted(services: FakeServices) -> None:
    registered(services)
    _, outcome = decided(services)
    assert (outcome.run_state, outcome.result["promoted"]) == (RunState.SUCCEEDED, True)
    assert champion(services) == "1"
    assert services.registry.version(MODEL, "1").aliases == ("champion",)


def test_the_model_is_kept_outside_of_the_registry_before_it_can_be_the_champion(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = registered(services)
    decide, when_decided = services.ledger.decide, []

    def watched(grant: Grant, decision: PromotionDecision) -> Promotion:
        when_decided.append(kept(services, decision.identity))
        return decide(grant, decision)

    monkeypatch.setattr(services.ledger, "decide", watched)
    decided(services)
    assert [one is not None and one.model for one in when_decided] == [
        services.registry.model_file(MODEL, version.version)
    ]


def test_a_version_that_the_registry_loses_during_the_decision_is_no_champion(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services)

    def lost(name: str, version: str) -> bytes:
        raise VersionNotFound(f"version {version} of {name!r} is not in the registry")

    monkeypatch.setattr("mlops.registry.kept_models.keep_model", lambda *_: lost(MODEL, "1"))
    with pytest.raises(VersionNotFound):
        decided(services)
    assert champion(services) is None


def test_a_store_that_cannot_be_written_holds_no_decision_up(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services)

    def full(*_: object) -> None:
        raise CheckpointsUnavailable("the store is full")

    monkeypatch.setattr(services.checkpoints, "keep_model", full)
    decided(services)
    assert champion(services) == "1"


def test_a_training_whose_run_was_deleted_in_the_registry_is_promoted_and_kept_without_its_parameters(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services)

    def deleted(*_: object) -> None:
        raise RegistryError("its run was deleted")

    monkeypatch.setattr(services.registry, "training_facts", deleted)
    decided(services)
    found = kept(services, services.ledger.champion("growth").identity)
    assert champion(services) == "1"
    assert found is not None
    assert found.params == {}


def test_a_version_below_its_gate_is_refused_with_the_numbers_and_archived(services: FakeServices) -> None:
    registered(services, metrics={"accuracy": 0.55, "roc_auc": 0.5})
    _, outcome = decided(services)
    assert outcome.run_state is RunState.REFUSED
    assert outcome.result["reasons"] == ["accuracy 0.5500 is below the required 0.6000"]
    assert (champion(services), stages(services)) == (None, {"1": "Archived"})
    assert services.registry.version(MODEL, "1").tags["acis.reasons"] == outcome.result["reasons"][0]


def test_a_gate_that_the_caller_gave_decides(services: FakeServices) -> None:
    registered(services)
    _, outcome = decided(services, min_accuracy=0.9)
    assert (outcome.run_state, outcome.result["required"]["min_accuracy"]) == (RunState.REFUSED, 0.9)


def test_a_champion_that_is_better_on_the_same_dates_is_kept(services: FakeServices) -> None:
    registered(services)
    decided(services)
    registered(services, skill=False)  # its own metrics lie; what counts is measured anew
    _, outcome = decided(services)
    assert (outcome.run_state, outcome.result["decision"]) == (RunState.REFUSED, "keep")
    assert "worse by at least 0.01 with probability 0.99" in outcome.result["reasons"][0]
    assert outcome.result["comparison"]["verdict"] == "keep"
    assert (champion(services), stages(services)) == ("1", {"1": "Production", "2": "Archived"})


def test_a_better_challenger_takes_the_place_and_the_old_champion_is_archived(services: FakeServices) -> None:
    registered(services, skill=False)
    decided(services)
    registered(services)
    _, outcome = decided(services)
    assert outcome.result["previous_version"] == "1"
    assert (champion(services), stages(services)) == ("2", {"1": "Archived", "2": "Production"})


def test_both_are_scored_on_the_dates_that_the_challenger_held_out(services: FakeServices) -> None:
    registered(services)
    decided(services)
    registered(services)
    grant, _ = decided(services)
    promotion = services.ledger.promotion_of(grant.run_id)
    assert promotion is not None
    test = promotion.evidence["test"]
    # The same model on the same rows: equal to the last bit, so that neither is better.
    assert (test["challenger"], test["difference"]) == (test["champion"], 0)
    assert (test["probability_better"], test["probability_worse"]) == (0, 0)
    assert promotion.evidence["holdout"] == [day.isoformat() for day in HOLDOUT]


def test_a_new_ledger_compares_with_a_champion_of_before_once_a_person_has_recorded_it(services: FakeServices) -> None:
    services.fake_registry.recorded = lambda _: None
    registered(services)
    services.fake_registry.set_by_hand(MODEL, "1", stage="Production", aliases=("champion",))
    _, outcome = decided(services, version="1")
    assert (outcome.result["decision"], champion(services)) == ("refuse", None)
    assert "acis registry record growth 1" in outcome.result["reasons"][0]
    record_version(
        services.ledger, services.registry, services.strategies["growth"], "1", actor="ada", reason="ours of last year"
    )
    assert services.ledger.audit_lines(action="model.record")[0].actor == "ada"
    decided(services, version="1")
    services.fake_registry.recorded = partial(record_file, services.ledger)
    registered(services, skill=False)
    _, outcome = decided(services)
    assert outcome.result["decision"] == "keep"
    assert (champion(services), stages(services)) == ("1", {"1": "Production", "2": "Archived"})


def swap_file(services: FakeServices, version: str) -> None:
    """Another file in place of the version's, and the tag that said what it was."""
    services.fake_registry.files[MODEL, version] = b"another model"
    services.fake_registry.set_tags(MODEL, version, {"acis.model_sha256": sha256_of(b"another model")})


def test_a_version_whose_file_was_swapped_with_its_tag_is_refused_and_no_override_changes_that(
    services: FakeServices,
) -> None:
    registered(services)
    swap_file(services, "1")
    for asked in ({}, {"override": "it is fine"}):
        _, outcome = decided(services, version="1", **asked)
        assert (outcome.result["decision"], champion(services)) == ("refuse", None)
        assert "it was changed after it was logged" in outcome.result["reasons"][0]


def test_a_champion_whose_file_was_swapped_opens_the_way_for_no_other_version(services: FakeServices) -> None:
    registered(services)
    decided(services)
    services.fake_registry.files[MODEL, "1"] = b"another model"
    registered(services)
    _, outcome = decided(services)
    assert (outcome.result["decision"], champion(services)) == ("refuse", "1")
    assert "it cannot be compared with champion 1" in outcome.result["reasons"][0]


def test_metrics_and_findings_that_were_changed_in_mlflow_count_for_nothing(services: FakeServices) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.999))
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    outcome = train(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    (version,) = services.registry.versions(MODEL)
    perfect = dict.fromkeys(version.metrics, 1.0)
    services.fake_registry._models[MODEL] = [replace(version, metrics=perfect)]
    _, judged = decided(services)
    assert judged.result["decision"] == "refuse"
    assert judged.result["metrics"]["accuracy"] == pytest.approx(outcome.result["metrics"]["accuracy"])


def test_a_replay_does_not_adopt_what_the_registry_shows(services: FakeServices) -> None:
    registered(services)
    services.fake_registry.set_by_hand(MODEL, "1", stage="Production", aliases=("champion",))
    registered(services)
    decided(services, namespace="replay-1")
    assert services.ledger.champion("growth", namespace="replay-1").version == "2"
    assert services.ledger.promotions("growth") == []


def test_a_policy_that_wants_a_person_leaves_the_version_in_staging(services: FakeServices) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    registered(services)
    _, outcome = decided(services)
    assert (outcome.run_state, outcome.result["promoted"]) == (RunState.AWAITING_APPROVAL, False)
    assert (champion(services), stages(services)) == (None, {"1": "Staging"})


def test_the_champion_promoted_again_stays_in_production(services: FakeServices) -> None:
    registered(services)
    decided(services)
    _, outcome = decided(services, version="1")
    assert (outcome.run_state, outcome.result["decision"]) == (RunState.REFUSED, "keep")
    assert (champion(services), stages(services)) == ("1", {"1": "Production"})


# --------------------------------------------------------------------------- rollback


def test_a_rollback_returns_an_earlier_version_without_asking_its_gates(services: FakeServices) -> None:
    registered(services, skill=False)
    decided(services)
    registered(services)
    decided(services)
    services.with_policy(promotion=PromotionPolicy(min_accuracy=1.0))
    grant, outcome = decided(services, Kind.ROLLBACK, version="1", reason="losses since Monday")
    assert (outcome.run_state, outcome.result["decision"]) == (RunState.SUCCEEDED, "rollback")
    assert outcome.result["reasons"] == ["rolled back from version 2: losses since Monday"]
    assert (champion(services), stages(services)) == ("1", {"1": "Production", "2": "Archived"})
    promotion = services.ledger.promotion_of(grant.run_id)
    assert promotion is not None
    assert promotion.projected_at is not None


def test_a_rollback_to_a_version_that_is_not_there_changes_nothing(services: FakeServices) -> None:
    registered(services)
    decided(services)
    with pytest.raises(VersionNotFound):
        decided(services, Kind.ROLLBACK, version="7")
    assert (champion(services), stages(services)) == ("1", {"1": "Production"})


def test_a_training_dated_after_the_old_version_but_before_the_rollback_does_not_undo_it(
    services: FakeServices,
) -> None:
    old, newer = LAST - timedelta(days=9), LAST
    registered(services, as_of=old)
    decided(services)
    registered(services, as_of=newer)
    decided(services)
    decided(services, Kind.ROLLBACK, version="1")
    registered(services, as_of=LAST - timedelta(days=3))
    _, outcome = decided(services)
    assert outcome.run_state is RunState.REFUSED
    assert champion(services) == "1"


# --------------------------------------------------------------------------- odd challengers and champions


def test_a_version_dated_before_the_champions_own_date_is_refused(services: FakeServices) -> None:
    registered(services)
    decided(services)
    registered(services, as_of=LAST - timedelta(days=1))
    _, outcome = decided(services)
    assert outcome.result["decision"] == "refuse"
    assert f"before the champion's own {LAST}" in outcome.result["reasons"][0]
    assert champion(services) == "1"


def test_a_version_of_the_same_date_is_compared(services: FakeServices) -> None:
    registered(services, skill=False)
    decided(services)
    registered(services)
    assert decided(services)[1].result["decision"] == "promote"


def test_a_champion_that_the_registry_lost_gives_way_once_a_person_says_that_it_is_gone(services: FakeServices) -> None:
    services.ledger.record_transition("growth", decision_for("41"))  # it is not in the registry
    registered(services)
    _, outcome = decided(services)
    assert (outcome.result["decision"], champion(services)) == ("inconclusive", "41")
    assert "acis registry restore growth" in outcome.result["reasons"][0]
    services.ledger.accept_registry("growth", actor="ada", reason="nobody has it")
    _, outcome = decided(services, version="1")
    assert (outcome.result["decision"], champion(services)) == ("promote", "1")
    assert any("champion 41 cannot be scored" in reason for reason in outcome.result["reasons"])


def test_a_challenger_that_cannot_be_scored_never_takes_the_place(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services)
    decided(services)
    registered(services)
    load = services.fake_registry.load_classifier

    def damaged(name: str, version: str, **how: Any) -> Any:
        if version == "2":
            raise UnusableModelFile("model.ubj does not have its logged digest")
        return load(name, version, **how)

    monkeypatch.setattr(services.fake_registry, "load_classifier", damaged)
    _, outcome = decided(services)
    assert (outcome.run_state, champion(services)) == (RunState.REFUSED, "1")
    assert "logged digest" in outcome.result["reasons"][0]


@pytest.mark.parametrize("refused", ["1", "2"])
def test_a_registry_that_refuses_to_give_a_model_leaves_the_champion_alone(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    registered(services)
    decided(services)
    registered(services)
    load = services.fake_registry.load_classifier

    def refuses(name: str, version: str, **how: Any) -> Any:
        if version == refused:
            raise RegistryError("MLflow refuses it: PERMISSION_DENIED")
        return load(name, version, **how)

    monkeypatch.setattr(services.fake_registry, "load_classifier", refuses)
    with pytest.raises(RegistryError, match="PERMISSION_DENIED"):
        decided(services)
    assert (champion(services), stages(services)["2"]) == ("1", "Staging")


def test_a_champion_whose_file_is_gone_gives_way(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(services)
    decided(services)
    registered(services)
    load = services.fake_registry.load_classifier

    def gone(name: str, version: str, **how: Any) -> Any:
        if version == "1":
            raise UnusableModelFile("model file model.ubj is gone")
        return load(name, version, **how)

    monkeypatch.setattr(services.fake_registry, "load_classifier", gone)
    _, outcome = decided(services)
    assert (outcome.result["decision"], champion(services)) == ("promote", "2")
    assert "champion 1 cannot be scored on these dates: model file model.ubj is gone" in outcome.result["reasons"]


@pytest.mark.parametrize(
    ("known_dates", "finding"),
    [
        # HOLDOUT has 20 dates; a label reaches 5 dates beyond its own.
        (-5, None),
        (-4, "1 of 20 held-out dates are left out"),
        (14, "19 of 20 held-out dates are left out"),
    ],
)
def test_the_champion_is_not_scored_on_dates_that_it_was_trained_on(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, known_dates: int, finding: str | None
) -> None:
    champion_end = HOLDOUT[0] + timedelta(days=known_dates)
    registered(services, tags={"training_date": LAST.isoformat(), "train_end": champion_end.isoformat()})
    decided(services)
    registered(services)
    scored: list[int] = []
    judge = paired_evaluation.score_rows

    def watched(strategy: Any, rows: Any, on: Any, *given: Any, **named: Any) -> Any:
        scored.append(int(on.sum()))
        return judge(strategy, rows, on, *given, **named)

    monkeypatch.setattr(paired_evaluation, "score_rows", watched)
    grant, outcome = decided(services)
    left = 20 - (0 if finding is None else int(finding.split()[0]))
    assert scored == [left * TICKERS] * 2  # both on the same rows
    promotion = services.ledger.promotion_of(grant.run_id)
    assert promotion is not None
    assert len(promotion.evidence["findings"]) == (finding is not None)
    assert finding is None or finding in outcome.result["reasons"][-1]


def test_the_embargo_lies_between_the_champion_s_training_and_the_compared_dates_too(services: FakeServices) -> None:
    training = replace(services.strategies["growth"].training, embargo_dates=3)
    services.with_policy(training=training)
    champion_end = HOLDOUT[0] - timedelta(days=6)  # a horizon of 5 and an embargo of 3 reach 2 dates into the 20
    registered(services, tags={"training_date": LAST.isoformat(), "train_end": champion_end.isoformat()})
    decided(services)
    registered(services)
    _, outcome = decided(services)
    assert "2 of 20 held-out dates are left out" in outcome.result["reasons"][-1]


def test_a_champion_that_knows_all_held_out_dates_keeps_its_place(services: FakeServices) -> None:
    champion_end = HOLDOUT[0] + timedelta(days=15)  # its last label reaches beyond the last of 20
    registered(services, tags={"training_date": LAST.isoformat(), "train_end": champion_end.isoformat()})
    decided(services)
    registered(services)
    _, outcome = decided(services)
    assert (outcome.run_state, champion(services)) == (RunState.REFUSED, "1")
    assert f"champion 1 was trained up to {champion_end} and knows all 20" in outcome.result["reasons"][0]


def test_a_champion_that_does_not_say_what_it_was_trained_on_is_compared_and_that_is_told(
    services: FakeServices,
) -> None:
    registered(services, tags={})
    decided(services)
    registered(services, skill=False)
    _, outcome = decided(services)
    assert (outcome.result["decision"], champion(services)) == ("keep", "1")
    assert "champion 1 does not say what it was trained on" in outcome.result["reasons"][-1]


@pytest.mark.parametrize("tags", [{}, {"holdout_start": "soon", "holdout_end": "later"}])
def test_a_version_that_names_no_held_out_dates_is_refused_where_there_is_a_champion(
    services: FakeServices, tags: dict[str, str]
) -> None:
    registered(services)
    decided(services)
    registered(services, tags=tags)
    _, outcome = decided(services)
    assert (outcome.run_state, champion(services)) == (RunState.REFUSED, "1")
    assert "which dates it held out" in outcome.result["reasons"][0]


def test_a_version_whose_held_out_dates_the_view_lost_is_refused(services: FakeServices) -> None:
    registered(services)
    decided(services)
    lost = {"training_date": LAST.isoformat(), "holdout_start": "2019-01-01", "holdout_end": "2019-02-01"}
    registered(services, tags=lost)
    _, outcome = decided(services)
    assert (outcome.run_state, champion(services)) == (RunState.REFUSED, "1")
    assert "no labelled rows" in outcome.result["reasons"][0]


def test_a_version_without_feature_names_is_refused(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(services)
    decided(services)
    registered(services)
    load = services.fake_registry.load_classifier
    nameless = xgb.XGBClassifier(n_estimators=1, n_jobs=1).fit(np.zeros((2, 3)), [0, 1])
    monkeypatch.setattr(
        services.fake_registry,
        "load_classifier",
        lambda name, version, **how: nameless if version == "2" else load(name, version, **how),
    )
    _, outcome = decided(services)
    assert (outcome.run_state, champion(services)) == (RunState.REFUSED, "1")


def test_nothing_in_staging_is_said(services: FakeServices) -> None:
    with pytest.raises(VersionNotFound, match="no version in Staging"):
        decided(services)


# --------------------------------------------------------------------------- twice, and at the same time


def test_a_stage_that_runs_twice_decides_once(services: FakeServices) -> None:
    registered(services)
    grant = services.granted(Kind.PROMOTE, Stage.PROMOTE)
    first = promote(grant, services, services.keeper(grant))
    services.registry.apply_stage(MODEL, "1", "Staging", seq=0, tags={})  # the first try died before it was shown
    second = promote(grant, services, services.keeper(grant))
    assert second == first
    assert len(services.ledger.promotions("growth")) == 1
    assert stages(services) == {"1": "Production"}


def test_a_cancellation_after_the_decision_comes_too_late(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services)
    grant = services.granted(Kind.PROMOTE, Stage.PROMOTE)
    keeper, decide = services.keeper(grant), services.ledger.decide

    def decide_and_be_cancelled(*asked: Any) -> Any:
        promotion = decide(*asked)
        services.ledger.cancel(grant.run_id, actor="operator")
        keeper._renew(None)
        return promotion

    monkeypatch.setattr(services.ledger, "decide", decide_and_be_cancelled)
    outcome = promote(grant, services, keeper)
    keeper.check_before_write()  # as the execution asks before it writes the end
    assert services.ledger.finish(grant, outcome).run_state is RunState.SUCCEEDED
    assert (champion(services), stages(services)) == ("1", {"1": "Production"})


def test_a_cancellation_before_the_decision_is_in_time(services: FakeServices) -> None:
    registered(services)
    grant = services.granted(Kind.PROMOTE, Stage.PROMOTE)
    services.ledger.cancel(grant.run_id, actor="operator")
    keeper = services.keeper(grant)
    keeper._renew(None)
    with pytest.raises(StageCancelled):
        promote(grant, services, keeper)
    assert services.ledger.promotions("growth") == []


def test_a_registry_that_refuses_to_show_a_decision_does_not_undo_it(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services)

    def refuses(*_: object, **__: object) -> None:
        raise RegistryError("MLflow refuses it: PERMISSION_DENIED")

    monkeypatch.setattr(services.fake_registry, "apply_stage", refuses)
    _, outcome = decided(services)
    assert (outcome.run_state, champion(services)) == (RunState.SUCCEEDED, "1")
    assert [item.version for item in services.ledger.unprojected()] == ["1"]  # the reconciler's to show


def test_a_registry_that_does_not_answer_is_asked_again(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services)
    grant = services.granted(Kind.PROMOTE, Stage.PROMOTE)

    def silent(*_: object, **__: object) -> None:
        raise RegistryUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(services.fake_registry, "apply_stage", silent)
        with pytest.raises(RegistryUnavailable):
            promote(grant, services, services.keeper(grant))
    assert promote(grant, services, services.keeper(grant)).run_state is RunState.SUCCEEDED
    assert stages(services) == {"1": "Production"}


def moving(services: FakeServices, monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Another promotion commits during each of the first comparisons."""
    load = services.fake_registry.load_classifier
    left = [times]

    def load_and_move(name: str, version: str, **how: Any) -> Any:
        if left[0] and version != "1":
            left[0] -= 1
            seq = services.ledger.champion("growth").seq
            identity = services.ledger.champion("growth").identity
            services.ledger.record_transition(
                "growth", decision_for("1", expected_seq=seq, as_of=LAST, identity=identity)
            )
        return load(name, version, **how)

    monkeypatch.setattr(services.fake_registry, "load_classifier", load_and_move)


def test_a_champion_that_changed_meanwhile_is_compared_with_again(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services, skill=False)
    decided(services)
    registered(services)
    moving(services, monkeypatch, times=1)
    grant, outcome = decided(services)
    promotion = services.ledger.promotion_of(grant.run_id)
    assert promotion is not None
    # Promoted at seq 1, moved to seq 2 during the comparison: the decision is about seq 2.
    assert (promotion.evidence["champion"]["version"], promotion.evidence["champion"]["seq"]) == ("1", 2)
    assert (outcome.result["seq"], champion(services)) == (3, "2")


def test_a_champion_that_never_stands_still_ends_the_comparing(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services, skill=False)
    decided(services)
    registered(services)
    moving(services, monkeypatch, times=COMPARISONS)
    with pytest.raises(ChampionMoved, match="changed 5 times"):
        decided(services)
    assert champion(services) == "1"


def test_a_worker_that_was_silent_too_long_decides_nothing(services: FakeServices) -> None:
    registered(services)
    grant = services.granted(Kind.PROMOTE, Stage.PROMOTE)
    with pytest.raises(LeaseLost):
        promote(grant, services, services.keeper(grant, silent_s=46))
    assert services.ledger.promotions("growth") == []
    assert stages(services) == {"1": "Staging"}


def test_a_worker_whose_stage_was_taken_over_decides_nothing(services: FakeServices) -> None:
    registered(services)
    grant = services.granted(Kind.PROMOTE, Stage.PROMOTE)
    services.timed.advance(61)
    services.claimed(grant.run_id, Stage.PROMOTE)
    with pytest.raises(LeaseLost):
        promote(grant, services, services.keeper(grant))
    assert services.ledger.promotions("growth") == []


def test_a_replay_decides_in_its_own_namespace_and_shows_nothing(services: FakeServices) -> None:
    registered(services)
    _, outcome = decided(services, namespace="replay-1")
    assert outcome.result["promoted"]
    assert champion(services) is None
    assert services.ledger.champion("growth", namespace="replay-1").version == "1"
    assert stages(services) == {"1": "Staging"}
