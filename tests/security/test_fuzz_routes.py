"""A few hundred requests of the fuzzer; `python -m tests.security.fuzz` asks ten thousand."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.security.fuzz.description import LEAST, may, route_names
from tests.security.fuzz.routes import Answer, Asked, Asker, Findings, fuzz_routes
from tests.security.fuzz.system import Actor, Fuzzed, fuzzed_system

SEED = 14
N = 400
REFUSED = {"nobody": {303, 401}, "viewer": {403}, "token": {403}, "program": {403}}


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    with fuzzed_system() as running:
        yield running


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
    findings = fuzz_routes(fuzzed, n=N, seed_=SEED)
    assert not findings.found, "\n".join(findings.found.values())
    assert findings.n_asked > N * 0.8
    assert {"nobody", "viewer", "token", "operator", "program"} == {one.split()[0] for one in findings.statuses}
