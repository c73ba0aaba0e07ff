"""A few hundred requests of the fuzzer; `python -m tests.security.fuzz` asks ten thousand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.fuzz.description import LEAST, may, route_names
from tests.security.fuzz.routes import Asked, Asker, Findings, fuzz_routes
from tests.security.fuzz.system import Fuzzed, fuzzed_system

SEED = 14
N = 400
REFUSED = {"nobody": {303, 401}, "viewer": {403}, "token": {403}, "program": {403}}


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    with fuzzed_system() as running:
        yield running


def test_each_route_has_its_least_role_written_down() -> None:
    assert set(route_names()) == LEAST.keys()


@pytest.mark.parametrize("role", REFUSED)
def test_a_route_answers_those_alone_who_may_call_it(fuzzed: Fuzzed, role: str) -> None:
    findings = Findings()
    asker = Asker(fuzzed, findings)
    wrong = []
    for name in LEAST:
        method, _, path = name.partition(" ")
        if path in {"/admin/sign-out", "/admin/sign-in", "/admin/static"}:
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
