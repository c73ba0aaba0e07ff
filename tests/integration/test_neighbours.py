"""Several stacks that start at once on one machine and want the same ports: each has its own, and answers for itself.

The short form starts servers alone; `python -m tests.support.neighbours` starts four whole checkouts, with the demo.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from sqlalchemy.engine import make_url

from config.endpoints import Endpoints, read_endpoints
from devstack.layout import Layout
from devstack.ports import choose_port
from devstack.process import leftovers
from devstack.stack import remove_var, stop_running
from devstack.status import stack_status
from tests.support.servers import origin

N_STACKS = 4

STARTER = """
import json, sys
from pathlib import Path
from devstack.plan import StackOptions
from devstack.stack import Stack

asked = json.loads(sys.argv[1])
var = Path(asked["var"])
stack = Stack(StackOptions(
    var_dir=var, strategies_file=var / "none.toml", origin=asked["origin"], database_url="postgresql://x@127.0.0.1:1/x",
    mlflow_port=asked["mlflow"], flower_port=asked["flower"], admin_port=asked["admin"], roles=(),
))
try:
    stack.start()
    stack.wait_healthy()
    print("up", flush=True)
    sys.stdin.read()
finally:
    stack.stop()
"""


@pytest.fixture
def neighbours() -> Iterator[list[Path]]:
    """The var folders of stacks that were started in one moment, with one wish for their ports."""
    wanted = {"mlflow": choose_port(), "flower": choose_port(), "admin": choose_port(), "origin": origin()}
    with tempfile.TemporaryDirectory(prefix="acis-neighbours-") as folder, ExitStack() as started:
        folders = [Path(folder) / f"checkout-{number}" / "var" for number in range(N_STACKS)]
        for var in folders:
            started.callback(remove_var, Layout(var_dir=var))
            started.callback(stop_running, Layout(var_dir=var))
        processes = [
            started.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", STARTER, json.dumps({**wanted, "var": str(var)})],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for var in folders
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        yield folders
        for process in processes:
            process.communicate()
            assert process.returncode == 0
        assert [leftovers(var) for var in folders] == [[]] * N_STACKS


def test_four_stacks_that_start_at_once_have_ports_and_servers_of_their_own(neighbours: list[Path]) -> None:
    found = [endpoints for var in neighbours if (endpoints := read_endpoints(var)) is not None]
    assert len(found) == N_STACKS
    assert len({one.mlflow_tracking_uri for one in found}) == N_STACKS
    assert len({one.celery_broker_url for one in found}) == N_STACKS
    for var in neighbours:
        servers = {one.name: one for one in stack_status(Layout(var_dir=var)).services}
        assert servers["redis"].answers
        assert servers["mlflow"].answers  # by a process of this very stack
    for one in found:
        with redis.Redis.from_url(one.celery_broker_url) as client:
            assert client.set("whose", str(one.var_dir), nx=True)  # nobody else's word is there
    assert refusals(found) == N_STACKS * (N_STACKS - 1)


def refusals(found: list[Endpoints]) -> int:
    """How often a stack's password is refused by another stack's Redis."""
    n = 0
    for one in found:
        for other in found:
            if one is other:
                continue
            url = make_url(other.celery_broker_url).set(password=make_url(one.celery_broker_url).password)
            with redis.Redis.from_url(url.render_as_string(hide_password=False)) as client:
                try:
                    client.ping()
                except redis.AuthenticationError:
                    n += 1
    return n
