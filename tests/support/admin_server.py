"""The page as a process, for tests that need a real server and a real PostgreSQL."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from config.settings import ROOT, variables
from devstack.ports import choose_port
from devstack.process import die_with_parent
from tests.support.waiting import wait_for

START_S = 60.0


def environment(**values: str) -> dict[str, str]:
    ours = set(variables())
    return {**{name: value for name, value in os.environ.items() if name not in ours}, **values}


def start(folder: Path, **values: str) -> subprocess.Popen[bytes]:
    with (folder / "admin.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "worker", "admin"],
            cwd=ROOT,
            env=environment(ACIS_VAR_DIR=str(folder), **values),
            stdout=log,
            stderr=log,
            preexec_fn=lambda: die_with_parent(15),  # noqa: PLW1509 -- a killed test run leaves nothing
        )


@contextmanager
def served(folder: Path, **values: str) -> Iterator[str]:
    """Its address, once it answers."""
    port = choose_port()
    process = start(folder, ACIS_ADMIN_PORT=str(port), **values)
    home = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "admin.log").read_text()
        try:
            return requests.get(f"{home}/healthz", timeout=1).ok
        except requests.RequestException:
            return False

    try:
        wait_for(answers, "the page answers", within_s=START_S)
        yield home
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def sign_in(home: str, name: str, password: str) -> requests.Session:
    session = requests.Session()
    session.headers["accept"] = "text/html"
    csrf = re.search(r'name="csrf" value="([^"]+)"', session.get(f"{home}/admin/sign-in").text)
    assert csrf
    fields = {"csrf": csrf[1], "name": name, "password": password}
    assert session.post(f"{home}/admin/sign-in", data=fields).ok
    return session
