"""TLS for Redis, PostgreSQL and MLflow by setting alone, through every client that we have, and what a bad one says.

The wheels' servers speak no TLS, so that of this test stands before them; certificates are made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
from celery import Celery
from flower.utils.broker import Broker as FlowersBroker
from pydantic import SecretStr
from sqlalchemy import make_url

from config.settings import Settings
from devstack.mlflow import mlflow_answers
from devstack.postgres import postgres_answers
from devstack.redis import redis_answers
from mlops.diagnosis.doctor import diagnose
from mlops.domain.errors import AcisError, LedgerUnavailable, SourceUnavailable
from mlops.features.source import open_source
from mlops.ledger.engine import Database
from mlops.ledger.ledger import open_ledger
from mlops.ledger.schema import migrate
from mlops.ledger.studies import Studies
from mlops.redis_address import redis_client
from mlops.registry.registry import MlflowRegistry
from tasks.broker import Broker
from tests.support.features import postgres_table
from tests.support.servers import Databases
from tests.support.services import panel
from tests.support.tls import Certificates, make_certificates, tls_before
from worker.app import celery_config
from worker.health import broker_answers

BAD = ("expired", "of_another_host", "stranger")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


# ---- Redis


@pytest.fixture
def redis_by_tls(redis_url: str, certificates: Certificates) -> Callable[[str], Any]:
    """A context with the address of Redis behind one of the certificates."""
    parts = urlsplit(redis_url)

    @contextmanager
    def before(certificate: str) -> Iterator[str]:
        with tls_before(parts.port or 0, getattr(certificates, certificate)) as port:
            checks = f"ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={certificates.authority}"
            yield f"rediss://:{parts.password}@localhost:{port}{parts.path}?{checks}"

    return before


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's own
def test_every_client_of_redis_speaks_tls(redis_by_tls: Callable[[str], Any]) -> None:
    with redis_by_tls("good") as address:
        assert redis_client(address).ping()
        assert redis_answers(address)
        assert broker_answers(address)
        assert Broker(Settings(celery_broker_url=SecretStr(address))).look().depths is not None
        app = Celery("by-tls", broker=address, backend=address, set_as_current=False)
        try:
            with app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1)
                app.send_task("drift.check", kwargs={"strategy": "growth"}, queue="control", connection=connection)
            app.backend.store_result("an-id", {"a": 1}, "SUCCESS")
            assert app.AsyncResult("an-id").get(timeout=10) == {"a": 1}
        finally:
            app.close()
        assert redis_client(address).llen("control") == 1
        config = celery_config(Settings(celery_broker_url=SecretStr(address)), None)
        flowers = FlowersBroker(address, broker_options={}, broker_use_ssl=config["broker_use_ssl"])
        assert asyncio.run(flowers.queues(["control"])) == [{"name": "control", "messages": 1}]
        ours = Celery("ours", set_as_current=False, changes=config)
        with ours.connection_for_read() as connection:
            assert connection.default_channel.client.llen("control") == 1
        ours.close()


@pytest.mark.parametrize("certificate", BAD)
def test_a_bad_certificate_of_redis_is_refused_and_the_doctor_says_why(
    redis_by_tls: Callable[[str], Any], certificate: str, tmp_path: Path
) -> None:
    with redis_by_tls(certificate) as address:
        assert not redis_answers(address)
        look = Broker(Settings(celery_broker_url=SecretStr(address))).look()
        assert look.depths is None
        assert "certificate" in look.error
        said = doctors_words("broker", celery_broker_url=SecretStr(address), var_dir=tmp_path)
    assert {
        "expired": "the server's certificate has run out",
        "of_another_host": "the certificate is another host's",
        "stranger": "not signed by an authority that is trusted here",
    }[certificate] in said


def test_a_plain_address_does_not_reach_a_redis_behind_tls(redis_by_tls: Callable[[str], Any]) -> None:
    with redis_by_tls("good") as address:
        assert not redis_answers(address.replace("rediss://", "redis://").partition("?")[0])


# ---- PostgreSQL


@pytest.fixture(scope="module")
def plain_ledger(postgres_server: Databases) -> Iterator[str]:
    url = postgres_server.make()
    migrate(url)
    postgres_table(panel(), url)
    yield url
    postgres_server.drop(url)


@pytest.fixture
def ledger_by_tls(plain_ledger: str, certificates: Certificates) -> Callable[[str], Any]:
    """A context with the address of the ledger behind one of the certificates."""
    url = make_url(plain_ledger)

    @contextmanager
    def before(certificate: str) -> Iterator[str]:
        with tls_before(url.port or 0, getattr(certificates, certificate), is_postgres=True) as port:
            checked = url.set(drivername="postgresql", host="localhost", port=port).update_query_dict(
                {"sslmode": "verify-full", "sslrootcert": str(certificates.authority)}
            )
            yield checked.render_as_string(hide_password=False)

    return before


def test_every_client_of_postgres_speaks_tls(ledger_by_tls: Callable[[str], Any]) -> None:
    with ledger_by_tls("good") as address:
        assert postgres_answers(address)
        ledger = open_ledger(address)
        assert ledger.runs() == []
        ledger.close()
        assert migrate(address).is_current
        studies = Studies(address)
        studies.open("run-1", maximise=True, seed=1)
        assert studies.names() == ["run-1"]
        assert open_source(address).latest_date("growth") is not None  # ADBC


@pytest.mark.parametrize("certificate", BAD)
def test_a_bad_certificate_of_postgres_is_refused_and_the_doctor_says_why(
    ledger_by_tls: Callable[[str], Any], certificate: str, tmp_path: Path
) -> None:
    with ledger_by_tls(certificate) as address:
        database = Database(address)
        with pytest.raises(LedgerUnavailable, match="certificate"), database.reading():
            pass
        with pytest.raises(SourceUnavailable, match="certificate"):
            open_source(address).latest_date("growth")
        assert not postgres_answers(address)
        said = doctors_words("ledger", database_url=SecretStr(address), var_dir=tmp_path)
    expected = {"of_another_host": "the certificate is another host's"}
    assert expected.get(certificate, "sslrootcert for PostgreSQL") in said or "has run out" in said


def test_a_server_without_tls_is_refused_where_tls_is_asked_for(plain_ledger: str, certificates: Certificates) -> None:
    url = make_url(plain_ledger).set(drivername="postgresql", host="localhost")
    checked = url.update_query_dict({"sslmode": "verify-full", "sslrootcert": str(certificates.authority)})
    with pytest.raises(psycopg2.OperationalError, match="does not support SSL"):
        psycopg2.connect(checked.render_as_string(hide_password=False))


# ---- MLflow


@pytest.fixture
def mlflow_by_tls(
    mlflow_url: str, mlflow_passwords: Mapping[str, str], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Any]:
    """A context with the address of MLflow behind one of the certificates; the authority is named by the variable."""
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificates.authority))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # what is wrong now is wrong a second later
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reader")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", mlflow_passwords["reader"])
    port_behind = urlsplit(mlflow_url).port or 0

    @contextmanager
    def before(certificate: str) -> Iterator[str]:
        with tls_before(port_behind, getattr(certificates, certificate)) as port:
            yield f"https://localhost:{port}"

    return before


def test_every_client_of_mlflow_speaks_tls(
    mlflow_by_tls: Callable[[str], Any], mlflow_passwords: Mapping[str, str]
) -> None:
    with mlflow_by_tls("good") as address:
        assert mlflow_answers(address, f"reader:{mlflow_passwords['reader']}")
        assert MlflowRegistry(address).versions("no-such-model") == []


@pytest.mark.parametrize("certificate", BAD)
def test_a_bad_certificate_of_mlflow_is_refused_in_words(
    mlflow_by_tls: Callable[[str], Any], mlflow_passwords: Mapping[str, str], certificate: str
) -> None:
    with mlflow_by_tls(certificate) as address:
        assert not mlflow_answers(address, f"reader:{mlflow_passwords['reader']}")
        with pytest.raises(AcisError, match=r"(?i)certificate"):
            MlflowRegistry(address).versions("no-such-model")


def doctors_words(subject: str, **settings: Any) -> str:
    """What `acis doctor` finds about a server, and how it is mended."""
    answers = [one for one in diagnose(Settings(**settings)) if one.subject == subject]
    assert [one.level for one in answers] == ["error"]
    return " ".join(f"{one.found}; {one.mend}" for one in answers)
