"""What every model registry promises the stages, on the fake and on MLflow."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mlops.domain.errors import InvalidStage, ModelNotFound, UnusableModelFile, UnusableProfile, VersionNotFound
from mlops.domain.ports import (
    PROFILE_ARTIFACT,
    PROFILE_TAG,
    FailedTraining,
    KeptModel,
    ModelRegistry,
    ModelVersion,
    ReportRecord,
    TrainedModel,
    TrialRecord,
)
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.training.judged_twin import TWIN_ARTIFACT
from tests.support.models import fitted, trained_model, training_data
from tests.support.registry import FakeRegistry, Kept, loaded


@pytest.fixture(params=["fake", "mlflow"])
def registry(request: pytest.FixtureRequest) -> Iterator[ModelRegistry]:
    if request.param == "fake":
        yield FakeRegistry()
        return
    from mlops.registry.registry import MlflowRegistry

    yield MlflowRegistry(request.getfixturevalue("mlflow_url"))


@pytest.fixture
def name() -> str:
    return f"acis_t{secrets.token_hex(4)}_classifier"


@pytest.fixture
def train(registry: ModelRegistry, name: str) -> partial[ModelVersion]:
    """Registers a version: `train("run-1")`."""

    def log(run: str) -> ModelVersion:
        return registry.log_training(made(run, name))

    return partial(log)


def made(run: str, name: str) -> TrainedModel:
    return trained_model(f"{run}-{name}", model_name=name)


def places(registry: ModelRegistry, name: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {item.version: (item.stage, item.aliases) for item in registry.versions(name)}


def test_a_training_is_registered_with_its_metrics_and_tags(train: partial[ModelVersion], name: str) -> None:
    version = train("run-1")
    assert (version.name, version.version, version.stage, version.aliases) == (name, "1", "None", ())
    assert version.metrics["accuracy"] == 0.742
    assert version.tags["strategy"] == "growth"
    assert version.tags["acis.run_id"] == f"run-1-{name}"
    assert len(version.tags["acis.model_sha256"]) == 64
    assert version.run_id


def test_one_run_registers_one_version_however_often_it_is_logged(
    registry: ModelRegistry, train: partial[ModelVersion], name: str
) -> None:
    assert train("run-1").version == train("run-1").version == "1"
    assert train("run-2").version == "2"
    assert [item.version for item in registry.versions(name)] == ["2", "1"]


def test_the_bytes_of_an_attempt_whose_note_was_lost_are_recognized(registry: ModelRegistry, name: str) -> None:
    """By a worker of before, or of a ledger that was set back in time."""
    first = registry.log_training(made("run-1", name), evidence=Kept())
    lost = Kept()
    assert registry.find_by_ledger_run(name, f"run-1-{name}", evidence=lost) is None
    assert registry.log_training(made("run-1", name), evidence=lost).version == first.version
    other = replace(made("run-1", name), model=fitted(training_data(), rounds=9))
    assert registry.log_training(other, evidence=Kept()).version == "2"
    assert [item.version for item in registry.versions(name)] == ["2", "1"]


def test_a_run_s_version_is_found_again(registry: ModelRegistry, train: partial[ModelVersion], name: str) -> None:
    assert registry.find_by_ledger_run(name, f"run-1-{name}") is None
    train("run-1")
    found = registry.find_by_ledger_run(name, f"run-1-{name}")
    assert found == registry.version(name, "1")


def test_what_is_not_there_is_said(registry: ModelRegistry, train: partial[ModelVersion], name: str) -> None:
    assert registry.versions(name) == []
    with pytest.raises(ModelNotFound):
        registry.version(name, "1")
    train("run-1")
    with pytest.raises(VersionNotFound, match="'7'"):
        registry.version(name, "7")
    with pytest.raises(VersionNotFound):
        registry.apply_stage(name, "7", "Production", seq=1, tags={})
    with pytest.raises(VersionNotFound):
        registry.load_classifier(name, "7", sha256="ab" * 32)


def test_a_loaded_classifier_predicts_what_the_logged_one_did(registry: ModelRegistry, name: str) -> None:
    data = training_data()
    model = fitted(data, rounds=8)
    registry.log_training(trained_model(f"run-{name}", model_name=name, model=model))
    found = loaded(registry, name, "1")
    np.testing.assert_array_equal(found.predict_proba(data.x), model.predict_proba(data.x))


def with_profile(registry: ModelRegistry, name: str, folder: Path, content: bytes, **tags: str) -> None:
    file = folder / "any name"
    file.write_bytes(content)
    trained = trained_model(f"run-{name}", model_name=name, artifacts={PROFILE_ARTIFACT: file})
    registry.log_training(replace(trained, tags={**trained.tags, **tags}))


def test_a_versions_profile_is_what_was_logged(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50
    with_profile(registry, name, tmp_path, content, **{PROFILE_TAG: hashlib.sha256(content).hexdigest()})
    assert registry.drift_profile(name, "1") == content


def test_a_profile_that_is_not_the_logged_one_is_refused(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    with_profile(registry, name, tmp_path, b"changed", **{PROFILE_TAG: hashlib.sha256(b"logged").hexdigest()})
    with pytest.raises(UnusableProfile, match="changed"):
        registry.drift_profile(name, "1")


def test_a_version_without_a_profile_says_so(registry: ModelRegistry, name: str, tmp_path: Path) -> None:
    with_profile(registry, name, tmp_path, b"a profile without its tag")
    with pytest.raises(UnusableProfile, match="carries no drift profile"):
        registry.drift_profile(name, "1")
    with pytest.raises(VersionNotFound):
        registry.drift_profile(name, "7")


def test_a_profile_that_is_gone_is_said(registry: ModelRegistry, name: str) -> None:
    trained = trained_model(f"run-{name}", model_name=name)
    registry.log_training(replace(trained, tags={**trained.tags, PROFILE_TAG: "ab" * 32}))
    with pytest.raises(UnusableProfile, match="gone"):
        registry.drift_profile(name, "1")


def with_twin(registry: ModelRegistry, name: str, folder: Path, content: bytes) -> ModelVersion:
    file = folder / "any name"
    file.write_bytes(content)
    return registry.log_training(trained_model(f"run-{name}", model_name=name, artifacts={TWIN_ARTIFACT: file}))


def test_a_judged_twin_lies_beside_its_version_and_is_no_version(
    registry: ModelRegistry, name: str, tmp_path: Path
) -> None:
    content = b"{the twin's model file}"
    version = with_twin(registry, name, tmp_path, content)
    assert registry.twin_file(version, expected_sha256=hashlib.sha256(content).hexdigest()) == content
    assert [item.version for item in registry.versions(name)] == ["1"]


def test_a_twin_that_was_changed_or_is_gone_is_said(
    registry: ModelRegistry, train: partial[ModelVersion], name: str, tmp_path: Path
) -> None:
    version = with_twin(registry, name, tmp_path, b"another")
    with pytest.raises(UnusableModelFile, match="changed"):
        registry.twin_file(version, expected_sha256="ab" * 32)
    with pytest.raises(UnusableModelFile, match="gone"):
        registry.twin_file(train("run-2"), expected_sha256="ab" * 32)


def test_a_challenger_stands_in_staging(registry: ModelRegistry, train: partial[ModelVersion], name: str) -> None:
    train("run-1")
    registry.apply_stage(name, "1", "Staging", seq=0, tags={})
    assert places(registry, name) == {"1": ("Staging", ("challenger",))}


def test_a_promotion_archives_the_old_champion_and_stage_and_alias_agree(
    registry: ModelRegistry, train: partial[ModelVersion], name: str
) -> None:
    train("run-1")
    train("run-2")
    registry.apply_stage(name, "1", "Production", seq=1, tags={})
    registry.apply_stage(name, "2", "Staging", seq=1, tags={})
    registry.apply_stage(name, "2", "Production", seq=2, tags={"acis.decision": "promote"})
    assert places(registry, name) == {"1": ("Archived", ()), "2": ("Production", ("champion",))}
    assert registry.version(name, "2").tags["acis.seq"] == "2"
    assert registry.version(name, "2").tags["acis.decision"] == "promote"


def test_a_refused_challenger_leaves_the_champion_alone(
    registry: ModelRegistry, train: partial[ModelVersion], name: str
) -> None:
    train("run-1")
    train("run-2")
    registry.apply_stage(name, "1", "Production", seq=1, tags={})
    registry.apply_stage(name, "2", "Staging", seq=1, tags={})
    registry.apply_stage(name, "2", "Archived", seq=1, tags={"acis.reasons": "accuracy 0.5 is below 0.7"})
    assert places(registry, name) == {"1": ("Production", ("champion",)), "2": ("Archived", ())}
    assert registry.version(name, "2").tags["acis.reasons"] == "accuracy 0.5 is below 0.7"


@pytest.mark.parametrize("stage", ["Archived", "None", "Staging"])
def test_a_champion_taken_out_loses_its_alias(
    registry: ModelRegistry, train: partial[ModelVersion], name: str, stage: str
) -> None:
    train("run-1")
    registry.apply_stage(name, "1", "Production", seq=1, tags={})
    registry.apply_stage(name, "1", stage, seq=2, tags={})
    assert places(registry, name) == {"1": (stage, ("challenger",) if stage == "Staging" else ())}


def test_a_rollback_is_the_same_transition_to_an_earlier_version(
    registry: ModelRegistry, train: partial[ModelVersion], name: str
) -> None:
    train("run-1")
    train("run-2")
    for seq, version in enumerate(["1", "2", "1"], start=1):
        registry.apply_stage(name, version, "Production", seq=seq, tags={})
    assert places(registry, name) == {"1": ("Production", ("champion",)), "2": ("Archived", ())}


def test_a_stage_may_be_applied_again(registry: ModelRegistry, train: partial[ModelVersion], name: str) -> None:
    train("run-1")
    for _ in range(3):
        registry.apply_stage(name, "1", "Production", seq=1, tags={})
    assert places(registry, name) == {"1": ("Production", ("champion",))}


def test_a_stage_that_is_none_is_refused_before_anything_is_written(
    registry: ModelRegistry, train: partial[ModelVersion], name: str
) -> None:
    train("run-1")
    with pytest.raises(InvalidStage, match="'production' is not known; one of: None, Staging, Production, Archived"):
        registry.apply_stage(name, "1", "production", seq=1, tags={"acis.decision": "promote"})
    assert "acis.decision" not in registry.version(name, "1").tags


def test_nothing_is_stale_where_every_run_ended(
    registry: ModelRegistry, train: partial[ModelVersion], name: str
) -> None:
    train("run-1")
    assert registry.close_stale_runs(f"run-1-{name}", reason="test") == 0


def test_a_training_that_failed_before_it_had_a_model_makes_no_version(registry: ModelRegistry, name: str) -> None:
    registry.log_failure(
        FailedTraining(ledger_run_id=name, run_name="growth", reason="SingleClass: all 1", params={"seed": 1}, tags={})
    )
    assert registry.versions(name) == []
    assert registry.find_by_ledger_run(name, name) is None
    assert registry.close_stale_runs(name, reason="late") == 0


def a_check(run: str, strategy: str) -> ReportRecord:
    return ReportRecord(
        ledger_run_id=run, strategy=strategy, run_name="growth 2020-03-16 drifted", params={"rule": "raw"},
        metrics={"drift_ratio": 0.95, "p_value": 0.002}, tags={"verdict": "drifted"},
        files={"drift_report.json": "{}", "drift_report.html": "<!DOCTYPE html>"},
    )  # fmt: skip


def test_a_drift_check_is_logged_once_however_often(registry: ModelRegistry, name: str) -> None:
    first = registry.log_report(a_check(f"check-1-{name}", name))
    assert registry.log_report(a_check(f"check-1-{name}", name)) == first
    # MLflow refuses to change a parameter, so a second logging into the same run would be seen.
    changed = replace(a_check(f"check-1-{name}", name), params={"rule": "calibrated"})
    assert registry.log_report(changed) == first
    assert registry.log_report(a_check(f"check-2-{name}", name)).run_id != first.run_id


def test_a_check_that_was_dropped_is_logged_anew(registry: ModelRegistry, name: str) -> None:
    first = registry.log_report(a_check(f"check-1-{name}", name))
    registry.drop_report(first.run_id)
    assert registry.log_report(a_check(f"check-1-{name}", name)).run_id != first.run_id


def test_dropping_a_check_that_is_not_there_is_nothing(registry: ModelRegistry) -> None:
    registry.drop_report("0" * 32)


def test_what_was_logged_is_listed_by_the_ledgers_run_and_dropped(registry: ModelRegistry, name: str) -> None:
    report = registry.log_report(a_check(f"run-{name}", name))
    for run in (f"run-{name}", f"other-{name}"):
        registry.log_training(trained_model(run, model_name=name))
    placed = registry.log_training(trained_model(f"placed-{name}", model_name=name))
    registry.apply_stage(name, placed.version, "Production", seq=1, tags={})

    def listed() -> list[tuple[str, str, str]]:
        found = [*registry.logged_runs()[0], *registry.logged_versions()[0]]
        return sorted((one.kind, one.ledger_run_id, one.name) for one in found if name in one.ledger_run_id)

    trainings = {version.version: str(version.run_id) for version in registry.versions(name)}
    every = [
        ("report", f"run-{name}", report.run_id),
        ("training", f"other-{name}", trainings["2"]),
        ("training", f"placed-{name}", trainings["3"]),
        ("training", f"run-{name}", trainings["1"]),
        ("version", f"other-{name}", "2"),
        ("version", f"run-{name}", "1"),
    ]
    assert listed() == every
    found = {(one.kind, one.ledger_run_id): one for one in registry.logged_runs()[0] + registry.logged_versions()[0]}
    for kind in ("report", "version"):
        one = found[kind, f"run-{name}"]
        assert registry.is_logged(one)
        assert not registry.is_logged(replace(one, ledger_run_id="another's"))
        registry.drop(one)
        registry.drop(one)  # it is gone
        assert not registry.is_logged(one)
    assert [one for one in listed() if one[1] != f"run-{name}"] == [every[1], every[2], every[4]]


def test_the_trials_of_a_tuning_are_runs_below_the_trainings(
    request: pytest.FixtureRequest, registry: ModelRegistry, name: str
) -> None:
    record = replace(
        made("run-1", name),
        trials_metric="log_loss",
        trials=(
            TrialRecord(number=1, params={"max_depth": 3}, value=0.61, so_far=(0.6,), duration_s=1.5),
            TrialRecord(number=2, params={"max_depth": 8}, value=None, so_far=(0.7,), duration_s=0.5),
        ),
    )
    version = registry.log_training(record)
    if isinstance(registry, FakeRegistry):
        return
    from mlops.registry.gateway import Gateway

    gateway = Gateway(request.getfixturevalue("mlflow_url"))
    experiment = gateway.experiment_of(version.run_id or "")
    children = gateway.runs([experiment], f"tags.`mlflow.parentRunId` = '{version.run_id}'")
    assert sorted((run.status, run.params["max_depth"], run.metrics["log_loss"]) for run in children) == [
        ("FINISHED", "3", 0.61),
        ("KILLED", "8", 0.7),
    ]
    assert registry.close_stale_runs(record.ledger_run_id, reason="a test") == 0
    assert registry.log_training(record).version == version.version


def test_the_census_names_every_model_and_version_with_its_place(
    registry: ModelRegistry, name: str, train: partial[ModelVersion]
) -> None:
    train("run-1")
    train("run-2")
    registry.apply_stage(name, "1", "Production", seq=1, tags={})
    census = registry.census()
    assert name in census.models
    assert census.experiments
    found = [(item.version, item.stage, item.aliases) for item in census.versions if item.name == name]
    assert found == [("2", "None", ()), ("1", "Production", ("champion",))]


def test_a_training_s_parameters_can_be_read_again(
    registry: ModelRegistry, name: str, train: partial[ModelVersion]
) -> None:
    facts = registry.training_facts(train("run-1"))
    assert facts.params.keys() >= {"max_depth"}
    assert dict(facts.importance) == {}  # these tests log no such file


def test_ended_runs_are_given_newest_first_and_their_files_weighed(
    registry: ModelRegistry, train: partial[ModelVersion]
) -> None:
    older, newer = train("run-1"), train("run-2")
    runs, _ = registry.ended_runs()
    ids = [run.run_id for run in runs]
    assert ids.index(str(newer.run_id)) < ids.index(str(older.run_id))
    assert runs == sorted(runs, key=lambda run: run.started_at, reverse=True)
    assert registry.artifact_bytes(str(newer.run_id)) >= 1000


# --------------------------------------------------------------------------- what a version is known by


def test_a_version_is_known_by_the_bytes_of_its_file_and_the_ledger_s_run(
    registry: ModelRegistry, train: partial[ModelVersion], name: str
) -> None:
    identity = train("run-1").identity
    assert identity.made_by == f"run-1-{name}"
    assert identity.sha256 == hashlib.sha256(registry.model_file(name, "1")).hexdigest()


def test_a_stage_is_not_applied_to_another_model_with_the_number(
    registry: ModelRegistry, train: partial[ModelVersion], name: str
) -> None:
    found = train("run-1")
    another = replace(found.identity, made_by="run-of-the-lost-registry")
    with pytest.raises(VersionNotFound, match="is another model"):
        registry.apply_stage(name, "1", "Production", seq=1, tags={}, identity=another)
    assert places(registry, name) == {"1": ("None", ())}
    assert "acis.seq" not in registry.version(name, "1").tags
    registry.apply_stage(name, "1", "Production", seq=1, tags={}, identity=found.identity)
    assert places(registry, name) == {"1": ("Production", ("champion",))}


def test_a_model_that_was_kept_is_registered_again_with_the_same_bytes(
    registry: ModelRegistry, train: partial[ModelVersion], name: str
) -> None:
    train("run-1")
    model = fitted(training_data(60), rounds=3)
    content = bytes(model.get_booster().save_raw("ubj"))
    identity = ModelIdentity(sha256=hashlib.sha256(content).hexdigest(), made_by=f"lost-{name}")
    profile = b"a profile"
    kept = KeptModel(
        model_name=name,
        version="7",
        model=content,
        tags={"label": "up", PROFILE_TAG: hashlib.sha256(profile).hexdigest()},
        metrics={"accuracy": 0.7},
        params={"max_depth": "2"},
        profile=profile,
        twin=b"{the twin}",
    )
    found = registry.register_again(name, identity, kept)
    assert found is not None
    assert (found.version, found.identity, found.metrics, found.tags["label"]) == (
        "2", identity, {"accuracy": 0.7}, "up",
    )  # fmt: skip
    assert registry.model_file(name, "2") == content
    assert registry.twin_file(found, expected_sha256=hashlib.sha256(b"{the twin}").hexdigest()) == b"{the twin}"
    assert registry.drift_profile(name, "2") == profile
    assert registry.training_facts(found).params == {"max_depth": "2"}
    again = registry.register_again(name, identity, kept)
    assert again is not None
    assert again.version == "2"  # it is there


def test_the_run_of_a_restored_model_is_not_taken_for_a_second_log_of_its_training(
    registry: ModelRegistry, name: str
) -> None:
    content = registry.model_file(
        name, registry.log_training(trained_model(f"another-{name}", model_name=name)).version
    )
    identity = ModelIdentity(sha256=hashlib.sha256(content).hexdigest(), made_by=f"lost-{name}")
    kept = KeptModel(model_name=name, version="7", model=content, tags={}, metrics={}, params={})
    assert registry.register_again(name, identity, kept) is not None
    assert identity.made_by not in {one.ledger_run_id for one in registry.logged_runs()[0]}


def test_what_nobody_holds_and_what_is_not_the_bytes_is_not_registered(registry: ModelRegistry, name: str) -> None:
    identity = ModelIdentity(sha256="a" * 64, made_by=f"lost-{name}")
    assert registry.register_again(name, identity, None) is None
    kept = KeptModel(model_name=name, version="1", model=b"{}", tags={}, metrics={}, params={})
    with pytest.raises(UnusableModelFile):
        registry.register_again(name, identity, kept)
    assert registry.versions(name) == []
