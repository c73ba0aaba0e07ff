"""Asks every route of the page and of the prediction service, as everybody, and says what should not have come back.

What an operation takes comes from its OpenAPI (schemathesis: values that fit, and values that do not); who asks, in
which headers, with which token of the form, and addresses beside the routes come from Hypothesis.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, InvalidURL
from typing import Any, Literal
from urllib.parse import quote, urlencode

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from sqlalchemy import text

from tests.security.fuzz.description import LEAST, SERVICE, STREAM, may, page_description, route_of
from tests.security.fuzz.system import Actor, Fuzzed, names_of_the_inside
from tests.support.waiting import wait_for

Place = Literal["admin", "serve"]
SIGN_IN = "/admin/sign-in"
_A_ROUND = 12
"""Examples of an operation before the next one has its turn."""
ODD = ("\x00", "growth\x00", "²", "9" * 40, "-1", "1e999", "nan", "0001-01-01", "9999-12-31", "'", "a\nb", "é" * 300, "..", "%", "\ud7ff\U0001f600")  # fmt: skip
_INTERNAL = ("Traceback (most recent call last)", 'File "/', "site-packages", "psycopg2.errors", "sqlalchemy.exc")
_CLOCKWORK = {"mlops_audit", "mlops_worker", "mlops_artifact_size", "mlops_position", "mlops_watermark", "mlops_outbox"}
"""Tables in which time alone changes something, and the audit, which has every refusal."""
_USES = {"mlops_token": "id || user_name || role || (revoked_at IS NULL)", "mlops_session": "digest || user_name"}
"""Of these tables a use changes when they were used last, and nothing else."""
_OF_ACCOUNTS = {"mlops_user", "mlops_session", "mlops_token"}
_COUNTED = """
SELECT (SELECT count(*) FROM mlops_run), (SELECT count(*) FROM mlops_policy),
       (SELECT md5(string_agg(name || role || (disabled_at IS NULL), ',' ORDER BY name)) FROM mlops_user),
       (SELECT md5(string_agg(strategy || kind || enabled || cron, ',' ORDER BY strategy, kind)) FROM mlops_schedule)
