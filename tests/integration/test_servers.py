"""The servers that the tests and `make run` start."""

from __future__ import annotations

import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from mlops.servers.mlflow import mlflow_answers
from mlops.servers.postgres import postgres_answers
from mlops.servers.redis import redis_answers


def test_redis_keeps_every_key_and_writes_an_append_only_file(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_redis_refuses_a_client_without_the_password(redis_url: str) -> None:
    port = make_url(redis_url).port
    assert port
    with (
        redis.Redis(host="127.0.0.1", port=port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    assert not redis_answers(f"redis://127.0.0.1:{port}/0")


@pytest.mark.parametrize("_round", [1, 2])
def test_every_test_has_an_empty_redis_database(redis_url: str, _round: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.set("left", "behind", nx=True)


@pytest.mark.parametrize("_round", [1, 2])
def test_every_test_has_an_empty_postgres_database(postgres_url: str, _round: int) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE left_behind (n int)"))
    engine.dispose()


def test_postgres_refuses_a_wrong_password(postgres_url: str) -> None:
    wrong = make_url(postgres_url).set(password="wrong")
    assert postgres_answers(postgres_url)
    assert not postgres_answers(wrong.render_as_string(hide_password=False))
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(wrong.set(drivername="postgresql").render_as_string(hide_password=False))


def test_mlflow_is_healthy(mlflow_url: str) -> None:
    assert mlflow_answers(mlflow_url)
