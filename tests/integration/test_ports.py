"""Choosing ports; here, not among the unit tests, because it opens sockets."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

from devstack.layout import Layout, choose_ports
from devstack.ports import HeldPorts, choose_port, is_free, listens, somebody_listens


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        assert choose_port([port]) != port
    assert is_free(port)


def test_ports_are_kept_for_the_next_start_unless_they_are_taken(tmp_path: Path) -> None:
    layout = Layout(var_dir=tmp_path)
    wanted = {"mlflow": choose_port(), "flower": choose_port(), "admin": choose_port(), "serve": choose_port()}
    held = HeldPorts()
    first = choose_ports(layout, held, **wanted)
    held.release()
    assert (first.mlflow, first.flower, first.admin) == (wanted["mlflow"], wanted["flower"], wanted["admin"])
    assert choose_ports(layout, held, **wanted) == first
    held.release()
    with socket.create_server(("127.0.0.1", first.mlflow)):
        moved = choose_ports(layout, held, **wanted)
    held.release()
    assert moved.mlflow != first.mlflow
    assert (moved.flower, moved.redis, moved.postgres) == (first.flower, first.redis, first.postgres)


def test_a_port_that_one_stack_holds_is_no_other_stacks_though_nobody_listens_yet(tmp_path: Path) -> None:
    wanted = {"mlflow": choose_port(), "flower": choose_port(), "admin": choose_port(), "serve": choose_port()}
    held = [HeldPorts() for _ in range(4)]
    chosen = [
        choose_ports(Layout(var_dir=tmp_path), one, **wanted)  # all four know the same last ports
        for one in held
    ]
    ports = [port for one in chosen for port in vars(one).values()]
    assert len(set(ports)) == len(ports) == 28
    assert chosen[0].mlflow == wanted["mlflow"]
    for one in held:
        one.release()


def test_our_own_server_listens_on_a_held_port_and_a_program_without_reuse_does_not() -> None:
    held = HeldPorts()
    port = held.take()
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", port))
        except OSError as exc:
            refused = exc.errno
        assert refused == errno.EADDRINUSE
    with socket.create_server(("127.0.0.1", port)):  # with SO_REUSEADDR, as servers are
        assert somebody_listens(port)
    held.release()


def test_who_listens_is_told_by_process_not_by_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(os.getpid(), port)
        stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            assert not listens(stranger.pid, port)
        finally:
            stranger.communicate()