"""
"""What a request alone can change, while runs that earlier ones began go on."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request."""

    place: Place
    actor: Actor
    method: str
    path: str
    """With its query, as it goes over the wire."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    has_csrf: bool = True

    def __str__(self) -> str:
        """For a person who wants to repeat it."""
        body = "" if self.body is None else f" with {self.body[:200]!r}"
        return f"{self.actor.role}: {self.method} {self.path[:200]}{body} ({self.place})"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_refusal(self) -> bool:
        """Nothing was done, or shown."""
        return self.status >= 400 or SIGN_IN in self.headers.get("location", "")


@dataclass
class Findings:
    """What was asked, and what should not have come back: each kind once for a route."""

    n_asked: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    found: dict[tuple[str, str], str] = field(default_factory=dict)
    progress: Callable[[str], None] = lambda _: None

    def note(self, asked: Asked, answer: Answer, faults: Iterator[str]) -> None:
        """Count an answer, and keep what is wrong with it."""
        self.n_asked += 1
        self.statuses[f"{asked.actor.role} {answer.status // 100}xx"] += 1
        for fault in faults:
            route = route_of(asked.method, asked.path) if asked.place == "admin" else asked.path.partition("?")[0]
            kind = fault.partition(":")[0]
            self.found.setdefault(
                (str(route), kind), f"{fault}\n    {asked}\n    {answer.status} {answer.body[:300]!r}"
            )
        if self.n_asked % 100 == 0:
            self.progress(f"{self.n_asked:,} requests, {len(self.found)} findings")


class Asker:
    """Sends requests, and judges the answers."""

    def __init__(self, fuzzed: Fuzzed, findings: Findings) -> None:
        self._fuzzed, self._findings = fuzzed, findings
        self._connections: dict[str, HTTPConnection] = {}
        self._inside = names_of_the_inside(fuzzed)
        self.checks_ledger = False
        """Whether what is refused is compared with what the ledger has; of an operator's requests."""

    def ask(self, asked: Asked) -> Answer | None:
        """Send it and judge the answer; None for what no client can send."""
        before = self._counted() if self.checks_ledger and asked.method == "POST" else None
        try:
            answer = self._send(asked)
        except (UnicodeError, InvalidURL, ValueError):
            return None
        self._findings.note(asked, answer, self._faults(asked, answer))
        if before is not None and answer.is_refusal and self._counted() != before:
            self._findings.note(asked, answer, iter(["the ledger changed by a refused request"]))
        if asked.actor.csrf and (answer.status == 401 or SIGN_IN in answer.headers.get("location", "")):
            self._fuzzed.sign_in(asked.actor.role)
        return answer

    def close(self) -> None:
        """Its connections."""
        for connection in self._connections.values():
            connection.close()

    def _counted(self) -> Sequence[Any]:
        return tuple(self._fuzzed.system.rows(_COUNTED)[0])

    def _send(self, asked: Asked) -> Answer:
        headers = {**asked.headers, **asked.actor.headers}
        for attempt in (1, 2):
            connection = self._connections.get(asked.place)
            if connection is None:
                connection = self._connections[asked.place] = self._fuzzed.connect(asked.place)
            try:
                connection.request(asked.method, asked.path, body=asked.body, headers=headers)
                reply = connection.getresponse()
                if asked.path.partition("?")[0] == STREAM and reply.status == 200:
                    body = b""
                    connection.close()
                else:
                    body = reply.read()
                return Answer(
                    status=reply.status, headers={name.lower(): value for name, value in reply.getheaders()}, body=body
                )
            except InvalidURL:
                raise
            except (ConnectionError, TimeoutError, HTTPException):
                connection.close()
                del self._connections[asked.place]
                if attempt == 2:
                    raise
            except BaseException:
                connection.close()
                del self._connections[asked.place]
                raise
        raise AssertionError

    def _faults(self, asked: Asked, answer: Answer) -> Iterator[str]:
        if answer.status >= 500 and answer.status != 503:
            yield f"status {answer.status}"
        yield from self._told(asked, answer)
        if "json" in answer.headers.get("content-type", "") and asked.method != "HEAD":
            yield from _faults_of_json(answer.body)
        if asked.place == "admin":
            yield from _escape(asked, answer)
        elif asked.actor.role == "nobody" and asked.path.startswith("/api/") and answer.status < 400:
            yield "a role is escaped: nobody has an answer"

    def _told(self, asked: Asked, answer: Answer) -> Iterator[str]:
        told = answer.body.decode(errors="replace") + "\n".join(answer.headers.values())
        yield from (f"the inside is shown: {one}" for one in _INTERNAL if one in told)
        own = set(asked.actor.headers.values())
        for name, value in self._fuzzed.secrets.items():
            if value in told and not any(value in one for one in own):
                yield f"a secret is told: {name}"
        for other in self._fuzzed.actors.values():
            if other.csrf and other.csrf in told and other.name != asked.actor.name:
                yield f"a form's token of {other.role} is told"
        if asked.actor.role == "nobody":
            sent = f"{asked.path} {asked.body!r} {dict(asked.headers)}"
            for name, value in self._inside.items():
                if value in told and value not in sent:
                    yield f"a stranger is told of {name}"


def _escape(asked: Asked, answer: Answer) -> Iterator[str]:
    route = route_of(asked.method, asked.path)
    if route is None or answer.is_refusal:
        return
    if not may(asked.actor.role, LEAST[route], asked.method):
        yield f"a role is escaped: {asked.actor.role} has an answer of {route}"
    elif asked.method not in {"GET", "HEAD"} and asked.actor.csrf and not asked.has_csrf:
        yield "a form's token is not asked for"


def _faults_of_json(body: bytes) -> Iterator[str]:
    def no_number(name: str) -> None:
        raise ValueError(name)

    try:
        document = json.loads(body, parse_constant=no_number)
    except ValueError as exc:
        yield f"no JSON: {exc}"
        return
    if "csrf" in _keys(document):
        yield "JSON has a form's token"


def _keys(document: Any) -> Iterator[str]:
    for one in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from _keys(one)
    yield from document if isinstance(document, dict) else ()


# ---- What is asked

_HEADERS = st.fixed_dictionaries(
    {
        "accept": st.sampled_from(
            ["text/html", "application/json", "*/*", "text/html,application/json;q=0.9", "", "a/b;q=²"]
        )
    },
    optional={
        "hx-request": st.just("true"),
        "referer": st.sampled_from(["http://elsewhere.example/", "/admin/", "http://127.0.0.1/admin/runs"]),
        "user-agent": st.sampled_from(["", "é", "x" * 400]),
        "range": st.just("bytes=0-1"),
        "if-none-match": st.just("*"),
        "x-forwarded-for": st.just("10.0.0.1, 10.0.0.2"),
    },
).map(lambda found: {name: value.encode().decode("latin-1") for name, value in found.items()})


@dataclass(frozen=True)
class _Manner:
    """How an operation's values are asked with."""

    place: int
    headers: dict[str, str]
    has_csrf: bool
    is_head: bool
    known: int


