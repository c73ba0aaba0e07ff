"""A system that has worked and failed in several ways has written, said and shown no secret."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from celery import Celery
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from config.settings import ROOT, Settings
from mlops.domain.records import Kind
from tests.chaos.leaks import find_leaks
from tests.security.fuzz.description import LEAST, STREAM
from tests.security.fuzz.system import WORKERS, Fuzzed, fuzzed_system
from tests.support.processes import environment_of
from tests.support.secret_scan import SecretScan
from tests.support.waiting import wait_for

TYPED = "typed-into-the-wrong-field-7Qx"
"""What somebody types for a name at the sign-in, and for a password."""
WRONG = "not-the-password-3fK"
_SAID_WITHIN_S = 60.0
_ACIS = str(Path(sys.executable).with_name("acis"))
WITH_SERVERS = (
    [sys.executable, "-m", "worker", "reconciler"],
    [sys.executable, "-m", "worker", "control", "wrong"],
    [sys.executable, "-m", "worker", "admin"],
    [_ACIS, "doctor"],
    [_ACIS, "runs"],
)
"""Commands that need a server, by their arguments."""


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    with fuzzed_system() as running:
        yield running


def with_wrong_passwords(settings: Settings) -> Settings:
    """The right servers, and a password that none of them has."""
    changed = {}
    for name, value in settings:
        if isinstance(value, SecretStr) and "://" in value.get_secret_value():
            url = make_url(value.get_secret_value()).set(password=WRONG)
            changed[name] = SecretStr(url.render_as_string(hide_password=False))
    assert len(changed) >= 4
    return settings.model_copy(update=changed)


def say(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    """Let a command say something, and end it."""
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        wait_for(
            lambda: log.stat().st_size > 0 or process.poll() is not None,
            f"{arguments} says something",
            within_s=_SAID_WITHIN_S,
        )
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_wrong_passwords_are_said_without_them(fuzzed: Fuzzed) -> None:
    system = fuzzed.system
    environment = environment_of(with_wrong_passwords(system.settings))
    logs = system.place / "log"
    for place, arguments in enumerate(WITH_SERVERS):
        say(arguments, environment, logs / f"wrong-{place}.log")
    said = "".join(path.read_text(errors="replace") for path in logs.glob("wrong-*.log"))
    assert said.count("password") + said.count("WRONGPASS") > 0, "each says that the password is wrong"
    assert list(SecretScan({"the wrong password": WRONG}).files(logs)) == []


def test_runs_fail_while_servers_are_away(fuzzed: Fuzzed) -> None:
    servers = fuzzed.system.servers
    for proxy in (servers.mlflow_proxy, servers.postgres_proxy, servers.redis_proxy):
        run_id = fuzzed.run("s3", Kind.TRAIN)
        proxy.refuse()
        with requests.Session() as session:
            home = f"http://127.0.0.1:{fuzzed.system.settings.admin_port}"
            answer = session.get(f"{home}/admin/", headers=dict(fuzzed.actors["viewer"].headers), timeout=60)
            assert answer.status_code in {200, 401, 503}
            assert list(SecretScan(fuzzed.secrets).look(answer.content, "a page")) == []
        proxy.pass_on()
        fuzzed.wait_for_runs([run_id])


def test_names_and_passwords_that_were_typed_are_kept_nowhere(fuzzed: Fuzzed) -> None:
    home = f"http://127.0.0.1:{fuzzed.system.settings.admin_port}"
    for name, password in ((TYPED, WRONG), ("victor", TYPED)):
        with requests.Session() as session:
            form = session.get(f"{home}/admin/sign-in", timeout=60).text
            csrf = re.search(r'name="csrf" value="([^"]+)"', form)
            assert csrf
            fields = {"csrf": csrf[1], "name": name, "password": password}
            assert session.post(f"{home}/admin/sign-in", data=fields, timeout=60).status_code == 401
    assert find_leaks(fuzzed.system, {"what was typed": TYPED}) == []


def test_what_a_worker_tells_of_itself_has_no_secret(fuzzed: Fuzzed) -> None:
    scan = SecretScan(fuzzed.secrets)
    asker = Celery("an-asker", broker=fuzzed.system.servers.redis_url, set_as_current=False)
    try:
        inspect = asker.control.inspect(timeout=10.0, limit=len(WORKERS))
        for ask in (inspect.conf, inspect.stats, inspect.registered, inspect.active_queues):
            told = ask()
            assert told
            assert [str(leak) for leak in scan.look(repr(told).encode(), ask.__name__)] == []
    finally:
        asker.close()


def test_no_page_shows_a_secret_to_an_operator(fuzzed: Fuzzed) -> None:
    scan = SecretScan(fuzzed.secrets)
    home, asked = f"http://127.0.0.1:{fuzzed.system.settings.admin_port}", 0
    operator = fuzzed.sign_in("operator")
    fuzzed.wait_for_runs([fuzzed.run("s1")])
    for name in LEAST:
        method, _, path = name.partition(" ")
        if method != "GET" or path in {STREAM, "/admin/static"}:
            continue
        for word, values in {**fuzzed.known, "form": ["x"]}.items():
            path = path.replace(f"{{{word}}}", values[0])
        for accept in ("text/html", "application/json"):
            answer = requests.get(f"{home}{path}", headers={**operator.headers, "accept": accept}, timeout=60)
            leaks = [str(leak) for leak in scan.look(answer.content, path)]
            assert leaks == []
            asked += answer.status_code == 200
    assert asked > 40


def test_nothing_that_was_written_has_a_secret(fuzzed: Fuzzed) -> None:
    assert find_leaks(fuzzed.system, fuzzed.secrets) == []


def test_one_that_is_planted_is_found(fuzzed: Fuzzed) -> None:
    fuzzed.system.services.ledger.audit("somebody", "planted", fuzzed.secrets["the narrow token"])
    assert find_leaks(fuzzed.system, fuzzed.secrets) == [
        "the narrow token is in public.mlops_audit.subject (plain)",
    ]
