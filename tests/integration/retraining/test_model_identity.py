"""A version is known by the bytes of its model and the run that made it: a number that is given again opens no way."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
import xgboost as xgb
from typer.testing import CliRunner

from cli.app import app
from mlops.domain.errors import CheckpointsUnavailable, ConfigurationError, InvalidTransition
from mlops.domain.policies import PromotionPolicy
from mlops.domain.ports import ModelVersion
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.registry.kept_models import key_of, restore, tidy_models
from mlops.registry.projection import record_and_show
from mlops.runs.approval import StaleApproval, approval_request
from mlops.runs.request import NoRollback, rollback_request
from mlops.stages.labelled_rows import read_labelled
from mlops.stages.promote import promote
from tasks import services as task_services
from tests.support.models import SKILLED, trained_model
from tests.support.services import FEATURES, LAST, MODEL, FakeServices

GOOD, BAD = {"accuracy": 0.85, "roc_auc": 0.9}, {"accuracy": 0.48, "roc_auc": 0.47}


def registered(services: FakeServices, run_id: str, metrics: dict[str, float] = GOOD) -> ModelVersion:
    rows = read_labelled(services.source, services.strategies["growth"], as_of=LAST)
    rounds = 2 + len(services.registry.versions(MODEL))
    model = xgb.XGBClassifier(n_estimators=rounds, max_depth=2, n_jobs=1).fit(
        pd.DataFrame(rows.x[:], columns=list(FEATURES)), rows.y
    )
    first, last = LAST - timedelta(days=24), LAST - timedelta(days=5)
    tags = {
        "training_date": LAST.isoformat(),
        "train_end": (first - timedelta(days=5)).isoformat(),
        "holdout_start": first.isoformat(),
        "holdout_end": last.isoformat(),
    }
    version = services.registry.log_training(replace(trained_model(run_id, metrics=metrics), model=model, tags=tags))
    services.registry.apply_stage(MODEL, version.version, "Staging", seq=0, tags={})
    return version


def decided(services: FakeServices, kind: Kind = Kind.PROMOTE, **asked: Any) -> tuple[Grant, StageOutcome]:
    grant = services.granted(kind, Stage.PROMOTE, **asked)
    outcome = promote(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return grant, outcome


def in_production(services: FakeServices) -> list[str]:
    versions = services.registry.versions(MODEL)
    return [item.version for item in versions if item.stage == "Production" or "champion" in item.aliases]


@pytest.fixture
def emptied(services: FakeServices) -> FakeServices:
    """Version 1 is champion in the ledger; the registry was made anew after it."""
    registered(services, "run-old")
    decided(services)
    assert in_production(services) == ["1"]
    services.fake_registry.forget(MODEL)
    return services


# --------------------------------------------------------------------------- a number that is given again


def test_a_version_that_got_the_champion_s_number_is_judged_by_its_gates(emptied: FakeServices) -> None:
    old = emptied.ledger.champion("growth")
    assert registered(emptied, "run-new", BAD).version == "1"
    _, outcome = decided(emptied)
    assert (outcome.run_state, outcome.result["decision"]) == (RunState.REFUSED, "refuse")
    assert outcome.result["reasons"][0] == "accuracy 0.4800 is below the required 0.6000"
    assert in_production(emptied) == []
    assert emptied.ledger.champion("growth") == old
    assert old.identity.made_by == "run-old"


def test_nothing_is_promoted_until_a_person_says_which_registry_is_true(emptied: FakeServices) -> None:
    registered(emptied, "run-new")
    _, outcome = decided(emptied)
    assert outcome.result["decision"] == "inconclusive"
    assert "acis registry accept growth" in outcome.result["reasons"][1]
    assert in_production(emptied) == []
    assert [one.kind for one in emptied.ledger.registry_findings("growth")] == ["champion_missing", "number_reused"]
    assert emptied.ledger.accept_registry("growth", actor="ada", reason="the disk died") == 2
    _, outcome = decided(emptied, version="1")
    assert (outcome.result["decision"], in_production(emptied)) == ("promote", ["1"])
    assert emptied.ledger.champion("growth").identity.made_by == "run-new"
    assert emptied.ledger.audit_lines(action="registry.accept")[0].detail["reason"] == "the disk died"


def test_decisions_about_the_model_that_had_the_number_before_are_not_this_one_s(emptied: FakeServices) -> None:
    version = registered(emptied, "run-new", BAD)
    assert emptied.ledger.newest_decision("growth", "1", version.identity) is None


def test_an_approval_waits_for_the_registry_to_be_accepted_too(services: FakeServices) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    registered(services, "run-1")
    grant, outcome = decided(services)
    assert outcome.run_state is RunState.AWAITING_APPROVAL
    services.ledger.note_registry_finding("growth", "number_reused", "2", "version 2 is another model")
    with pytest.raises(StaleApproval, match="version 2 is another model"):
        approval_request(services.ledger, services.registry, grant.run_id, answer="approve", actor="ada", reason="fine")


def test_what_a_tag_says_does_not_stand_for_the_bytes(services: FakeServices) -> None:
    registered(services, "run-1")
    services.fake_registry.files[MODEL, "1"] += b" "
    _, outcome = decided(services)
    assert outcome.result["decision"] == "refuse"
    assert "it was changed" in outcome.result["reasons"][0]
    assert in_production(services) == []


def test_an_approved_version_whose_bytes_changed_since_is_not_promoted(services: FakeServices) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    registered(services, "run-1")
    grant, _ = decided(services)
    services.fake_registry.files[MODEL, "1"] += b" "
    with pytest.raises(StaleApproval, match="another model"):
        approval_request(services.ledger, services.registry, grant.run_id, answer="approve", actor="ada", reason="fine")


# --------------------------------------------------------------------------- no way round the gates


def test_a_refused_version_is_nothing_to_roll_back_to(services: FakeServices) -> None:
    registered(services, "run-1", BAD)
    decided(services)
    with pytest.raises(NoRollback, match=r"was never the champion.*--override"):
        rollback_request(services.policies, services.ledger, "growth", "1", reason="I like it", requested_by="ada")
    _, outcome = decided(services, Kind.ROLLBACK, version="1")  # a program of the version before asks without looking
    assert (outcome.run_state, outcome.result["promoted"]) == (RunState.REFUSED, False)
    assert services.ledger.champion("growth").version is None
    assert in_production(services) == []


def test_a_rollback_to_the_champion_changes_nothing(services: FakeServices) -> None:
    registered(services, "run-1")
    decided(services)
    before = services.ledger.champion("growth")
    _, outcome = decided(services, Kind.ROLLBACK, version="1")
    assert outcome.result["reasons"] == ["version 1 is the champion of 'growth' already; nothing was changed"]
    assert services.ledger.champion("growth") == before
    assert len(services.ledger.promotions("growth")) == 1


def test_a_rollback_to_a_former_champion_s_number_that_is_another_model_now_is_refused(services: FakeServices) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, comparison="gates"))
    for run_id in ("run-1", "run-2"):
        registered(services, run_id)
        decided(services)
    services.fake_registry.forget(MODEL)
    registered(services, "run-3", BAD)
    _, outcome = decided(services, Kind.ROLLBACK, version="1")
    assert outcome.result["promoted"] is False
    assert "is another model than the champion of that number was" in outcome.result["reasons"][0]


def test_an_override_promotes_and_names_what_the_version_fails(services: FakeServices) -> None:
    registered(services, "run-1", BAD)
    grant, outcome = decided(services, version="1", override="the benchmark is broken")
    assert (outcome.run_state, outcome.result["decision"], in_production(services)) == (
        RunState.SUCCEEDED, "override", ["1"],
    )  # fmt: skip
    assert outcome.result["reasons"] == [
        "promoted by test in spite of: accuracy 0.4800 is below the required 0.6000",
        "the reason given: the benchmark is broken",
    ]
    promote(grant, services, services.keeper(grant))  # its next try, after an answer that was lost
    (line,) = services.ledger.audit_lines(action="model.override")
    assert (line.actor, line.subject, line.detail["run_id"]) == ("test", "growth", grant.run_id)


def test_an_override_names_its_version_and_its_reason(services: FakeServices) -> None:
    with pytest.raises(ConfigurationError, match="names its version"):
        services.granted(Kind.PROMOTE, Stage.PROMOTE, override="because")


def test_an_override_does_not_settle_which_registry_is_true(emptied: FakeServices) -> None:
    registered(emptied, "run-new")
    _, outcome = decided(emptied, version="1", override="now, please")
    assert (outcome.result["decision"], in_production(emptied)) == ("inconclusive", [])


@pytest.mark.parametrize(("metrics", "words"), [(None, "was never judged"), (BAD, "was refused: accuracy 0.4800")])
def test_a_transition_by_program_is_no_way_round_the_gates(
    services: FakeServices, metrics: dict[str, float] | None, words: str
) -> None:
    registered(services, "run-1", metrics or GOOD)
    if metrics is not None:
        decided(services)
    with pytest.raises(InvalidTransition, match=words):
        record_and_show(
            services.ledger, services.registry, model_name=MODEL, version="1", stage="Production", reason="mine"
        )
    assert services.ledger.champion("growth").version is None


# --------------------------------------------------------------------------- bringing a champion back


def test_a_champion_is_restored_from_what_was_kept_at_its_promotion(emptied: FakeServices) -> None:
    old = emptied.ledger.champion("growth")
    registered(emptied, "run-new", BAD)
    decided(emptied)
    found = restore(emptied, emptied.strategies["growth"], actor="ada", reason="the disk died")
    assert (found.state, found.was, found.version) == ("restored", "1", "2")
    champion = emptied.ledger.champion("growth")
    assert (champion.version, champion.identity, champion.as_of) == ("2", old.identity, old.as_of)
    assert in_production(emptied) == ["2"]
    version = emptied.registry.version(MODEL, "2")
    assert version.identity == old.identity
    assert version.tags["training_date"] == LAST.isoformat()
    assert version.metrics == SKILLED | GOOD
    assert emptied.ledger.registry_findings() == []


def test_restoring_again_finds_it_there(emptied: FakeServices) -> None:
    strategy = emptied.strategies["growth"]
    restore(emptied, strategy, actor="ada", reason="the disk died")
    seq = emptied.ledger.champion("growth").seq
    assert restore(emptied, strategy, actor="ada", reason="once more").state == "there"
    assert emptied.ledger.champion("growth").seq == seq


def test_numbers_that_the_lost_registry_had_given_are_free_after_a_restore(emptied: FakeServices) -> None:
    emptied.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, comparison="gates"))
    registered(emptied, "run-new", BAD)
    restore(emptied, emptied.strategies["growth"], actor="ada", reason="the disk died")
    registered(emptied, "run-newer")
    _, outcome = decided(emptied)
    assert (outcome.result["decision"], in_production(emptied)) == ("promote", ["3"])


def test_a_champion_whose_bytes_nobody_has_is_said_to_be_gone(emptied: FakeServices) -> None:
    champion = emptied.ledger.champion("growth")
    emptied.checkpoints.drop_model(key_of(champion.identity))
    found = restore(emptied, emptied.strategies["growth"], actor="ada", reason="the disk died")
    assert (found.state, emptied.ledger.champion("growth")) == ("gone", champion)
    assert "acis registry accept growth" in found.words


def test_kept_bytes_that_are_not_the_champion_s_are_not_taken(emptied: FakeServices) -> None:
    identity = emptied.ledger.champion("growth").identity
    emptied.checkpoints.keep_model(key_of(identity), {"model.ubj": b"{}"})
    assert restore(emptied, emptied.strategies["growth"], actor="ada", reason="a test").state == "gone"
    assert in_production(emptied) == []


def test_a_model_file_that_lies_among_the_artifacts_is_taken_by_its_digest(
    services: FakeServices, tmp_path_factory: pytest.TempPathFactory
) -> None:
    registered(services, "run-old")
    content = services.registry.model_file(MODEL, "1")
    decided(services)
    services.checkpoints.drop_model(key_of(services.ledger.champion("growth").identity))
    services.fake_registry.forget(MODEL)
    folder = tmp_path_factory.mktemp("artifacts")
    for name, found in (("a", b"{another}"), ("b", content)):
        (folder / name).mkdir()
        (folder / name / "model.ubj").write_bytes(found)
    found = restore(services, services.strategies["growth"], actor="ada", reason="a test", folders=[folder])
    assert (found.state, in_production(services)) == ("restored", ["1"])


def test_a_promotion_does_not_fail_where_the_model_cannot_be_kept(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise CheckpointsUnavailable

    monkeypatch.setattr(services.checkpoints, "keep_model", full)
    registered(services, "run-1")
    _, outcome = decided(services)
    assert outcome.result["promoted"] is True


def test_the_champion_and_the_newest_five_before_it_are_kept(services: FakeServices) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, comparison="gates"))
    services.checkpoints.keep_model("another ledger's", {"version.json": b"{}"})
    for number in range(8):
        registered(services, f"run-{number}")
        decided(services)
    assert tidy_models(services) == 2
    kept = services.checkpoints.kept_models()
    assert len(kept) == 7
    assert "another ledger's" in kept
    assert key_of(services.ledger.champion("growth").identity) in kept


# --------------------------------------------------------------------------- the command


@pytest.fixture
def command(emptied: FakeServices, monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    monkeypatch.setattr(task_services, "connect", lambda *_: emptied)
    registered(emptied, "run-new", BAD)
    decided(emptied)
    return emptied


def test_the_command_shows_what_is_wrong_and_mends_it(command: FakeServices) -> None:
    shown = CliRunner().invoke(app, ["registry", "--json"])
    assert shown.exit_code == 1
    assert [one["kind"] for one in json.loads(shown.stdout)] == ["champion_missing", "number_reused"]
    restored = CliRunner().invoke(app, ["registry", "restore", "--reason", "the disk died", "--json"])
    assert (restored.exit_code, json.loads(restored.stdout)[0]["state"]) == (0, "restored")
    assert CliRunner().invoke(app, ["registry"]).exit_code == 0
    assert in_production(command) == ["2"]


def test_an_acceptance_needs_a_reason_and_a_strategy_that_is_known(command: FakeServices) -> None:
    assert CliRunner().invoke(app, ["registry", "accept", "--reason", " "]).exit_code == 2
    assert CliRunner().invoke(app, ["registry", "accept", "grwth", "--reason", "why not"]).exit_code == 2
    assert len(command.ledger.registry_findings()) == 2
    assert CliRunner().invoke(app, ["registry", "accept", "growth", "--reason", "why not"]).exit_code == 0
    assert command.ledger.registry_findings() == []


def test_rolling_back_to_the_champion_says_so(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_services, "connect", lambda *_: services)
    registered(services, "run-1")
    decided(services)
    answer = CliRunner().invoke(app, ["rollback", "growth", "--to", "1", "--reason", "to be sure"])
    assert (answer.exit_code, answer.stdout.strip()) == (
        0,
        "version 1 is the champion of 'growth' already; nothing was changed",
    )
    assert services.ledger.runs(kinds=["rollback"]) == []
