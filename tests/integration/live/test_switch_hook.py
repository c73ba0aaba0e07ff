"""The hook that is asked before a switch: a real server that answers, refuses, redirects, is slow or says something else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mlops.domain.experiments.policy import ExperimentPolicy
from mlops.runs.switching import MAX_BODY_BYTES, SwitchAnswer, may_switch

Answering = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answering) -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """A server's address, and what it was asked."""
    asked: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            answer(self)

        do_GET = do_POST  # noqa: N815 -- what a followed redirect would ask

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def saying(body: bytes, *, status: int = 200, **headers: str) -> Answering:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def ask(hook: str, **changes: Any) -> SwitchAnswer:
    policy = ExperimentPolicy(switch_hook=hook, **{"switch_timeout_s": 5.0, **changes})
    return may_switch("growth", "3", "2", policy=policy)


@pytest.mark.parametrize("allowed", [True, False])
def test_the_answer_and_its_reason_are_the_hooks(allowed: bool) -> None:
    said = {"may_switch": allowed, "reason": "2 positions\nare open"}
    with serving(saying(json.dumps(said).encode())) as (url, asked):
        found = ask(f"{url}/may-switch?key=secret")
    assert (found.allowed, found.was_answered) == (allowed, True)
    assert "2 positions are open" in found.words
    assert "secret" not in found.words + found.hook
    ((path, headers, body),) = asked
    assert path == "/may-switch?key=secret"
    assert json.loads(body) == {"strategy": "growth", "from_version": "3", "to_version": "2"}
    assert headers["Content-Type"] == "application/json"
    assert not {"Authorization", "Cookie"} & set(headers)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (saying(b"go away", status=403), "HTTP 403"),
        (saying(b"<html>yes</html>"), "are not JSON"),
        (saying(b'{"may_switch": "yes"}'), "its answer is not"),
        (saying(b'["may_switch"]'), "its answer is not"),
        (saying(b" " * (MAX_BODY_BYTES + 1)), f"more than {MAX_BODY_BYTES} bytes"),
    ],
)
def test_what_is_no_answer_leaves_it_to_the_default_and_is_not_repeated(answer: Answering, words: str) -> None:
    with serving(answer) as (url, _):
        waits, goes_on = ask(url), ask(url, switch_default="switch")
    assert (waits.allowed, goes_on.allowed) == (False, True)
    assert not waits.was_answered
    assert words in waits.words
    assert "it is asked again at the next scoring" in waits.words
    assert "html" not in waits.words


def test_a_redirect_is_not_followed() -> None:
    with (
        serving(saying(b'{"may_switch": true}')) as (elsewhere, asked_elsewhere),
        serving(saying(b"", status=307, Location=f"{elsewhere}/yes")) as (url, _),
    ):
        found = ask(url)
    assert not found.allowed
    assert "HTTP 307" in found.words
    assert asked_elsewhere == []


def test_one_that_is_slow_is_not_waited_for_longer_than_the_policy_says() -> None:
    """It begins its answer, and sends a byte now and then: each of its parts comes in time."""
    gone = threading.Event()

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not gone.wait(0.05):
                handler.wfile.write(b" ")
        except OSError:
            gone.set()

    with serving(slowly) as (url, _):
        found = ask(url, switch_timeout_s=0.3)
        assert gone.wait(10)  # we hung up
    assert not found.allowed
    assert "none within 0.3 s" in found.words


def test_nobody_listens_and_an_address_with_a_password_are_no_answers() -> None:
    with serving(saying(b"{}")) as (url, _):
        pass
    assert "ConnectionRefusedError" in ask(url).words
    with serving(saying(b'{"may_switch": true}')) as (url, asked):
        found = ask(url.replace("//", "//me:my-password@"))
    assert not found.allowed
    assert asked == []
    assert "my-password" not in found.words + found.hook


def test_an_address_that_cannot_be_read_is_no_answer() -> None:
    found = ask("https://[desk/ask")
    assert (found.allowed, found.was_answered) == (False, False)
    assert "the switch hook was asked about 3 -> 2 and gave no answer (its address is none" in found.words


def test_without_a_hook_nobody_is_asked_and_a_task_needs_somebody_who_sends_it() -> None:
    assert ask("").allowed
    found = ask("task:positions.may_switch")
    assert not found.allowed
    assert "run the scoring on a worker" in found.words


def test_a_task_is_asked_by_name_with_the_same_arguments() -> None:
    asked: list[Any] = []

    def ask_task(*given: Any) -> object:
        asked.append(given)
        return {"may_switch": False, "reason": "the market is open"}

    policy = ExperimentPolicy(switch_hook="task:positions.may_switch", switch_timeout_s=2.0)
    found = may_switch("growth", "3", "2", policy=policy, ask_task=ask_task)
    assert (found.allowed, found.was_answered) == (False, True)
    assert "the market is open" in found.words
    question = {"strategy": "growth", "from_version": "3", "to_version": "2"}
    assert asked == [("positions.may_switch", question, 2.0)]
