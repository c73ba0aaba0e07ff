"""What the promote stage decides of undecided, old and useless champions, and what its evidence ties together."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from typer.testing import CliRunner

from cli.app import app
from mlops.code_version import code_version, commit_of
from mlops.domain.policies import PromotionPolicy
from mlops.domain.promotion.error_budget import LOOKBACK_DAYS
from mlops.domain.promotion.evidence import replay
from mlops.domain.promotion.explanation import explanation
from mlops.domain.records import Kind, Promotion, RunState
from tests.integration.retraining.test_promote_stage import HOLDOUT, champion, decided, registered, stages
from tests.support.ledgers import decision_for, promoting
from tests.support.services import LAST, MODEL, FakeServices

LOOSE = PromotionPolicy(min_accuracy=0.0)


def with_champion(services: FakeServices, **changes: Any) -> None:
    """A first version in Production."""
    services.with_policy(promotion=LOOSE)
    registered(services, **changes)
    decided(services)


def judged(services: FakeServices, **policy: Any) -> Promotion:
    """A decision about the version in Staging."""
    services.with_policy(promotion=PromotionPolicy(**{"min_accuracy": 0.0, **policy}))
    grant, _ = decided(services)
    promotion = services.ledger.promotion_of(grant.run_id)
    assert promotion is not None
    return promotion


def test_an_undecided_challenger_ends_refused_and_holds_staging_and_the_alias(services: FakeServices) -> None:
    with_champion(services)
    registered(services, seed=1)  # as good as the champion
    services.with_policy(promotion=LOOSE)
    _, outcome = decided(services)
    assert (outcome.run_state, outcome.result["decision"]) == (RunState.REFUSED, "inconclusive")
    assert "below the required 0.95" in outcome.result["reasons"][0]
    assert (champion(services), stages(services)) == ("1", {"1": "Production", "2": "Staging"})
    assert services.registry.version(MODEL, "2").aliases == ("challenger",)


def test_the_next_undecided_challenger_takes_the_alias_and_a_decided_one_frees_it(services: FakeServices) -> None:
    with_champion(services)
    for seed in (1, 2):
        registered(services, seed=seed)
        judged(services)
    assert services.registry.version(MODEL, "2").aliases == ()
    assert services.registry.version(MODEL, "3").aliases == ("challenger",)
    registered(services, skill=False)
    assert judged(services).decision == "keep"
    assert services.registry.version(MODEL, "4").stage == "Archived"


def test_a_gate_that_the_champion_misses_once_replaces_nobody_and_is_said(services: FakeServices) -> None:
    with_champion(services, skill=False)
    registered(services)
    promotion = judged(services, min_accuracy=0.6, margin=0.9)  # nothing could be better by 0.9
    assert promotion.decision == "inconclusive"
    assert promotion.evidence["champion_gates"][0]["passed"] is False
    (missed,) = promotion.evidence["missed_gates"]
    assert (missed["metric"], missed["looks"]) == ("accuracy", 1)
    assert "champion 1 misses a gate on these dates, which may be chance" in promotion.reasons[1]


def test_what_a_decision_spent_is_not_there_for_the_next(services: FakeServices) -> None:
    with_champion(services)
    levels = []
    for seed in (1, 2, 3):
        registered(services, seed=seed)
        levels.append(judged(services).evidence["error"]["level"])
    # a sixteenth of 0.1, and each time of what is left
    assert levels == pytest.approx([0.00625, 0.00625 * 15 / 16, 0.00625 * (15 / 16) ** 2])


def test_a_challenger_of_the_champions_bytes_or_predictions_is_the_same_model(services: FakeServices) -> None:
    with_champion(services)
    registered(services, seed=0)
    promotion = judged(services)
    assert promotion.decision == "keep"
    assert promotion.reasons[0].startswith("it is the same model as champion 1, byte for byte (sha256 ")
    assert (promotion.evidence["test"], promotion.evidence["error"]) == (None, None)  # nothing was looked at
    registered(services, seed=0, note="other bytes, the same trees")
    promotion = judged(services)
    assert promotion.decision == "keep"
    assert promotion.reasons[0].startswith(
        "it is the same model as champion 1: it says the same of each of the 160 rows"
    )


def test_a_retraining_that_gives_the_same_model_is_the_same_look(services: FakeServices) -> None:
    with_champion(services)
    registered(services, seed=1)
    first = judged(services)
    registered(services, seed=1)
    again = judged(services)
    assert (first.version, again.version) == ("2", "3")
    assert again.evidence["test"]["deflated_better"] == first.evidence["test"]["deflated_better"]
    assert (again.evidence["looks"], again.evidence["error"]["spends"]) == ([], 0.0)
    assert again.evidence["error"]["level"] == first.evidence["error"]["level"]


def test_an_old_champion_gives_way_to_one_that_clears_its_gates(services: FakeServices) -> None:
    with_champion(services, as_of=LAST - timedelta(days=30))
    registered(services, seed=1)
    assert judged(services, max_champion_age=30).decision == "inconclusive"
    registered(services, seed=2)
    promotion = judged(services, max_champion_age=29)
    assert promotion.decision == "promote"
    assert promotion.reasons[0] == "champion 1 is 30 days old, and the policy allows 29"


def test_by_gates_alone_nothing_is_compared(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    with_champion(services)
    registered(services, skill=False)

    def never(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(services.fake_registry, "load_classifier", never)
    promotion = judged(services, comparison="gates")
    assert (promotion.decision, champion(services)) == ("promote", "2")
    assert promotion.reasons[0] == "the policy compares by gates alone, not with champion 1"


def test_earlier_challengers_of_this_champion_and_tuning_trials_are_looks(services: FakeServices) -> None:
    with_champion(services)
    registered(services, seed=1)
    assert judged(services).evidence["test"]["looks"] == 1
    registered(services, seed=2)
    assert judged(services).evidence["looks"] == ["2"]
    tags = {
        "training_date": LAST.isoformat(),
        "train_end": (HOLDOUT[0] - timedelta(days=5)).isoformat(),
        "holdout_start": HOLDOUT[0].isoformat(),
        "holdout_end": HOLDOUT[1].isoformat(),
        "tuning_trials": "20",
    }
    registered(services, tags=tags, seed=3)
    evidence = judged(services).evidence
    assert (evidence["tuning_trials"], evidence["test"]["looks"], evidence["looks"]) == (20, 20, ["2", "3"])


def test_a_version_that_is_judged_again_is_not_its_own_earlier_challenger(services: FakeServices) -> None:
    with_champion(services)
    registered(services, seed=1)
    first, second = judged(services), judged(services)
    assert (first.version, second.version) == ("2", "2")
    assert first.evidence["test"] == second.evidence["test"]
    assert (first.evidence["error"]["spends"] > 0, second.evidence["error"]["spends"]) == (True, 0.0)


def test_challengers_of_more_than_90_days_ago_do_not_count(services: FakeServices) -> None:
    with_champion(services, as_of=LAST - timedelta(days=100))
    for days, version in ((LOOKBACK_DAYS + 1, "90"), (LOOKBACK_DAYS, "91")):
        old = decision_for(
            version, decision="keep", target_stage="Archived", as_of=LAST - timedelta(days=days), expected_seq=1
        )
        services.ledger.decide(promoting(services.ledger), old)
    registered(services, seed=1)
    assert judged(services).evidence["looks"] == ["91"]


def test_a_comparison_of_two_versions_of_xgboost_says_so(services: FakeServices) -> None:
    with_champion(services)
    version = registered(services)
    for number, xgboost in (("1", "3.1.0"), (version.version, "3.2.0")):
        tags = services.registry.version(MODEL, number).tags
        services.fake_registry.set_tags(MODEL, number, {**tags, "xgboost_version": xgboost})
    promotion = judged(services)
    said = "version 2 was trained with XGBoost 3.2.0, version 1 with XGBoost 3.1.0: a part of the difference may be the"
    assert any(reason.startswith(said) for reason in promotion.reasons)


def test_a_sharpe_ratio_is_compared_where_the_label_says_when_to_be_long(services: FakeServices) -> None:
    with_champion(services, skill=False)
    registered(services)
    promotion = judged(services, main_metric="sharpe")
    assert promotion.evidence["test"]["metric"] == "sharpe"
    assert promotion.decision == "promote"


def test_a_sharpe_ratio_of_another_label_is_no_number_and_the_reason_is_said(services: FakeServices) -> None:
    from dataclasses import replace

    services.with_policy(training=replace(services.strategies["growth"].training, label="momentum > 0"))
    with_champion(services, skill=False)
    registered(services)
    promotion = judged(services, main_metric="sharpe")
    assert promotion.decision == "inconclusive"
    assert "the label 'momentum > 0' does not say when to be long" in promotion.reasons[0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((np.nan, np.nan), "it gives no probability for 160 of 160 rows"),
        ((-2.0, 3.0), "it gives values from 3 to 3, which are no probabilities"),
        ((0.2, 0.5, 0.3), "it gives probabilities of shape (160, 3), not of two classes"),
    ],
)
@pytest.mark.parametrize(("broken", "decision", "in_place"), [("1", "promote", "2"), ("2", "refuse", "1")])
def test_a_model_that_gives_no_probability_is_never_better(
    services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    decision: str,
    in_place: str,
    answer: tuple[float, ...],
    said: str,
) -> None:
    with_champion(services)
    registered(services)
    load = services.fake_registry.load_classifier

    def loaded(name: str, version: str, **how: Any) -> Any:
        model = load(name, version, **how)
        if version != broken:
            return model
        silent = xgb.XGBClassifier()
        silent.load_model(model.get_booster().save_raw("ubj"))
        monkeypatch.setattr(silent, "predict_proba", lambda x: np.tile(answer, (len(x), 1)))
        return silent

    monkeypatch.setattr(services.fake_registry, "load_classifier", loaded)
    promotion = judged(services)
    assert (promotion.decision, champion(services)) == (decision, in_place)
    assert said in promotion.reasons[0]


# --------------------------------------------------------------------------- evidence, explained and replayed


def test_a_stored_decision_is_made_again_from_the_ledger_alone(services: FakeServices) -> None:
    with_champion(services)
    for skill in (True, False):
        registered(services, skill=skill)
        judged(services)
    promotions = services.ledger.promotions("growth")
    assert [item.decision for item in promotions] == ["keep", "inconclusive", "promote"]
    for promotion in promotions:
        again = replay(promotion.evidence, promotion.evidence_digest)
        assert again is not None
        assert again.agrees


def test_the_evidence_names_model_data_code_and_seed(services: FakeServices) -> None:
    with_champion(services)
    registered(services)
    evidence = judged(services).evidence
    for version, digest in (("2", evidence["model_sha256"]), ("1", evidence["champion"]["model_sha256"])):
        assert digest == hashlib.sha256(services.registry.model_file(MODEL, version)).hexdigest()
    assert len(evidence["common"]["data_fingerprint"]) == 64
    assert evidence["code"] == code_version()
    assert evidence["seed"] == 42


def test_an_explanation_has_the_numbers_in_words(services: FakeServices) -> None:
    with_champion(services)
    registered(services, skill=False)
    promotion = judged(services)
    again = replay(promotion.evidence, promotion.evidence_digest)
    text = "\n".join(explanation(promotion, again))
    assert "growth: version 2 was not promoted: the champion stays" in text
    assert f"dates      20 that neither was trained on, {HOLDOUT[0]} to {HOLDOUT[1]}, 160 rows" in text
    assert "for 1 look: this training, no earlier challenger" in text
    assert "required   0.95, so keep" in text
    assert (
        f"Computed again from the ledger alone: the same decision, byte for byte (digest {promotion.evidence_digest})"
        in text
    )


@pytest.mark.parametrize(
    "evidence",
    [
        {"kind": "rollback", "from": "2", "to": "1", "reason": "losses"},
        {"kind": "promote", "gates": [{"passed": True, "words": "accuracy fine"}], "comparison": None, "findings": []},
    ],
)
def test_a_decision_of_an_earlier_version_is_explained_as_far_as_it_goes(
    services: FakeServices, evidence: dict[str, Any]
) -> None:
    decision = decision_for("1", evidence=evidence)
    promotion = services.ledger.decide(promoting(services.ledger), decision)
    lines = explanation(promotion, replay(evidence, promotion.evidence_digest))
    assert lines[-1] == "It cannot be computed again: its evidence does not hold what each date contributed."
    assert "  better" in lines


def test_the_command_explains_replays_and_fails_on_changed_evidence(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.services.connect", lambda: services)
    with_champion(services)
    registered(services)
    services.with_policy(promotion=LOOSE)
    grant, _ = decided(services)
    run = CliRunner().invoke
    plain = run(app, ["explain", grant.run_id])
    assert (plain.exit_code, "Why" in plain.output) == (0, True)
    replayed = run(app, ["explain", grant.run_id, "--replay"])
    assert (replayed.exit_code, "byte for byte" in replayed.output) == (0, True)
    assert json.loads(run(app, ["explain", grant.run_id, "--json"]).output)["replay"]["agrees"] is True
    original = services.ledger.promotion_of

    def tampered(run_id: str) -> Promotion | None:
        found = original(run_id)
        assert found is not None
        found.evidence["test"]["probability_better"] = 0.99
        return found

    monkeypatch.setattr(services.ledger, "promotion_of", tampered)
    assert run(app, ["explain", grant.run_id, "--replay"]).exit_code == 1


def test_a_run_without_a_decision_has_nothing_to_explain(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.services.connect", lambda: services)
    accepted = services.ledger.accept(promoting_request(services))
    found = CliRunner().invoke(app, ["explain", accepted.run_id])
    assert found.exit_code == 2
    assert "decided about no version" in found.output


def promoting_request(services: FakeServices) -> Any:
    from mlops.runs.request import run_request

    return run_request(services.strategies, "growth", Kind.CHECK, reason="a test", requested_by="test")


def test_approve_and_reject_are_commands(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.services.connect", lambda: services)
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.0, approval="manual"))
    run = CliRunner().invoke
    registered(services)
    grant, _ = decided(services)
    stale = run(app, ["approve", grant.run_id, "--reason", "fine", "--digest", "0" * 64])
    assert (stale.exit_code, champion(services)) == (2, None)
    assert run(app, ["approve", grant.run_id, "--reason", "fine"]).exit_code == 0
    assert champion(services) == "1"
    registered(services)
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.0, approval="manual", comparison="gates"))
    second, _ = decided(services)
    assert run(app, ["reject", second.run_id, "--reason", "no"]).exit_code == 0
    assert (champion(services), stages(services)) == ("1", {"1": "Production", "2": "Archived"})


# --------------------------------------------------------------------------- which code


def test_the_commit_is_read_from_the_repository_around_the_code(tmp_path: Any) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit_of(git) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{'a' * 40} refs/heads/main\n")
    assert commit_of(git) == "a" * 40
    (git / "refs" / "heads" / "main").write_text("b" * 40 + "\n")
    assert commit_of(git) == "b" * 40
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert commit_of(git) == "c" * 40
    linked = tmp_path / "elsewhere"
    linked.write_text(f"gitdir: {git}\n")
    assert commit_of(linked) == "c" * 40
    assert commit_of(tmp_path / "none") is None
