"""Asks a program of the user's whether the champion may be switched now, for example because positions are open.

Called by the scoring before an experiment promotes its challenger and before a rollback that nobody asked for; a
training that passes its test, and a person, ask nobody. A "no" is an answer and no error: the decision waits, and is
asked for again at the next scoring. Decision: docs/decisions/0063.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import structlog

from mlops.domain.errors import AcisError, PermanentError

if TYPE_CHECKING:
    from mlops.domain.experiments.policy import ExperimentPolicy

log = structlog.get_logger(__name__)

AskTask = Callable[[str, Mapping[str, Any], float], object]
"""Sends a Celery task by name with these arguments and gives its result within so many seconds. Raises AcisError."""

MAX_BODY_BYTES = 64 * 1024
"""Of an answer; a larger one is none."""
_MAX_REASON = 300
_TASK = "task:"


class NoAnswer(PermanentError):
    """The hook gave no answer that says whether the champion may be switched."""


@dataclass(frozen=True, kw_only=True)
class SwitchAnswer:
    """Whether the champion may be switched now; part of the decision's evidence."""

    allowed: bool
    words: str
    hook: str = ""
    """Who was asked, without a query; empty: nobody"""
    was_answered: bool = False
    """False: nobody was asked, or the policy's `switch_default` holds"""

    def to_json(self) -> dict[str, Any]:
        """As evidence."""
        return asdict(self)


def may_switch(
    strategy: str,
    from_version: str | None,
    to_version: str,
    *,
    policy: ExperimentPolicy,
    ask_task: AskTask | None = None,
) -> SwitchAnswer:
    """Ask the strategy's hook; without one the switch is allowed, without an answer `switch_default` holds.

    A URL is posted `{"strategy", "from_version", "to_version"}` as JSON and answers 200 with
    `{"may_switch": true, "reason": "..."}`; a Celery task is called with the same as keyword arguments and returns the
    same. It is waited for `switch_timeout_s` in all; no redirect and no proxy is followed, nothing of ours but these
    three names is sent.
    """
    if not policy.switch_hook:
        return SwitchAnswer(allowed=True, words="nobody is asked before a switch")
    question = {"strategy": strategy, "from_version": from_version, "to_version": to_version}
    hook = _shown(policy.switch_hook)
    try:
        answer = _ask(policy.switch_hook, question, policy.switch_timeout_s, ask_task)
        allowed, reason = _read(answer)
    except AcisError as exc:
        allowed = policy.switch_default == "switch"
        follows = "the switch goes on" if allowed else "it is asked again at the next scoring"
        words = f"{hook} was asked about {from_version} -> {to_version} and gave no answer ({exc}); {follows}"
        log.warning("switch.no_answer", strategy=strategy, hook=hook, error=str(exc), next=follows)
        return SwitchAnswer(allowed=allowed, words=words, hook=hook)
    said = "yes" if allowed else "no, and is asked again at the next scoring"
    words = f"{hook} was asked about {from_version} -> {to_version} and says {said}{f': {reason}' if reason else ''}"
    log.info("switch.answered", strategy=strategy, hook=hook, allowed=allowed)
    return SwitchAnswer(allowed=allowed, words=words, hook=hook, was_answered=True)


def _shown(hook: str) -> str:
    """The hook as it may be shown: a URL without what may be a secret in it."""
    if hook.startswith(_TASK):
        return hook
    try:
        parts = urlsplit(hook)
    except ValueError:
        return "the switch hook"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _ask(hook: str, question: Mapping[str, Any], timeout_s: float, ask_task: AskTask | None) -> object:
    """What was answered. Raises AcisError."""
    if hook.startswith(_TASK):
        if ask_task is None:
            raise NoAnswer("this process sends no tasks; run the scoring on a worker")
        return ask_task(hook.removeprefix(_TASK), question, timeout_s)
    try:
        url = urlsplit(hook)
    except ValueError as exc:
        raise NoAnswer(f"its address is none: {exc}") from exc
    body = _Post(url, json.dumps(question).encode(), timeout_s).answer()
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise NoAnswer(f"its {len(body)} bytes are not JSON") from exc


def _read(answer: object) -> tuple[bool, str]:
    """Raises NoAnswer: nothing of an answer that is not understood is repeated."""
    said = answer.get("may_switch") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(said, bool):
        raise NoAnswer('its answer is not {"may_switch": true or false, "reason": text}')
    reason = answer.get("reason")
    if not isinstance(reason, str):
        return said, ""
    return said, " ".join("".join(one if one.isprintable() else " " for one in reason).split())[:_MAX_REASON]


class _Post:
    """One request in a thread of its own, so that its time is bounded whatever the name server and the server do."""

    def __init__(self, url: SplitResult, body: bytes, timeout_s: float) -> None:
        self._url, self._body, self._timeout_s = url, body, timeout_s
        self._socket: socket.socket | None = None
        self._found: bytes = b""
        self._failed: Exception | None = None

    def answer(self) -> bytes:
        """Body of the answer. Raises NoAnswer."""
        thread = threading.Thread(target=self._post, name="switch-hook", daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if thread.is_alive():
            self._hang_up()
            raise NoAnswer(f"none within {self._timeout_s:g} s")
        if isinstance(self._failed, NoAnswer):
            raise self._failed
        if self._failed is not None:
            raise NoAnswer(f"{type(self._failed).__name__}: {self._failed}") from self._failed
        return self._found

    def _hang_up(self) -> None:
        """End a thread that waits for a byte: a shut socket gives it none."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _post(self) -> None:
        try:
            self._found = self._exchanged()
        except (OSError, http.client.HTTPException, ValueError, NoAnswer) as exc:
            self._failed = exc

    def _exchanged(self) -> bytes:
        if self._url.username is not None or self._url.password is not None:
            raise NoAnswer("an address with a name or password in it is not asked: it would be shown with the policy")
        if not self._url.hostname:
            raise NoAnswer("its address names no host")
        kept: dict[str, Any] = {"timeout": self._timeout_s}
        if self._url.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._url.hostname, self._url.port, context=ssl.create_default_context(), **kept
            )
        else:
            connection = http.client.HTTPConnection(self._url.hostname, self._url.port, **kept)
        target = f"{self._url.path or '/'}{f'?{self._url.query}' if self._url.query else ''}"
        try:
            connection.connect()
            self._socket = connection.sock
            connection.request(
                "POST", target, self._body, {"Content-Type": "application/json", "Accept": "application/json"}
            )
            response = connection.getresponse()
            body = response.read(MAX_BODY_BYTES + 1)
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise NoAnswer(f"HTTP {response.status}; no redirect is followed")
        if len(body) > MAX_BODY_BYTES:
            raise NoAnswer(f"its answer has more than {MAX_BODY_BYTES} bytes")
        return body
