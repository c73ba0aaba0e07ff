"""The servers that the tests and `make run` start."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from devstack import postgres
from devstack.account import make_home, remove_home, server_account
from devstack.mlflow import mlflow_answers, page_answers
from devstack.ports import choose_port
from devstack.postgres import (
    find_installation,
    find_installations,
    init_cluster,
    postgres_answers,
    postgres_program,
    reachable,
)
from devstack.process import Child
from devstack.redis import redis_answers
from mlops.domain.errors import ConfigurationError
from tests.support.servers import origin


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


def test_every_server_listens_on_loopback_alone(redis_url: str, postgres_url: str, mlflow_url: str) -> None:
    ports = {make_url(url).port for url in (redis_url, postgres_url, mlflow_url)}
    listening = {
        (one.laddr.port, one.laddr.ip)
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr.port in ports
    }
    assert listening == {(port, "127.0.0.1") for port in ports}


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL to another account")
def test_programs_that_the_servers_account_cannot_reach_are_copied_for_it(tmp_path: Path) -> None:
    carried = next(one for one in find_installations("embedded") if one.origin == "embedded")
    package = carried.bin_dir.parents[1]
    # pytest's own folder has mode 700, as /root has
    hidden = tmp_path / package.name
    shutil.copytree(package / "pginstall", hidden / "pginstall", symlinks=True)
    shutil.copytree(package.with_suffix(".libs"), tmp_path / f"{package.name}.libs", symlinks=True)
    unreachable = replace(carried, bin_dir=hidden / "pginstall" / "bin")
    user = server_account()
    wanted = tmp_path / "var" / "postgres"
    try:
        home = make_home(wanted, user)
        assert wanted.is_symlink()
        installation = reachable(unreachable, home=home, user=user)
        assert installation.bin_dir.is_relative_to(home)
        data_dir = init_cluster(installation, home=home, password="secret", user=user)
        port = choose_port()
        program = postgres_program(installation, data_dir=data_dir, port=port, user=user, durable=False)
        with Child(program, log=tmp_path / "log") as child:
            url = postgres.postgres_url(port=port, password="secret", database="postgres")
            child.wait_until(lambda: postgres_answers(url))
        # the second start finds all of it
        assert make_home(wanted, user) == home
        assert find_installation("embedded", data_dir=home / "data").major == carried.major
    finally:
        remove_home(wanted)
    assert not home.exists()


def test_a_cluster_of_another_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigurationError, match=r"made by PostgreSQL 9, but only .* was found; install PostgreSQL 9"):
        find_installation(origin(), data_dir=tmp_path)


def test_mlflow_is_healthy(mlflow_url: str) -> None:
    assert mlflow_answers(mlflow_url)


def test_whoever_says_ok_at_a_port_is_no_mlflow() -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"OK")  # as MLflow's own /health does

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            pass

    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert page_answers(f"{url}/health")
        assert not mlflow_answers(url)
        server.shutdown()
        thread.join()
