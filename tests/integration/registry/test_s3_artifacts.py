"""MLflow with its artifacts in S3, on moto's server: what it keeps, how it refuses, and when it does not start."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from devstack.mlflow import mlflow_program
from devstack.mlflow_artifacts import ensure_artifacts
from devstack.ports import choose_port
from devstack.process import Child
from mlops.domain.errors import RegistryError, RegistryUnavailable, ServerFailed, UnusableModelFile
from mlops.registry.registry import MlflowRegistry
from tests.support.models import trained_model
from tests.support.s3 import BUCKET, S3Server, s3_server
from tests.support.servers import new_mlflow_passwords, run_mlflow

ROOT = f"s3://{BUCKET}/mlflow"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.role.items():
            patch.setenv(name, value)
        yield found


@pytest.fixture(scope="module")
def mlflow_on_s3(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow-s3")
    with run_mlflow(folder, f"sqlite:///{folder}/mlflow.db", artifact_root=ROOT) as url:
        yield url


@pytest.fixture
def registry(mlflow_on_s3: str, server: S3Server) -> Iterator[MlflowRegistry]:
    yield MlflowRegistry(mlflow_on_s3)
    server.refused, server.lasting = None, True


@pytest.fixture
def name() -> str:
    return f"acis_t{secrets.token_hex(4)}_classifier"


def test_a_training_is_kept_in_the_bucket_given_back_and_missed_when_it_is_gone(
    registry: MlflowRegistry, server: S3Server, name: str
) -> None:
    server.lasting = False  # the role's keys run out from one request to the next
    version = registry.log_training(trained_model(name, model_name=name))
    (model,) = [one for one in server.object_names() if one.endswith("model.ubj")]
    assert model.startswith("mlflow/")
    assert registry.model_file(name, version.version)
    assert registry.artifact_bytes(str(version.run_id)) > 1_000
    registry.check_artifacts()
    assert not [one for one in server.object_names() if "acis-check" in one], "nor is anything left of the start's"
    server.client().delete_object(Bucket=BUCKET, Key=model)
    with pytest.raises(UnusableModelFile, match="is gone"):
        registry.model_file(name, version.version)


@pytest.mark.parametrize(
    ("code", "status", "todo", "kind"),
    [
        ("NoSuchBucket", "404", "make the bucket", RegistryError),
        ("AccessDenied", "403", "allow these credentials", RegistryUnavailable),
        ("ExpiredToken", "400", "have run out", RegistryUnavailable),
    ],
)
def test_a_bucket_that_refuses_ends_a_training_where_a_person_must_act_and_else_lets_it_wait(
    code: str, status: str, todo: str, kind: type[Exception], registry: MlflowRegistry, server: S3Server, name: str
) -> None:
    server.refused = (code, status)
    for ask in (registry.check_artifacts, lambda: registry.log_training(trained_model(name, model_name=name))):
        with pytest.raises(kind, match=f"{BUCKET}/mlflow.*{code}.*{todo}"):
            ask()
    assert registry.versions(name) == []


@pytest.mark.parametrize(
    ("root", "todo"), [("s3://no-such-bucket/mlflow", "make the bucket"), ("/proc/acis-artifacts", "No such file")]
)
def test_a_place_that_keeps_nothing_is_named_with_what_to_do(
    root: str, todo: str, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"cannot keep files at {root}: .*{todo}"):
        ensure_artifacts(root, get_artifact_repository)


def test_mlflow_does_not_start_where_it_cannot_keep_files(tmp_path: Path) -> None:
    log = tmp_path / "mlflow.log"
    program = mlflow_program(
        port=choose_port(),
        backend_url=f"sqlite:///{tmp_path}/mlflow.db",
        artifact_root="/proc/acis-artifacts",
        cwd=tmp_path,
        passwords=new_mlflow_passwords(),
    )
    with Child(program, log=log) as child, pytest.raises(ServerFailed):
        child.wait_until(lambda: False)
    words = log.read_text()
    assert "MLflow is not started: it cannot keep files at /proc/acis-artifacts" in words
    assert "Traceback" not in words
