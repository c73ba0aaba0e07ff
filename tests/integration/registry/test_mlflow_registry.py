"""What MLflow itself makes hard: retries, crashes between requests, and writers without a lock."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from devstack.ports import choose_port
from mlops.domain.errors import (
    ForeignRegistry,
    LeaseLost,
    ModelNotFound,
    RegistryError,
    RegistryUnavailable,
    UnusableModelFile,
)
from mlops.domain.ports import FailedTraining, TrialRecord
from mlops.domain.records import LedgerIdentity
from mlops.registry.gateway import Gateway
from mlops.registry.registry import EXPERIMENT, OWNER_KNOWN_S, OWNER_TAG, MlflowRegistry
from tests.chaos.proxy import FaultyProxy
from tests.support.models import SKILLED, fitted, trained_model
from tests.support.registry import Kept, sha256_of


@pytest.fixture
def name() -> str:
    return f"acis_t{secrets.token_hex(4)}_classifier"


@pytest.fixture
def registry(mlflow_url: str) -> MlflowRegistry:
    return MlflowRegistry(mlflow_url)


@pytest.fixture
def client(mlflow_url: str) -> MlflowClient:
    return MlflowClient(mlflow_url)


class Died(BaseException):
    """As a killed process would, as far as this process can show it."""


def runs_of(client: MlflowClient, run_id: str) -> list[Any]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return list(client.search_runs([experiment.experiment_id], f"tags.`acis.run_id` = '{run_id}'"))


@pytest.mark.parametrize("step", ["log_dataset", "upload", "store_model", "end_run"])
def test_a_training_that_fails_before_its_run_ends_is_logged_anew(
    monkeypatch: pytest.MonkeyPatch, registry: MlflowRegistry, client: MlflowClient, name: str, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("disk full")

    monkeypatch.setattr(Gateway, step, fail)
    with pytest.raises(ValueError, match="disk full"):
        registry.log_training(trained_model(name, model_name=name))
    monkeypatch.undo()
    (left,) = runs_of(client, name)
    assert left.info.status == ("RUNNING" if step == "end_run" else "FAILED")  # it could not be ended
    assert left.data.tags["acis.failure"] == "ValueError: disk full"
    version = registry.log_training(trained_model(name, model_name=name))
    assert version.version == "1"
    assert len(registry.versions(name)) == 1
    statuses = sorted(run.info.status for run in runs_of(client, name))
    assert statuses == ["FINISHED", "KILLED"] if step == "end_run" else ["FAILED", "FINISHED"]


def test_a_training_that_died_before_the_registration_is_registered_from_what_it_left(
    monkeypatch: pytest.MonkeyPatch, registry: MlflowRegistry, client: MlflowClient, name: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Died

    monkeypatch.setattr(Gateway, "create_version", die)
    with pytest.raises(Died):
        registry.log_training(trained_model(name, model_name=name))
    monkeypatch.undo()
    (left,) = runs_of(client, name)
    again = trained_model(name, model_name=name)
    version = registry.log_training(replace(again, tags={**again.tags, "data_fingerprint": "cd" * 32}))
    assert version.run_id == left.info.run_id
    assert version.tags["data_fingerprint"] == "ab" * 32  # of the model that is registered, not of the second attempt
    assert not [tag for tag in version.tags if tag.startswith("mlflow.")]
    assert len(runs_of(client, name)) == 1


def test_a_training_that_died_after_the_registration_finds_its_version(
    monkeypatch: pytest.MonkeyPatch, registry: MlflowRegistry, client: MlflowClient, name: str
) -> None:
    create = Gateway.create_version

    def create_and_die(*given: Any, **named: Any) -> str:
        create(*given, **named)
        raise Died

    monkeypatch.setattr(Gateway, "create_version", create_and_die)
    with pytest.raises(Died):
        registry.log_training(trained_model(name, model_name=name))
    monkeypatch.undo()
    assert registry.log_training(trained_model(name, model_name=name)).version == "1"
    assert len(runs_of(client, name)) == len(registry.versions(name)) == 1


def test_runs_that_a_dead_worker_left_running_are_closed(
    registry: MlflowRegistry, client: MlflowClient, name: str
) -> None:
    experiment = Gateway(registry.tracking_uri).experiment_id(EXPERIMENT)
    left = client.create_run(experiment, tags={"acis.run_id": name})
    assert registry.close_stale_runs(name, reason="lease lost") == 1
    found = client.get_run(left.info.run_id)
    assert (found.info.status, found.data.tags["acis.failure"]) == ("KILLED", "lease lost")
    assert registry.close_stale_runs(name, reason="lease lost") == 0


def test_a_worker_that_sleeps_while_it_registers_takes_its_second_version_back(
    mlflow_url: str, client: MlflowClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper, other = MlflowRegistry(mlflow_url), MlflowRegistry(mlflow_url)
    record = trained_model(name, model_name=name)
    create_version = sleeper._gateway.create_version

    def after_another(*arguments: Any, **options: Any) -> str:
        assert other.log_training(record).version == "1"
        return create_version(*arguments, **options)

    monkeypatch.setattr(sleeper._gateway, "create_version", after_another)
    assert sleeper.log_training(record).version == "1"
    assert [found.version for found in client.search_model_versions(f"name='{name}'")] == ["1"]


@pytest.mark.parametrize("allowed", range(6))
def test_nothing_is_registered_once_a_write_is_forbidden(registry: MlflowRegistry, name: str, allowed: int) -> None:
    asked: list[int] = []

    def before_write() -> None:
        asked.append(1)
        if len(asked) > allowed:
            raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        registry.log_training(trained_model(name, model_name=name), before_write=before_write)
    assert registry.find_by_ledger_run(name, name) is None
    assert registry.close_stale_runs(name, reason="test") == 0  # its own run is ended, as FAILED
    assert registry.log_training(trained_model(name, model_name=name)).version == "1"


def test_runs_left_open_are_listed_by_the_ledgers_run_and_can_be_closed(
    registry: MlflowRegistry, client: MlflowClient, name: str
) -> None:
    gateway = Gateway(registry.tracking_uri)
    training = client.create_run(gateway.experiment_id(EXPERIMENT), tags={"acis.run_id": name}).info.run_id
    check = client.create_run(gateway.experiment_id(f"acis-drift-{name}"), tags={"acis.run_id": name}).info.run_id
    client.create_run(gateway.experiment_id(f"theirs-{name}"), tags={"acis.run_id": name})
    client.create_run(gateway.experiment_id(EXPERIMENT))
    found = {run.run_id for run in registry.open_runs() if run.ledger_run_id == name}
    assert found == {training, check}
    for run_id in found:
        registry.close_run(run_id, reason="a test")
    assert [run for run in registry.open_runs() if run.ledger_run_id == name] == []
    assert client.get_run(check).info.status == "KILLED"


def test_everything_of_a_training_is_logged(
    registry: MlflowRegistry, client: MlflowClient, name: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    (tmp_path / "b.csv").write_text("feature,gain\n")
    files = {"plots/roc.png": tmp_path / "a.png", "feature_importance.csv": tmp_path / "b.csv"}
    version = registry.log_training(trained_model(name, model_name=name, artifacts=files))
    run = client.get_run(str(version.run_id))
    assert run.info.status == "FINISHED"
    assert run.data.params == {"max_depth": "2", "n_estimators": "5"}
    assert run.data.metrics == SKILLED | {"accuracy": 0.742, "roc_auc": 0.821}
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("growth 2020-01-01", ("ab" * 32)[:36])
    assert '"num_rows": 400' in dataset.dataset.profile
    found = Gateway(registry.tracking_uri).artifacts(str(version.run_id))
    assert {"plots/roc.png", "feature_importance.csv", "model/model.ubj", "model/MLmodel"} <= set(found)
    assert not [path for path in found if path.endswith(".pkl")]
    (output,) = run.outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert logged.status == "READY"
    assert {metric.key for metric in logged.metrics} == {*SKILLED, "accuracy", "roc_auc"}


def test_concurrent_promotions_end_with_one_version_in_production_that_holds_the_alias(
    registry: MlflowRegistry, mlflow_url: str, name: str
) -> None:
    for run in range(3):
        registry.log_training(trained_model(f"{name}-{run}", model_name=name))
    writers = [MlflowRegistry(mlflow_url) for _ in range(3)]

    def promote(index: int, seq: int) -> None:
        writers[index].apply_stage(name, str(index + 1), "Production", seq=seq, tags={})

    with ThreadPoolExecutor(3) as pool:
        for attempt in range(8):
            for done in [pool.submit(promote, index, 3 * attempt + index) for index in range(3)]:
                done.result(timeout=60)
            versions = registry.versions(name)
            production = [item.version for item in versions if item.stage == "Production"]
            aliased = [item.version for item in versions if "champion" in item.aliases]
            assert production == aliased
            assert len(production) == 1


def test_a_model_file_that_was_changed_is_not_loaded_whatever_its_tag_says(
    registry: MlflowRegistry, client: MlflowClient, servers_folder: Path, name: str
) -> None:
    version = registry.log_training(trained_model(name, model_name=name))
    (file,) = servers_folder.rglob(f"{version.tags['acis.model_id']}/artifacts/model.ubj")
    fitted(rounds=1).save_model(file)
    client.set_model_version_tag(name, "1", "acis.model_sha256", sha256_of(file.read_bytes()))
    with pytest.raises(RegistryError, match="was changed after it was logged"):
        registry.load_classifier(name, "1", sha256=version.identity.sha256)


def test_a_model_file_that_is_gone_is_no_reason_to_wait(
    registry: MlflowRegistry, servers_folder: Path, name: str
) -> None:
    version = registry.log_training(trained_model(name, model_name=name))
    (file,) = servers_folder.rglob(f"{version.tags['acis.model_id']}/artifacts/model.ubj")
    file.unlink()
    with pytest.raises(UnusableModelFile, match=r"model\.ubj is gone"):
        registry.load_classifier(name, "1", sha256="ab" * 32)


def test_a_folder_of_model_files_that_is_gone_is_no_reason_to_wait(
    registry: MlflowRegistry, servers_folder: Path, name: str
) -> None:
    version = registry.log_training(trained_model(name, model_name=name))
    (file,) = servers_folder.rglob(f"{version.tags['acis.model_id']}/artifacts/model.ubj")
    shutil.rmtree(file.parent)
    with pytest.raises(UnusableModelFile, match=r"model\.ubj is gone"):
        registry.load_classifier(name, "1", sha256="ab" * 32)


def test_a_download_that_fails_while_the_file_is_listed_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, registry: MlflowRegistry, name: str
) -> None:
    registry.log_training(trained_model(name, model_name=name))

    def broken(**_: object) -> None:
        raise MlflowException("connection reset")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", broken)
    with pytest.raises(RegistryUnavailable):
        registry.load_classifier(name, "1", sha256="ab" * 32)


def test_a_version_that_the_ledger_has_no_digest_of_is_not_loaded(registry: MlflowRegistry, name: str) -> None:
    registry.log_training(trained_model(name, model_name=name))
    with pytest.raises(UnusableModelFile, match=r"the ledger has none of it.*acis registry record"):
        registry.load_classifier(name, "1", sha256=None)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "ask",
    [
        lambda registry: registry.versions("acis_growth_classifier"),
        lambda registry: registry.log_training(trained_model("run-1")),
        lambda registry: registry.apply_stage("acis_growth_classifier", "1", "Staging", seq=0, tags={}),
        lambda registry: registry.load_classifier("acis_growth_classifier", "1", sha256="ab" * 32),
    ],
)
def test_a_server_that_is_down_is_a_temporary_error(ask: Callable[[MlflowRegistry], object]) -> None:
    registry = MlflowRegistry(f"http://127.0.0.1:{choose_port()}")
    with pytest.raises(RegistryUnavailable, match="does not answer") as caught:
        ask(registry)
    assert caught.value.delay_s > 0


def test_names_with_quotes_are_refused_and_not_searched_for(registry: MlflowRegistry) -> None:
    with pytest.raises(RegistryError, match="cannot be searched for"):
        registry.versions("growth' or name != '")
    with pytest.raises(RegistryError, match="holds a quote"):
        registry.close_stale_runs("x' or '1' = '1", reason="test")


def test_an_experiment_that_was_deleted_says_so(mlflow_url: str, client: MlflowClient, name: str) -> None:
    client.delete_experiment(client.create_experiment(name))
    with pytest.raises(RegistryError, match="was deleted in MLflow; restore it"):
        MlflowRegistry(mlflow_url, experiment=name).log_training(trained_model(name, model_name=name))


def test_a_training_after_mlflow_was_recreated_is_logged_to_the_experiment_of_that_name(
    mlflow_url: str, client: MlflowClient, name: str
) -> None:
    registry = MlflowRegistry(mlflow_url, experiment=f"ours-{name}")
    registry.log_training(trained_model(f"{name}-1", model_name=name))
    # The remembered id is another experiment's, as where a new database counts from 1 again.
    before = client.get_experiment_by_name(f"ours-{name}").experiment_id
    client.rename_experiment(before, f"theirs-{name}")
    version = registry.log_training(trained_model(f"{name}-2", model_name=name))
    logged_to = client.get_run(str(version.run_id)).info.experiment_id
    assert client.get_experiment(logged_to).name == f"ours-{name}"
    assert logged_to != before
    assert version.metrics["accuracy"] == 0.742
    assert [item.metrics["accuracy"] for item in registry.versions(name)] == [0.742, 0.742]


@pytest.mark.parametrize("step", ["log", "upload", "store_model", "end_run", "create_version"])
def test_a_training_whose_run_mlflow_has_lost_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, registry: MlflowRegistry, name: str, step: str
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise ModelNotFound("run 1f is not in the registry")

    monkeypatch.setattr(Gateway, step, gone)
    with pytest.raises(RegistryUnavailable, match="logged anew"):
        registry.log_training(trained_model(name, model_name=name))
    monkeypatch.undo()
    assert registry.log_training(trained_model(name, model_name=name)).version == "1"


def test_an_experiment_that_vanishes_before_its_run_is_made_is_asked_for_again(mlflow_url: str) -> None:
    with pytest.raises(RegistryUnavailable):
        Gateway(mlflow_url).create_run("987654321", "growth", {})


def test_a_training_is_dropped_with_its_trials(registry: MlflowRegistry, client: MlflowClient, name: str) -> None:
    trials = (TrialRecord(number=1, params={}, value=0.5, so_far=(), duration_s=1.0),)
    version = registry.log_training(replace(trained_model(name, model_name=name), trials=trials, trials_metric="auc"))
    (training,) = [one for one in registry.logged_runs()[0] if one.ledger_run_id == name]
    assert training.name == version.run_id
    assert len(runs_of(client, name)) == 2
    registry.drop(training)
    assert runs_of(client, name) == []


def test_a_version_that_an_alias_names_is_not_dropped(
    registry: MlflowRegistry, client: MlflowClient, name: str
) -> None:
    registry.log_training(trained_model(name, model_name=name))
    (version,) = [one for one in registry.logged_versions()[0] if one.model_name == name]
    client.set_registered_model_alias(name, "somebody-s", "1")
    registry.drop(version)
    assert registry.is_logged(version)


def test_versions_logged_to_another_experiment_keep_their_metrics(mlflow_url: str, name: str) -> None:
    MlflowRegistry(mlflow_url, experiment=f"other-{name}").log_training(trained_model(name, model_name=name))
    assert MlflowRegistry(mlflow_url).version(name, "1").metrics["accuracy"] == 0.742


def test_a_deleted_model_is_not_found(registry: MlflowRegistry, client: MlflowClient, name: str) -> None:
    registry.log_training(trained_model(name, model_name=name))
    client.delete_registered_model(name)
    with pytest.raises(ModelNotFound, match="train it first"):
        registry.version(name, "1")


def test_a_fit_that_fails_leaves_a_failed_run_with_the_reason_and_no_version(
    registry: MlflowRegistry, client: MlflowClient, name: str
) -> None:
    registry.log_failure(
        FailedTraining(
            ledger_run_id=name,
            run_name="growth 2020-01-01 train",
            reason="SingleClass: all 1360 training labels are 1 " + "x" * 1_000,
            params={"max_depth": 6, "seed": 42},
            tags={"strategy": "growth"},
        )
    )
    (run,) = runs_of(client, name)
    assert (run.info.status, run.info.run_name) == ("FAILED", "growth 2020-01-01 train")
    assert run.data.tags["acis.failure"].startswith("SingleClass: all 1360")
    assert run.data.params == {"max_depth": "6", "seed": "42"}
    assert registry.log_training(trained_model(name, model_name=name)).version == "1"  # the next try is not confused


def test_a_failure_that_cannot_be_written_in_full_is_not_left_running(
    monkeypatch: pytest.MonkeyPatch, registry: MlflowRegistry, client: MlflowClient, name: str
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise RegistryUnavailable

    monkeypatch.setattr(Gateway, "log", unreachable)
    with pytest.raises(RegistryUnavailable):
        registry.log_failure(FailedTraining(ledger_run_id=name, run_name="growth", reason="x", params={}, tags={}))
    (run,) = runs_of(client, name)
    assert run.info.status == "FAILED"


def ledger_of(ledger_id: str, place: str) -> Callable[[], LedgerIdentity]:
    return lambda: LedgerIdentity(ledger_id=ledger_id, address=place, made_at=datetime.now(UTC))


def test_an_mlflow_belongs_to_the_first_ledger_that_uses_it_and_another_one_is_told_both_names(
    mlflow_url: str, client: MlflowClient, name: str
) -> None:
    experiment = f"owned-{name}"
    ours = ledger_of("a" * 32, "one:5432/acis")
    first = MlflowRegistry(mlflow_url, experiment=experiment, owner=ours)
    assert first.versions(name) == []  # nothing is there, so nothing is claimed
    first.log_training(trained_model(name, model_name=name))

    again = MlflowRegistry(mlflow_url, experiment=experiment, owner=ours)
    assert [version.version for version in again.versions(name)] == ["1"]
    neighbour = MlflowRegistry(mlflow_url, experiment=experiment, owner=ledger_of("b" * 32, "two:5432/acis"))
    for asked in (
        lambda: neighbour.versions(name),
        lambda: neighbour.log_training(trained_model(f"{name}-2", model_name=name)),
        lambda: neighbour.apply_stage(name, "1", "Production", seq=1, tags={}),
    ):
        with pytest.raises(ForeignRegistry) as refused:
            asked()
        assert "belongs to ledger aaaaaaaa (one:5432/acis), and this is ledger bbbbbbbb (two:5432/acis)" in str(
            refused.value
        )
    assert len(client.search_model_versions(f"name = '{name}'")) == 1
    assert client.get_model_version(name, "1").current_stage == "None"


def test_a_server_that_becomes_another_ledgers_is_noticed_without_a_restart(
    mlflow_url: str, client: MlflowClient, name: str
) -> None:
    clock = [0.0]
    experiment = f"owned-{name}"
    registry = MlflowRegistry(
        mlflow_url, experiment=experiment, owner=ledger_of("a" * 32, "one/acis"), monotonic=lambda: clock[0]
    )
    registry.log_training(trained_model(name, model_name=name))
    clock[0] += OWNER_KNOWN_S
    assert registry.versions(name)
    found = client.get_experiment_by_name(experiment)
    client.set_experiment_tag(found.experiment_id, OWNER_TAG, "b" * 32)
    clock[0] += OWNER_KNOWN_S
    with pytest.raises(ForeignRegistry, match=r"delete the tag acis\.ledger of experiment"):
        registry.versions(name)


def test_a_deleted_tag_gives_the_mlflow_to_the_next_ledger(mlflow_url: str, client: MlflowClient, name: str) -> None:
    experiment = f"owned-{name}"
    found = client.create_experiment(experiment, tags={OWNER_TAG: "b" * 32})
    client.delete_experiment_tag(found, OWNER_TAG)
    registry = MlflowRegistry(mlflow_url, experiment=experiment, owner=ledger_of("a" * 32, "one/acis"))
    assert registry.versions(name) == []
    assert client.get_experiment(found).tags[OWNER_TAG] == "a" * 32


def test_a_model_whose_registered_version_was_deleted_is_registered_from_its_training_s_run(
    registry: MlflowRegistry, name: str, mlflow_url: str
) -> None:
    lost = registry.log_training(trained_model(f"run-{name}", model_name=name))
    MlflowClient(mlflow_url, registry_uri=mlflow_url).delete_registered_model(name)
    found = registry.register_again(name, lost.identity, None)
    assert found is not None
    assert (found.version, found.identity, found.run_id) == ("1", lost.identity, lost.run_id)
    assert found.metrics == lost.metrics


def test_a_training_is_described_on_its_run_its_version_and_its_model_and_so_is_what_was_decided(
    mlflow_url: str, client: MlflowClient, name: str
) -> None:
    registry = MlflowRegistry(mlflow_url, admin_url="http://page/admin")
    trained = replace(
        trained_model(f"run-{name}", model_name=name),
        note="Trained on 2020.",
        model_note="Predicts growth.",
        tags={"strategy": "growth", "fit_s": "1.0", "n_train": "9"},
    )
    version = registry.log_training(trained)
    assert version.tags.items() >= trained.tags.items()
    shown = client.get_model_version(name, version.version)
    assert {"fit_s", "n_train"}.isdisjoint(shown.tags)
    assert shown.description == f"Trained on 2020.\n\n[The run on the admin page](http://page/admin/runs/run-{name})"
    assert client.get_run(str(version.run_id)).data.tags["mlflow.note.content"] == shown.description
    assert client.get_registered_model(name).description == "Predicts growth."
    reasons = {"acis.decision": "promote", "acis.reasons": "better", "acis.actor": "policy"}
    registry.apply_stage(name, version.version, "Production", seq=1, tags=reasons)
    for note in (
        client.get_model_version(name, version.version).description,
        client.get_run(str(version.run_id)).data.tags["mlflow.note.content"],
    ):
        assert note.endswith("**Promoted**, by policy; stage Production\n\n- better")


def test_an_experiment_is_described_and_opens_on_runs_and_what_a_person_wrote_stays(
    mlflow_url: str, client: MlflowClient, name: str
) -> None:
    registry = MlflowRegistry(mlflow_url, experiment=name)
    registry.log_failure(FailedTraining(ledger_run_id=f"run-{name}", run_name="r", reason="no", params={}, tags={}))
    tags = client.get_experiment_by_name(name).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert "Every training" in tags["mlflow.note.content"]
    client.set_experiment_tag(client.get_experiment_by_name(name).experiment_id, "mlflow.note.content", "ours")
    other = MlflowRegistry(mlflow_url, experiment=name)
    other.log_failure(FailedTraining(ledger_run_id=f"other-{name}", run_name="r", reason="no", params={}, tags={}))
    assert client.get_experiment_by_name(name).tags["mlflow.note.content"] == "ours"


def test_a_version_that_names_the_run_and_cannot_be_read_is_passed_over_for_the_run_s_own(
    monkeypatch: pytest.MonkeyPatch, registry: MlflowRegistry, client: MlflowClient, name: str
) -> None:
    evidence, read = Kept(), registry.model_file
    registry.log_training(trained_model(f"{name}-theirs", model_name=name))
    client.set_model_version_tag(name, "1", "acis.run_id", name)
    error: Exception = RegistryError("it lies elsewhere")

    def answers(model_name: str, version: str) -> bytes:
        if version == "1":
            raise error
        return read(model_name, version)

    monkeypatch.setattr(registry, "model_file", answers)
    assert registry.find_by_ledger_run(name, name, evidence=evidence) is None
    version = registry.log_training(trained_model(name, model_name=name), evidence=evidence)
    assert version.version == "2"
    error = RegistryUnavailable()
    assert registry.find_by_ledger_run(name, name, evidence=evidence) == version
    client.delete_model_version(name, "2")
    with pytest.raises(RegistryUnavailable):  # it may be the run's
        registry.find_by_ledger_run(name, name, evidence=evidence)


@pytest.mark.parametrize(
    "source",
    ["s3://bucket/model", "https://other.example/model", "mlflow-artifacts://other.example/model", "/tmp/model"],
)
def test_the_server_takes_no_version_whose_file_lies_elsewhere(client: MlflowClient, name: str, source: str) -> None:
    client.create_registered_model(name)
    with pytest.raises(MlflowException, match="Invalid model version source"):
        client.create_model_version(name, source)
    assert not client.search_model_versions(f"name = '{name}'")


# --------------------------------------------------------------------------- answers of somebody else

HTML = ("text/html", b"<html><body>no backend</body></html>")
JSON = ("application/json", b'{"message": "no Route matched with those values"}')


@pytest.mark.parametrize(
    ("status", "content"),
    [
        ("404 Not Found", HTML),
        ("404 Not Found", JSON),
        ("403 Forbidden", HTML),
        ("502 Bad Gateway", HTML),
        ("503 Service Unavailable", HTML),
        ("200 OK", HTML),
    ],
)
def test_an_answer_that_is_not_mlflows_own_ends_no_run(
    status: str, content: tuple[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    kind, body = content
    (tmp_path / "file.txt").write_text("x")
    with FaultyProxy(choose_port()) as ingress:
        ingress.answer(
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        gateway = Gateway(f"http://127.0.0.1:{ingress.port}")
        for ask in (
            lambda: gateway.version("growth", "1"),
            lambda: gateway.versions("growth"),
            lambda: gateway.experiment_id("acis"),
            lambda: gateway.log("run-1", params={"depth": 3}),
            lambda: gateway.upload("run-1", {"file.txt": tmp_path / "file.txt"}),
            lambda: gateway.delete_version("growth", "1"),
            lambda: gateway.create_version("growth", model_id="m-1", run_id="run-1", tags={}),
            lambda: gateway.download_model("growth", "1", str(tmp_path)),
        ):
            with pytest.raises(RegistryUnavailable, match=f"MLflow at http://127.0.0.1:{ingress.port}"):
                ask()
