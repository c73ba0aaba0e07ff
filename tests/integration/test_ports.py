"""Choosing ports; here, not among the unit tests, because it opens sockets."""

from __future__ import annotations

import socket
from pathlib import Path

from mlops.servers.layout import Layout, choose_ports
from mlops.servers.ports import choose_port, is_free


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert choose_port([port]) != port
    assert is_free(port)


def test_ports_are_kept_for_the_next_start_unless_they_are_taken(tmp_path: Path) -> None:
    layout = Layout(var_dir=tmp_path)
    wanted = {"mlflow": choose_port(), "flower": choose_port(), "admin": choose_port()}
    first = choose_ports(layout, **wanted)
    assert (first.mlflow, first.flower, first.admin) == (wanted["mlflow"], wanted["flower"], wanted["admin"])
    assert choose_ports(layout, **wanted) == first
    with socket.create_server(("127.0.0.1", first.mlflow)):
        moved = choose_ports(layout, **wanted)
    assert moved.mlflow != first.mlflow
    assert (moved.flower, moved.redis, moved.postgres) == (first.flower, first.redis, first.postgres)
