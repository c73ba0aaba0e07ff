"""The gateway's errors in words. Nothing is asked of any server."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from mlops.domain.errors import RegistryError, RegistryUnavailable, UnusableModelFile, UnusableProfile
from mlops.registry.gateway import Gateway

URI = "http://user:s3cr3t@registry:5000"


class FailingClient:
    """Stands for the library's client."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, _: str) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise self.error

        return fail


@pytest.mark.parametrize(
    "error",
    [
        MlflowException(f"API request to {URI}/api/2.0/mlflow failed with exception: refused"),
        requests.ConnectionError(f"no answer from {URI}/api"),
    ],
)
def test_an_error_names_the_server_without_its_password(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(URI)
    monkeypatch.setattr(gateway, "_client", FailingClient(error))
    with pytest.raises((RegistryError, RegistryUnavailable)) as caught:
        gateway.delete_alias("growth", "champion")
    assert "http://registry:5000" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        '(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "inputs_pk"',
        "DELETE statement on table 'registered_model_aliases' expected to delete 1 row(s); Only 0 were matched.",
    ],
)
def test_what_another_writer_did_first_is_tried_again_and_does_not_fail_the_run(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(URI)
    monkeypatch.setattr(gateway, "_client", FailingClient(MlflowException(words, error_code=BAD_REQUEST)))
    with pytest.raises(RegistryUnavailable):
        gateway.log("run-1", params={"depth": 3})


class CollidingClient:
    """The library's client where another writer sets the same alias at the same moment."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.aliases: dict[str, str] = {}
        self.tries = 0

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.tries += 1
        if self.tries == 1:
            raise MlflowException(f"({self.words}) of {name}")
        self.aliases[alias] = version


@pytest.mark.parametrize(
    "words",
    [
        'psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "registered_model_alias_pk"',
        "sqlite3.IntegrityError) UNIQUE constraint failed: registered_model_aliases.name",
        "UPDATE statement on table 'registered_model_aliases' expected to update 1 row(s); 0 were matched.",
    ],
)
def test_two_writers_that_set_one_alias_at_once_both_succeed(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, client = Gateway(URI), CollidingClient(words)
    monkeypatch.setattr(gateway, "_client", client)
    gateway.set_alias("growth", "champion", "2")
    assert client.aliases == {"champion": "2"}


def test_an_alias_that_is_refused_for_another_reason_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway, client = Gateway(URI), CollidingClient("invalid alias")
    monkeypatch.setattr(gateway, "_client", client)
    with pytest.raises((RegistryError, RegistryUnavailable)):
        gateway.set_alias("growth", "champion", "2")
    assert client.tries == 1


@pytest.mark.parametrize(
    "words",
    [
        "(psycopg2.errors.ReadOnlySqlTransaction) cannot execute INSERT in a read-only transaction",
        "(pymysql.err.InternalError) (1792, 'Cannot execute statement in a READ ONLY transaction.') in a read-only transaction",
        "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00",
        "(psycopg2.InterfaceError) connection already closed",
        "Can't reconnect until invalid transaction is rolled back.",
        '(psycopg2.errors.InternalError_) could not read block 7 in file "base/5/1259"',
        '(psycopg2.errors.ForeignKeyViolation) insert or update on table "metrics" violates foreign key constraint',
    ],
)
def test_a_condition_of_mlflows_database_that_passes_does_not_fail_the_run(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(URI)
    monkeypatch.setattr(gateway, "_client", FailingClient(MlflowException(words, error_code=BAD_REQUEST)))
    with pytest.raises(RegistryUnavailable, match=re.escape(words[:30])):
        gateway.log("run-1", params={"depth": 3})


@pytest.mark.parametrize(
    "words",
    [
        "(psycopg2.errors.StringDataRightTruncation) value too long for type character varying(500)",
        '(psycopg2.errors.UndefinedTable) relation "runs" does not exist',
        "Invalid metric value",
    ],
)
def test_what_mlflow_refuses_for_good_is_not_tried_again(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(URI)
    monkeypatch.setattr(gateway, "_client", FailingClient(MlflowException(words, error_code=BAD_REQUEST)))
    with pytest.raises(RegistryError, match=re.escape(words[:30])):
        gateway.log("run-1", params={"depth": 3})


class PlacedClient:
    """The library's client of a server where somebody wrote of everything that it lies at one place."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.listed: list[str] = []

    def get_model_version_download_uri(self, _name: str, _version: str) -> str:
        return self.location

    def get_logged_model(self, _: str) -> Any:
        return SimpleNamespace(artifact_location=self.location)

    def get_run(self, _: str) -> Any:
        outputs = SimpleNamespace(model_outputs=[SimpleNamespace(model_id="m-1")])
        return SimpleNamespace(info=SimpleNamespace(artifact_uri=self.location), outputs=outputs)

    def list_artifacts(self, run_id: str, _: str | None = None) -> list[Any]:
        self.listed.append(run_id)
        return []

    list_logged_model_artifacts = list_artifacts


ELSEWHERE = [
    "http://other.example:5000/file",
    "https://other.example/file",
    "mlflow-artifacts://other.example:5000/file",
    "s3://bucket/file",
    "file:///tmp/file",
    "/tmp/file",
    "models:/other/1",
    "",
]


@pytest.mark.parametrize("location", ELSEWHERE)
def test_no_file_is_asked_for_at_another_place_than_this_server(
    location: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gateway, client = Gateway(URI), PlacedClient(location)
    asked: list[object] = []
    monkeypatch.setattr(gateway, "_client", client)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda **named: asked.append(named))
    monkeypatch.setattr(mlflow.artifacts, "list_artifacts", lambda **named: asked.append(named))
    with pytest.raises(UnusableModelFile, match="only files that this MLflow serves itself are"):
        gateway.download_model("growth", "1", str(tmp_path))
    for uri in ("models:/m-1", "runs:/run-1/model"):
        with pytest.raises(UnusableModelFile):
            gateway.download_logged_model(uri, str(tmp_path))
    with pytest.raises(UnusableProfile):
        gateway.download_artifact("run-1", "profile", str(tmp_path))
    assert (gateway.artifact_bytes("run-1"), gateway.artifacts("run-1")) == (0, [])
    assert (asked, client.listed) == ([], [])


def test_a_file_at_this_server_is_asked_for_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gateway = Gateway(URI)
    monkeypatch.setattr(gateway, "_client", PlacedClient("mlflow-artifacts:/1/models/m-1/artifacts"))
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda **named: named["artifact_uri"])
    for uri in ("models:/m-1", "mlflow-artifacts:/1/models/m-1/artifacts"):
        found = gateway.download_logged_model(uri, str(tmp_path))
        assert found == Path("mlflow-artifacts:/1/models/m-1/artifacts/model.ubj")


def test_a_package_that_the_library_lacks_is_a_refusal_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(URI)
    monkeypatch.setattr(gateway, "_client", FailingClient(ModuleNotFoundError("No module named 'a_store'")))
    with pytest.raises(RegistryError, match="needs a package that is not installed here: No module named 'a_store'"):
        gateway.run("run-1")
