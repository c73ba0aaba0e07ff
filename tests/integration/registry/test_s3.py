"""Checkpoints and kept models in S3, on moto's server: all operations, and what breaks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from mlops.domain.errors import CheckpointsUnavailable
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.housekeeping import tidy
from mlops.registry import s3
from mlops.registry.checkpoint_store import Checkpoint, CheckpointStore
from mlops.runs.checkpoints import StageCheckpoints
from tests.chaos.proxy import FaultyProxy
from tests.support.ledgers import TimedLedger
from tests.support.s3 import BUCKET, S3Server, s3_server
from tests.support.services import fake_services
from worker.__main__ import main as role_main

URL = f"s3://{BUCKET}/acis/checkpoints"
ABSENT = Checkpoint(name="a", path="never/1/a", sha256="", n_bytes=0)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as found:
        yield found


@pytest.fixture(autouse=True)
def by_its_key(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield
    server.refused, server.lasting = None, True


def test_a_bucket_keeps_what_a_folder_keeps(server: S3Server) -> None:
    store = CheckpointStore(URL)
    first, second = store.write("run-1", 3, "rounds-50", b"fifty"), store.write("run-1", 4, "rounds-60", b"sixty")
    store.write("run-10", 1, "rounds-50", b"of another")
    assert "acis/checkpoints/acis-checkpoints/run-1/3/rounds-50" in server.object_names()
    assert (store.read(first), store.read(second), store.read(ABSENT)) == (b"fifty", b"sixty", None)
    store.delete(first)
    store.delete(first)
    assert store.read(first) is None
    store.delete_run("run-1")
    assert list(CheckpointStore(URL).newest()) == ["run-10"], "another run's name begins alike"
    store.keep_model("digest-run", {"model.ubj": b"trees", "version.json": b"{}"})
    assert store.kept_models() == ["digest-run"]
    assert (store.kept_model("digest-run", "model.ubj"), store.kept_model("digest-run", "none")) == (b"trees", None)
    store.drop_model("digest-run")
    store.delete_run("run-10")
    assert store.check() == URL
    assert server.object_names() == []


def test_a_bucket_without_a_prefix_will_do(server: S3Server) -> None:
    store = CheckpointStore(f"s3://{BUCKET}")
    written = store.write("run-1", 1, "rounds-50", b"trees")
    assert server.object_names() == [f"acis-checkpoints/{written.path}"]
    store.delete_run("run-1")
    assert server.object_names() == []


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "endpoint"])
def test_the_endpoint_is_named_by_either_variable(
    variable: str, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    # As Compose gives what .env leaves out.
    for name in ("AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")
    if variable != "endpoint":
        monkeypatch.setenv(variable, server.url)
    store = CheckpointStore(URL, endpoint=server.url if variable == "endpoint" else None)
    assert store.check() == URL


@pytest.mark.parametrize(
    ("code", "status", "todo", "is_refused"),
    [
        ("AccessDenied", "403", "allow these credentials", True),
        ("InvalidAccessKeyId", "403", "correct AWS_ACCESS_KEY_ID", True),
        ("ExpiredToken", "400", "have run out", True),
        ("AuthorizationHeaderMalformed", "400", "another region", True),
        ("SlowDown", "503", "SlowDown", False),
    ],
)
def test_what_the_store_refuses_is_named_with_what_to_do(
    code: str, status: str, todo: str, is_refused: bool, server: S3Server
) -> None:
    server.refused = (code, status)
    with pytest.raises(CheckpointsUnavailable, match=todo) as caught:
        CheckpointStore(URL).write("run-1", 1, "rounds-50", b"trees")
    assert (code in str(caught.value), caught.value.is_refused) == (True, is_refused)
    assert str(server.environment["AWS_SECRET_ACCESS_KEY"]) not in str(caught.value)


def test_a_bucket_that_is_missing_is_no_missing_checkpoint_and_is_not_made(server: S3Server) -> None:
    store = CheckpointStore("s3://no-such-bucket/x")
    for ask in (store.check, lambda: store.read(ABSENT), store.newest, lambda: store.delete_run("run-1")):
        with pytest.raises(CheckpointsUnavailable, match=r"NoSuchBucket.*make the bucket") as caught:
            ask()
        assert caught.value.is_refused
    assert [one["Name"] for one in server.client().list_buckets()["Buckets"]] == [BUCKET]


def test_without_credentials_it_says_which_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(CheckpointsUnavailable, match=r"NoCredentialsError.*correct AWS_ACCESS_KEY_ID"):
        CheckpointStore(URL).check()


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(CheckpointsUnavailable, match=r"`make s3`.*requirements-s3.lock") as caught:
        CheckpointStore(URL).check()
    assert caught.value.is_refused


def test_a_proxys_answer_is_no_answer_of_the_store(server: S3Server) -> None:
    page = b"<html><body>no such service</body></html>"
    with FaultyProxy(server.port) as proxy:
        store = CheckpointStore(URL, endpoint=f"http://127.0.0.1:{proxy.port}")
        written = store.write("run-1", 1, "rounds-50", b"trees")
        for status in (b"404 Not Found", b"403 Forbidden", b"503 Service Unavailable", b"200 OK"):
            proxy.answer(
                b"HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                % (status, len(page), page)
            )
            if status == b"200 OK":
                assert store.read(written) is None, "it is not what was written"
                continue
            with pytest.raises(CheckpointsUnavailable) as caught:
                store.read(written)
            assert not caught.value.is_refused
        proxy.pass_on()
        assert store.read(written) == b"trees"
        proxy.refuse()
        with pytest.raises(CheckpointsUnavailable, match=r"ConnectionClosedError|EndpointConnectionError"):
            store.read(written)
        proxy.pass_on()
        store.delete_run("run-1")


def test_a_store_that_is_silent_costs_a_bounded_time(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3._TIMES["retries"] == {"mode": "standard", "total_max_attempts": 2}
    monkeypatch.setitem(s3._TIMES, "read_timeout", 0.5)
    with FaultyProxy(server.port) as proxy:
        store = CheckpointStore(URL, endpoint=f"http://127.0.0.1:{proxy.port}")
        proxy.hold()
        with pytest.raises(CheckpointsUnavailable, match="ReadTimeoutError"):
            store.write("run-1", 1, "rounds-50", b"trees")
        proxy.pass_on()
        proxy.bytes_per_s = 400_000.0
        written = store.write("run-1", 1, "rounds-50", b"trees" * 10_000)
        assert store.read(written) == b"trees" * 10_000, "slow is not silent"
        store.delete_run("run-1")


def test_credentials_that_run_out_are_fetched_anew_in_the_middle(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in server.environment:
        monkeypatch.delenv(name)
    for name, value in server.role.items():
        monkeypatch.setenv(name, value)
    server.lasting = False
    store = CheckpointStore(URL)
    written = store.write("run-1", 1, "rounds-50", b"trees")
    server.given.append("somebody-elses")  # the key of before has run out
    assert store.read(written) == b"trees"
    assert len(server.given) > 2
    store.delete_run("run-1")


@pytest.mark.parametrize(
    ("role", "bucket", "starts", "words"),
    [
        ("train.cpu", "no-such-bucket", False, "NoSuchBucket"),
        ("train.cpu", BUCKET, True, ""),
        ("promote", "no-such-bucket", True, "NoSuchBucket"),  # it can do without
        ("drift", "no-such-bucket", True, ""),  # it writes nothing there
    ],
)
def test_a_training_worker_does_not_start_where_the_store_refuses(
    role: str,
    bucket: str,
    starts: bool,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[str] = []
    monkeypatch.setattr("os.execv", lambda path, _: started.append(path))
    monkeypatch.setattr("os.umask", lambda _: 0)
    monkeypatch.setenv("ACIS_CHECKPOINT_URL", f"s3://{bucket}/checkpoints")
    monkeypatch.setenv("ACIS_VAR_DIR", str(tmp_path))
    for name in ("WORKER_NAME", "WORKER_ROLE"):
        monkeypatch.setenv(name, "")
    assert bool(role_main([role]) == 2) is not starts
    assert bool(started) is starts
    said = capsys.readouterr().err
    assert (words in said, "Traceback" in said) == (True, False)


def test_a_role_starts_while_the_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []
    monkeypatch.setattr("os.execv", lambda path, _: started.append(path))
    monkeypatch.setattr("os.umask", lambda _: 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ACIS_CHECKPOINT_URL", URL)
    monkeypatch.setenv("ACIS_VAR_DIR", str(tmp_path))
    for name in ("WORKER_NAME", "WORKER_ROLE"):
        monkeypatch.setenv(name, "")
    role_main(["train.cpu"])
    assert started
    assert "goes on without checkpoints for now" in capsys.readouterr().err


def test_a_training_goes_on_from_the_bucket_and_housekeeping_tidies_it(
    server: S3Server, tmp_path: Path, timed: TimedLedger
) -> None:
    database = SecretStr(timed.ledger.database.url.render_as_string(hide_password=False))
    services = fake_services(tmp_path, timed, checkpoint_url=URL, database_url=database)
    first = services.granted(Kind.TRAIN, Stage.TRAIN)
    StageCheckpoints(services.checkpoints, services.ledger, first, every_s=0).save("rounds-50", b"fifty")
    services.ledger.release(first, cause="its worker was drained")
    second = StageCheckpoints(services.checkpoints, services.ledger, services.claimed(first.run_id, Stage.TRAIN))
    assert second.load() == ("rounds-50", b"fifty")
    ended = services.granted(Kind.CHECK, Stage.DRIFT)
    services.ledger.cancel(ended.run_id, actor="test")
    services.ledger.finish(ended, StageOutcome(result={}, run_state=RunState.CANCELLED))
    services.checkpoints.write(ended.run_id, 1, "rounds-50", b"left by a stale worker")
    assert tidy(services).checkpoints == 1
    assert list(services.checkpoints.newest()) == [first.run_id]
    second.forget()
    assert server.object_names() == []