_MANNERS = st.builds(
    _Manner,
    st.integers(0, 10**6),
    _HEADERS,
    st.sampled_from([True, True, True, False]),
    st.sampled_from([False] * 5 + [True]),
    st.integers(0, 10**6),
)


def ask_operations(
    asker: Asker, fuzzed: Fuzzed, actors: Sequence[str], *, place: Place, n: int, seed_: int, max_rounds: int = 10_000
) -> int:
    """Ask all operations in turn until n requests were sent; how many were."""
    description = page_description() if place == "admin" else SERVICE
    operations = [found.ok() for found in schemathesis.openapi.from_dict(description).get_all_operations()]
    rng = random.Random(seed_)
    n_sent = 0

    def ask(case: Any, manner: _Manner) -> None:
        nonlocal n_sent
        if n_sent >= n:
            return
        role = actors[manner.place % len(actors)]
        asked = _as_request(case, manner, fuzzed.actors[role], fuzzed.known, place)
        if asked is not None and asker.ask(asked) is not None:
            n_sent += 1

    for number in range(max_rounds):
        rng.shuffle(operations)
        for operation in operations:
            mode = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)[number % 2]
            examples = min(_A_ROUND, max(2, n // len(operations) // 2))
            _examples(ask, operation.as_strategy(generation_mode=mode), _MANNERS, n=examples, seed_=rng.getrandbits(32))
            if n_sent >= n:
                return n_sent
    return n_sent


def _examples(ask: Callable[..., None], *strategies: Any, n: int, seed_: int) -> None:
    """Call `ask` with so many values of the strategies; the same for the same seed."""
    quietly = settings(
        max_examples=n, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    with suppress(Unsatisfiable):  # what takes nothing can be asked with nothing wrong
        seed(seed_)(quietly(given(*strategies)(ask)))()


def _as_request(
    case: Any,
    manner: _Manner,
    actor: Actor,
    known: Mapping[str, Sequence[str]],
    place: Place,
) -> Asked | None:
    for at, name in enumerate(case.path_parameters or ()):
        if name in known and (manner.known >> at) % 4:
            case.path_parameters[name] = known[name][(manner.known >> at) % len(known[name])]
    try:
        made = requests.Request(**_of_requests(case)).prepare()
    except (requests.RequestException, UnicodeError, ValueError, TypeError, KeyError):
        return None
    body = made.body.encode() if isinstance(made.body, str) else made.body
    headers = {**manner.headers, **_typed(made.headers)}
    if actor.csrf and manner.has_csrf:
        headers["x-csrf-token"] = actor.csrf
    method = "HEAD" if manner.is_head and case.method == "GET" else case.method
    return Asked(
        place=place,
        actor=actor,
        method=method,
        path=made.path_url,
        headers=headers,
        body=None if method == "HEAD" else body,
        has_csrf=manner.has_csrf,
    )


def _of_requests(case: Any) -> dict[str, Any]:
    found = case.as_transport_kwargs(base_url="http://127.0.0.1")
    return {name: found[name] for name in ("method", "url", "params", "data", "json", "files") if name in found}


def _typed(headers: Mapping[str, str | bytes]) -> dict[str, str]:
    value = headers.get("content-type", "")
    return {"content-type": value.decode("latin-1") if isinstance(value, bytes) else value} if value else {}


# ---- Addresses and methods beside the routes

_PARTS = st.one_of(st.sampled_from(ODD), st.text(max_size=40), st.sampled_from(["admin", "static", "s1", "..", ""]))
_BESIDE = st.builds(
    lambda method, parts, query, headers, body, place: (method, parts, query, headers, body, place),
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]),
    st.one_of(
        st.lists(_PARTS, max_size=4).map(lambda parts: "/" + "/".join(quote(one, safe="") for one in parts)),
        st.tuples(st.sampled_from(sorted(LEAST)), st.lists(_PARTS, min_size=3, max_size=3)).map(
            lambda found: _filled(found[0].partition(" ")[2], found[1])
        ),
        _PARTS.map(lambda part: f"/admin/static/{quote(part, safe='')}"),
    ),
    st.dictionaries(
        st.sampled_from(["q", "page", "sort", "before", "days", "version", "next", "é"]), _PARTS, max_size=3
    ),
    _HEADERS,
    st.one_of(st.none(), st.binary(max_size=200), st.just(b"x" * 300_000)),
    st.sampled_from(["admin", "admin", "admin", "serve"]),
)


def _filled(path: str, parts: Sequence[str]) -> str:
    left = iter(parts)
    return "/".join(quote(next(left), safe="") if part.startswith("{") else part for part in path.split("/"))


def ask_beside(asker: Asker, fuzzed: Fuzzed, actors: Sequence[str], *, n: int, seed_: int) -> None:
    """Ask n requests of any method at addresses that may be none, with bodies that may be none."""

    def ask(found: Any, number: int, kind: str) -> None:
        method, path, query, headers, body, place = found
        actor = fuzzed.actors[actors[number % len(actors)]]
        asker.ask(
            Asked(
                place=place,
                actor=actor,
                method=method,
                path=f"{path}?{urlencode(query)}" if query else path,
                headers={**headers, **({"content-type": kind} if kind else {})},
                body=None if method in {"GET", "HEAD"} else body,
                has_csrf=False,
            )
        )

    kinds = st.sampled_from(
        ["", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data", "a"]
    )
    _examples(ask, _BESIDE, st.integers(0, 10**6), kinds, n=n, seed_=seed_)


# ---- The whole


def fuzz_routes(fuzzed: Fuzzed, *, n: int, seed_: int, progress: Callable[[str], None] = lambda _: None) -> Findings:
    """Ask about n requests: as those who may not act, then as those who may, then with a server away."""
    findings = Findings(progress=progress)
    asker = Asker(fuzzed, findings)
    try:
        # First those who change nothing: whatever they ask, the ledger stays as it is.
        with _unchanged(fuzzed, findings, but=_CLOCKWORK):
            _ask_share(asker, fuzzed, ("nobody", "token"), n=n * 35 // 100, seed_=seed_)
        with _unchanged(fuzzed, findings, but=_CLOCKWORK | _OF_ACCOUNTS):
            _ask_share(asker, fuzzed, ("viewer",), n=n * 15 // 100, seed_=seed_ + 1)
        asker.checks_ledger = True
        _ask_share(asker, fuzzed, ("operator", "program"), n=n * 40 // 100, seed_=seed_ + 2)
        asker.checks_ledger = False
        servers = fuzzed.system.servers
        for number, proxy in enumerate((servers.postgres_proxy, servers.redis_proxy, servers.mlflow_proxy)):
            proxy.refuse()
            try:
                _ask_share(asker, fuzzed, ("nobody", "viewer"), n=n * 3 // 100, seed_=seed_ + 10 + number)
            finally:
                proxy.pass_on()
    finally:
        asker.close()
    for name in ("admin", "serve"):
        said = fuzzed.system.roles.log(fuzzed.system.roles[name])
        if _INTERNAL[0] in said:
            at = said.index(_INTERNAL[0])
            findings.found[name, "log"] = f"the log of {name} has a traceback:\n{said[max(0, at - 400) : at + 3000]}"
    for end in fuzzed.restarts():
        findings.found[end, "end"] = end
    return findings


def _ask_share(asker: Asker, fuzzed: Fuzzed, actors: Sequence[str], *, n: int, seed_: int) -> None:
    ask_operations(asker, fuzzed, actors, place="admin", n=n * 75 // 100, seed_=seed_)
    ask_operations(asker, fuzzed, actors, place="serve", n=n * 15 // 100, seed_=seed_)
    ask_beside(asker, fuzzed, actors, n=max(1, n * 10 // 100), seed_=seed_)


@contextmanager
def _unchanged(fuzzed: Fuzzed, findings: Findings, *, but: set[str]) -> Iterator[None]:
    """Every table of the ledger but these has the same rows after the block."""
    before: dict[str, str] = {}

    def rests() -> bool:
        nonlocal before
        last, before = before, _digests(fuzzed, but)
        return before == last

    wait_for(rests, "the system has done what it was asked before", within_s=60.0, every_s=2.0)
    yield
    after = _digests(fuzzed, but)
    for table in before.keys() | after.keys():
        if before.get(table) != after.get(table):
            findings.found[table, "changed"] = f"{table} was changed by somebody who may change nothing"


def _digests(fuzzed: Fuzzed, but: set[str]) -> dict[str, str]:
    names = [
        row[0]
        for row in fuzzed.system.rows(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind = 'r' AND NOT c.relispartition"
        )
    ]
    with fuzzed.system.engine.connect() as connection:
        return {
            name: str(
                connection.scalar(
                    text(
                        f"SELECT count(*) || coalesce(md5(string_agg(x, '|' ORDER BY x)), '') FROM (SELECT {_USES.get(name, 't::text')} AS x FROM {name} t) a"
                    )
                )
            )
            for name in sorted(set(names) - but)
        }
