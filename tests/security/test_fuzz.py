"""Requests and messages of the fuzzer against one running system, which tells no secret before, while or after.

In this order: what is typed at the sign-in, a few hundred requests, a few hundred messages, and then a search for secrets
in all that was written and is answered. `python -m tests.security.fuzz` asks ten thousand and sends two thousand.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
from celery import Celery
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from config.settings import ROOT, Settings
from mlops.domain.records import Kind
from tests.chaos.leaks import find_leaks
from tests.security.fuzz.description import LEAST, STREAM, may, route_names
from tests.security.fuzz.messages import fuzz_messages
from tests.security.fuzz.routes import Answer, Asked, Asker, Findings, fuzz_routes
from tests.security.fuzz.system import WORKERS, Actor, Fuzzed, fuzzed_system
from tests.support.processes import environment_of
from tests.support.secret_scan import SecretScan
from tests.support.waiting import wait_for

SEED = 14
N_REQUESTS, N_MESSAGES = 400, 160
REFUSED = {"nobody": {303, 401}, "viewer": {403}, "token": {403}, "program": {403}}
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


# ---- What is typed at the sign-in, while its limits are open


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


# ---- Requests


@pytest.fixture
def asker() -> Asker:
    """One that judges answers, and is never sent."""
    port = SimpleNamespace(port=54321)
    servers = SimpleNamespace(postgres_proxy=port, redis_proxy=port, mlflow_proxy=port)
    system = cast("Any", SimpleNamespace(servers=servers, folder="/somewhere/acis-chaos-x"))
    actors = {"operator": Actor(name="anna", role="operator", csrf="a-token-of-anna")}
    return Asker(
        Fuzzed(system=system, actors=actors, token="", secrets={"a password": "hunter22222"}, known={}), Findings()
    )


@pytest.mark.parametrize(
    ("role", "path", "answer", "fault"),
    [
        ("viewer", "GET /admin/", {"status": 500}, "status 500"),
        ("viewer", "GET /admin/", {"status": 400, "body": b"Traceback (most recent call last)"}, "the inside is shown"),
        ("operator", "GET /admin/", {"body": b"it is hunter22222"}, "a secret is told: a password"),
        ("viewer", "GET /admin/", {"body": b"a-token-of-anna"}, "a form's token of operator is told"),
        ("nobody", "GET /healthz", {"status": 503, "body": b"no server at localhost:54321"}, "a stranger is told of"),
        ("nobody", "GET /admin/sign-in", {"headers": {"x": "/somewhere/acis-chaos-x"}}, "a stranger is told of"),
        ("nobody", "GET /admin/runs", {}, "a role is escaped: nobody"),
        ("nobody", "HEAD /admin/runs", {}, "a role is escaped: nobody"),
        (
            "viewer",
            "POST /admin/runs/r/cancel",
            {"status": 303, "headers": {"location": "/admin/"}},
            "a role is escaped",
        ),
        ("token", "POST /admin/sign-out", {}, "a role is escaped: token"),
        ("program", "POST /admin/users", {}, "a role is escaped: program"),
        ("operator", "POST /admin/users", {"has_csrf": False}, "a form's token is not asked for"),
        ("viewer", "GET /admin/", {"headers": {"content-type": "application/json"}, "body": b"NaN"}, "no JSON"),
        (
            "viewer",
            "GET /admin/",
            {"headers": {"content-type": "application/json"}, "body": b'{"a": [{"csrf": 1}]}'},
            "JSON has a form's token",
        ),
    ],
)
def test_what_should_not_come_back_is_found(
    asker: Asker, role: str, path: str, answer: dict[str, Any], fault: str
) -> None:
    method, _, address = path.partition(" ")
    actor = Actor(name="somebody", role=role, csrf="one" if role in {"viewer", "operator"} else "")
    asked = Asked(place="admin", actor=actor, method=method, path=address, has_csrf=answer.pop("has_csrf", True))
    found = list(asker._faults(asked, Answer(**{"status": 200, "headers": {}, "body": b"", **answer})))
    assert any(one.startswith(fault) for one in found), found


def test_an_answer_as_it_should_be_has_no_fault(asker: Asker) -> None:
    asked = Asked(place="admin", actor=Actor(name="v", role="viewer", csrf="one"), method="GET", path="/admin/runs")
    assert list(asker._faults(asked, Answer(status=200, headers={"content-type": "text/html"}, body=b"runs"))) == []


def test_each_route_has_its_least_role_written_down() -> None:
    assert set(route_names()) == LEAST.keys()


@pytest.mark.parametrize("role", REFUSED)
def test_a_route_answers_those_alone_who_may_call_it(fuzzed: Fuzzed, role: str) -> None:
    findings = Findings()
    asker = Asker(fuzzed, findings)
    wrong = []
    for name in LEAST:
        method, _, path = name.partition(" ")
        if path in {"/admin/sign-out", "/admin/account/sign-out-everywhere", "/admin/sign-in", "/admin/static"}:
            continue  # the session is needed yet
        for word, values in {**fuzzed.known, "form": ["x"]}.items():
            path = path.replace(f"{{{word}}}", values[0])
        actor = fuzzed.actors[role]
        headers = {"accept": "text/html", "content-type": "application/x-www-form-urlencoded"}
        answer = asker.ask(
            Asked(
                place="admin",
                actor=actor,
                method=method,
                path=path,
                headers={**headers, **({"x-csrf-token": actor.csrf} if actor.csrf else {})},
                body=b"" if method == "POST" else None,
            )
        )
        assert answer is not None
        if (answer.status in REFUSED[role]) == may(role, LEAST[name], method) and not (
            role == "nobody" and LEAST[name] == "nobody"
        ):
            wrong.append(f"{role} {name}: {answer.status}")
    asker.close()
    assert wrong == []
    assert not findings.found, "\n".join(findings.found.values())


def test_no_request_makes_a_defect_tells_a_secret_or_escapes_its_role(fuzzed: Fuzzed) -> None:
    findings = fuzz_routes(fuzzed, n=N_REQUESTS, seed_=SEED)
    assert not findings.found, "\n".join(findings.found.values())
    assert findings.n_asked > N_REQUESTS * 0.8
    assert {"nobody", "viewer", "token", "operator", "program"} == {one.split()[0] for one in findings.statuses}


# ---- Messages


def test_no_message_ends_a_worker_stops_a_queue_or_loses_a_run(fuzzed: Fuzzed) -> None:
    sent = fuzz_messages(fuzzed, n=N_MESSAGES, seed_=SEED)
    assert not sent.found, "\n".join(sent.found)
    assert sent.n == N_MESSAGES
    assert len(sent.unreadable) > N_MESSAGES / 4


# ---- Secrets, after all of it


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
    assert find_leaks(fuzzed.system, {**fuzzed.secrets, "what was typed": TYPED}) == []


def test_one_that_is_planted_is_found(fuzzed: Fuzzed) -> None:
    fuzzed.system.services.ledger.audit("somebody", "planted", fuzzed.secrets["the narrow token"])
    assert find_leaks(fuzzed.system, fuzzed.secrets) == [
        "the narrow token is in public.mlops_audit.subject (plain)",
    ]
