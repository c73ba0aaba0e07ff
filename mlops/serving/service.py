"""The prediction service: champions over HTTP, as an ASGI application without a framework between.

    POST /api/v1/predict/{strategy}            rows in, probabilities out; answered once it is in the spool
    GET  /api/v1/models                        what answers for each strategy
    GET  /api/v1/models/{strategy}/route?key=  which version answers a key, and why
    GET  /healthz, /readyz                     the process lives; it can answer

The first three need a token. Errors are problems of RFC 9457. Served by uvicorn: `python -m worker serve`.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qs

import structlog

from mlops.domain.errors import (
    AcisError,
    DataError,
    InvalidRows,
    LedgerUnavailable,
    NoChampion,
    PredictionLogFull,
    TemporaryError,
    UnknownStrategy,
)
from mlops.serving.access_log import Visit, visit_of
from mlops.serving.tokens import token_id

if TYPE_CHECKING:
    from mlops.serving.prediction_log import PredictionLog
    from mlops.serving.router import ModelRouter
    from mlops.serving.tokens import TokenCache

log = structlog.get_logger(__name__)

MOST_ROWS = 10_000
"""Of one request: several markets' stocks of a day. A backend with more asks `ModelRouter` in its own process."""
MOST_BYTES = 32 * 1024 * 1024
"""Of a body: as many rows of a hundred named columns."""
FIRST_DATE = date(1990, 1, 1)
"""No features are older; each month that is predicted has a partition in the ledger."""
CLOSE_S = 8.0
"""Of SIGTERM's grace, for what is in the spool; what it does not suffice for waits there for the next process."""
_ROUTERS_CLOSE_S = 3.0
"""Of that, for shadows that still wait and for the counts of answers; beyond it they are lost."""
_LONGEST_TICKER = 64
_LONGEST_KEY = 255
_MISSING = float("nan")
_INLINE_BYTES = 32 * 1024
"""A larger body is read and answered in a thread, so that small questions do not wait for it."""

Headers = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Answer(NamedTuple):
    """A response."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Problem(Exception):
    """A request that is refused, in the terms of RFC 9457."""

    def __init__(self, status: int, kind: str, detail: str, *headers: tuple[str, str]) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers = status, kind, detail, headers

    def answer(self, request_id: str) -> Answer:
        """The response that says it."""
        body = {
            "type": f"urn:acis:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        headers = tuple((name.encode(), value.encode()) for name, value in self.headers)
        return Answer(self.status, json.dumps(body).encode(), b"application/problem+json", headers)


class PredictionService:
    """The application."""

    def __init__(
        self,
        routers: Mapping[str, ModelRouter],
        predictions: PredictionLog,
        tokens: TokenCache,
        *,
        today: Callable[[], date],
    ) -> None:
        """routers: by strategy, each with `predictions` as its recorder. today: in the features' time zone."""
        self._routers, self._predictions, self._tokens, self._today = routers, predictions, tokens, today
        self._verifying = ThreadPoolExecutor(max_workers=4, thread_name_prefix="token-verify")

    def close(self) -> None:
        """Bring what is in the spool to the ledger, as far as that is quick; the rest ends with the process."""
        until = time.monotonic() + CLOSE_S
        self._verifying.shutdown(wait=False, cancel_futures=True)
        self._tokens.close()
        closing = [threading.Thread(target=router.close, daemon=True) for router in self._routers.values()]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(max(0.0, until - (CLOSE_S - _ROUTERS_CLOSE_S) - time.monotonic()))
        self._predictions.close(within_s=max(0.0, until - time.monotonic()))

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        try:
            answer = await self._answer(scope, receive)
        except Problem as problem:
            answer = problem.answer(visit_of(scope).request_id)
        except AcisError as error:
            answer = _problem_of(error, is_told=visit_of(scope).token is not None).answer(visit_of(scope).request_id)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("serving.crashed", path=visit_of(scope).path)
            defect = Problem(500, "defect", "this is a defect of ours; the service's log has it")
            answer = defect.answer(visit_of(scope).request_id)
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._predictions.start()
        self._tokens.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> Answer:
        path, method, visit = scope["path"], scope["method"], visit_of(scope)
        if path.startswith("/api/v1/predict/"):
            visit.path = "/api/v1/predict/{strategy}"
            _refuse_other(method, "POST")
            await self._recognise(scope["headers"], visit)
            router = self._router(path[len("/api/v1/predict/") :])
            body = await _body(scope["headers"], receive)
            if len(body) <= _INLINE_BYTES:
                return self._predict(router, body)
            return await asyncio.to_thread(self._predict, router, body)
        if path.startswith("/api/v1/models/") and path.endswith("/route"):
            visit.path = "/api/v1/models/{strategy}/route"
            _refuse_other(method, "GET", "HEAD")
            await self._recognise(scope["headers"], visit)
            router = self._router(path[len("/api/v1/models/") : -len("/route")])
            return _json(vars(router.explain_route(_asked_key(scope["query_string"]))))
        if path not in {"/healthz", "/readyz", "/api/v1/models"}:
            raise Problem(404, "not-found", f"there is nothing at {path}; predictions are at /api/v1/predict/STRATEGY")
        visit.path = path
        _refuse_other(method, "GET", "HEAD")
        if path == "/api/v1/models":
            await self._recognise(scope["headers"], visit)
            return _json({"models": [self._told(name) for name in self._routers]})
        return _json({"status": "alive"}) if path == "/healthz" else self._readiness(scope["headers"])

    # ---- who asks

    async def _recognise(self, headers: Headers, visit: Visit) -> None:
        """Note whose token it is. Raises Problem, LedgerUnavailable."""
        token = _token(headers)
        if not token:
            raise _unauthorized("send `Authorization: Bearer TOKEN`; tokens are made on the admin page")
        if not self._tokens.knows(token) and not await self._verified(token):
            raise _unauthorized("the token is not known, was revoked, or has run out")
        visit.token = token_id(token)

    async def _verified(self, token: str) -> bool:
        """Ask the ledger, in threads of its own: while it does not answer, known callers' bodies are still read."""
        return await asyncio.get_running_loop().run_in_executor(self._verifying, self._tokens.verify, token)

    # ---- what is asked

    def _router(self, strategy: str) -> ModelRouter:
        router = self._routers.get(strategy)
        if router is None:
            raise UnknownStrategy.named(strategy, self._routers)
        return router

    def _predict(self, router: ModelRouter, body: bytes) -> Answer:
        """Ask, have it kept, and tell: in this order, so that what was told is in the log."""
        asked = self._asked(body)
        if asked.one is not None:
            day = asked.as_of if isinstance(asked.as_of, date) else asked.as_of[0]
            key = asked.keys[0] if asked.keys else None
            said = router.predict_one(asked.one, ticker=asked.tickers[0], as_of=day, key=key)
            probability, version, sha256 = [float(said.probability)], said.version, said.sha256
            versions, variants = [said.version], [said.variant]
        else:
            answers = router.predict(asked.frame, tickers=asked.tickers, as_of=asked.as_of, keys=asked.keys)
            probability, version, sha256 = answers.probability.tolist(), answers.version, answers.sha256
            versions, variants = answers.versions, answers.variants
        self._predictions.flush()
        return _json({
            "version": version,
            "variant": variants[0] if len(set(variants)) == 1 else "champion",
            "sha256": sha256,
            "confirmed_age_s": _rounded(router.status().confirmed_age_s),
            "predicted_at": datetime.now(UTC).isoformat(),
            "probability": probability,
            "versions": versions,
            "variants": variants,
        })  # fmt: skip

    def _asked(self, body: bytes) -> _Asked:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Problem(400, "not-json", f"the body is no JSON: {error}") from None
        if not isinstance(document, dict) or "rows" not in document:
            raise _invalid_request(
                'the body is an object with "rows": objects by column name, or one object of columns'
            )
        unknown = sorted(document.keys() - {"rows", "tickers", "as_of", "keys"})
        if unknown:
            raise _invalid_request(
                f"{', '.join(unknown)} is not known; beside rows there may be tickers, as_of and keys"
            )
        one, frame, n = _frame(document["rows"])
        tickers, dates = _tickers(document.get("tickers"), n), self._dates(document.get("as_of"), n)
        return _Asked(one, frame, tickers, dates, _keys(document.get("keys"), n))

    def _dates(self, given: object, n: int) -> date | list[date]:
        if not isinstance(given, list):
            return self._date(given)
        if len(given) != n:
            raise _invalid_request(f"as_of has {len(given)} dates for {n} rows; one date for all is enough")
        return [self._date(one) for one in given]

    def _date(self, given: object) -> date:
        today = self._today()
        if given is None:
            return today
        try:
            day = date.fromisoformat(cast("str", given))
        except (TypeError, ValueError):
            raise _invalid_request(f"as_of is a date as 2026-11-28, or one for each row; found {given!r:.40}") from None
        if day > today:
            raise _invalid_request(
                f"as_of is {day}, and it is {today} here: no features are of a day that has not come; set the "
                "caller's clock right"
            )
        if day < FIRST_DATE:
            raise _invalid_request(f"as_of is {day}; the first date that can be asked about is {FIRST_DATE}")
        return day

    # ---- what it says of itself

    def _told(self, strategy: str) -> dict[str, object]:
        router = self._routers[strategy]
        status = router.status()
        told = {**vars(status), "confirmed_age_s": _rounded(status.confirmed_age_s), "variant": "champion"}
        try:
            routes = [vars(route) for route in router.routes()]
            return {**told, "features": router.model.features, "routes": routes}
        except AcisError:  # nothing answers; `problem` says why
            return told

    def _readiness(self, headers: Headers) -> Answer:
        """Ready where a question would be answered, or truthfully refused: a strategy may have no champion yet.

        A stranger is told which kind of problem; its own words may name a host or a folder.
        """
        is_told = self._tokens.knows(_token(headers))
        state = self._predictions.state()
        problems, behind = {}, state.behind
        if state.full is not None:
            problems["prediction_log"] = state.full if is_told else PredictionLogFull.default_message()
        if behind is not None and not is_told:
            behind = LedgerUnavailable.default_message()
        for strategy, router in self._routers.items():
            try:
                _ = router.model
            except NoChampion:
                continue
            except AcisError as error:
                problems[strategy] = str(error) if is_told else error.default_message()
        told = {
            "ready": not problems,
            "problems": problems,
            "prediction_log": {
                "spooled_bytes": state.spooled_bytes,
                "limit_bytes": state.limit_bytes,
                "behind": behind,
                "refused_segments": state.n_refused,
                "refused_bytes": state.refused_bytes,
                "unwritten_predictions": state.n_unwritten,
            },
        }
        return _json(told, status=503 if problems else 200)


class _Asked(NamedTuple):
    one: Mapping[str, float] | None
    frame: Any
    tickers: list[str]
    as_of: date | list[date]
    keys: list[str | None] | None


def _token(headers: Headers) -> str:
    """The text of a bearer's token; empty without one."""
    given = next((value for name, value in headers if name == b"authorization"), b"")
    kind, _, token = given.decode("latin-1").partition(" ")
    return token if kind.lower() == "bearer" else ""


# ---- Bodies


async def _body(headers: Headers, receive: Receive) -> bytes:
    """All of it, as far as it is bounded."""
    for name, value in headers:
        if name == b"content-length" and (not value.isdigit() or int(value) > MOST_BYTES):
            raise _too_large()
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, n_bytes = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "cut-off", "the body was cut off")
        parts.append(message.get("body", b""))
        n_bytes += len(parts[-1])
        if n_bytes > MOST_BYTES:
            raise _too_large()
    return b"".join(parts)


def _frame(rows: object) -> tuple[Mapping[str, float] | None, Any, int]:
    """One row by name, or a table; and how many rows. Raises Problem, InvalidRows."""
    if isinstance(rows, list):
        if len(rows) == 1 and isinstance(rows[0], dict):
            row = rows[0]
            if None in row.values():  # as the model's reader takes them at once
                row = {name: _MISSING if value is None else value for name, value in row.items()}
            return row, None, 1
        columns = _of_records(rows)
    elif isinstance(rows, dict):
        columns = rows
    else:
        raise _invalid_request(f"rows is a list of objects, or one object of lists; found {type(rows).__name__}")
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns.values()}
    if -1 in lengths or len(lengths) > 1:
        raise _invalid_request("as columns, rows is an object of lists that are equally long")
    n = max(lengths, default=0)
    if n == 0:
        raise _invalid_request("there are no rows; ask about one at least")
    if n > MOST_ROWS:
        raise _too_many(n)
    return None, _table(columns), n


def _of_records(rows: Sequence[object]) -> dict[str, list[object]]:
    if len(rows) > MOST_ROWS:
        raise _too_many(len(rows))
    records = [row for row in rows if isinstance(row, dict)]
    if len(records) < len(rows):
        place = next(place for place, row in enumerate(rows) if not isinstance(row, dict))
        raise _invalid_request(f"row {place} is no object of values by column name; found {type(rows[place]).__name__}")
    names = records[0].keys() if records else ()
    for place, record in enumerate(records):
        if record.keys() != names:
            odd = ", ".join(sorted(record.keys() ^ names)[:5])
            raise InvalidRows(f"row {place} has other columns than row 0: {odd}; null stands for a missing value")
    return {name: [record[name] for record in records] for name in names}


def _table(columns: Mapping[str, list[object]]) -> Any:  # noqa: ANN401 -- an Arrow table
    import pyarrow as pa  # noqa: PLC0415 -- loaded when the first request comes

    arrays = {}
    name = ""
    try:
        for name, column in columns.items():
            arrays[name] = pa.array(column)
        return pa.table(arrays)
    except (pa.ArrowException, OverflowError, TypeError, UnicodeError) as error:  # half of a surrogate pair, too
        raise InvalidRows(f"column {name} is no column of numbers: {error}") from None


def _tickers(given: object, n: int) -> list[str]:
    if given is None:
        return [""] * n
    if not isinstance(given, list) or len(given) != n:
        found = f"{len(given)} of them" if isinstance(given, list) else type(given).__name__
        raise _invalid_request(f"tickers is a list with one name for each of the {n} rows; found {found}")
    for ticker in given:
        if not isinstance(ticker, str) or not 0 < len(ticker) <= _LONGEST_TICKER or not ticker.isprintable():
            raise _invalid_request(
                f"a ticker is a name of at most {_LONGEST_TICKER} printable characters; found {ticker!r:.80}"
            )
    return given


def _keys(given: object, n: int) -> list[str | None] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != n:
        found = f"{len(given)} of them" if isinstance(given, list) else type(given).__name__
        raise _invalid_request(f"keys is a list with a key, or null, for each of the {n} rows; found {found}")
    for key in given:
        if key is not None and (not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY):
            raise _invalid_request(f"a key is a text of 1 to {_LONGEST_KEY} characters; found {key!r:.80}")
    return given


def _asked_key(query: bytes) -> str | None:
    """The key of a query; None without one."""
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    unknown = sorted(asked.keys() - {"key"})
    if unknown or len(asked.get("key", ())) > 1:
        raise _invalid_request("ask with one key, ?key=AAPL, or with none")
    keys = _keys(asked.get("key"), 1)
    return keys[0] if keys else None


# ---- Answers


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _json(document: Mapping[str, object], *, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode())


def _refuse_other(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise Problem(405, "method", f"{method} is not for this address", ("Allow", ", ".join(allowed)))


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "no-token", detail, ("WWW-Authenticate", "Bearer"))


def _invalid_request(detail: str) -> Problem:
    return Problem(422, "invalid-request", detail)


def _too_many(n: int) -> Problem:
    return Problem(413, "too-many-rows", f"{n:,} rows in one request, and it takes {MOST_ROWS:,}; ask in parts")


def _too_large() -> Problem:
    return Problem(413, "too-large", f"a body has at most {MOST_BYTES // 2**20} MiB and says its length; ask in parts")


def _problem_of(error: AcisError, *, is_told: bool) -> Problem:
    """Our errors in HTTP's terms. is_told: who asks has a token, and may read the names of servers."""
    if not is_told:
        log.warning("serving.failed", error=str(error), next="who asked was told no more than that it failed")
        return Problem(503, "unavailable", error.default_message(), ("Retry-After", "15"))
    if isinstance(error, TemporaryError):
        kind = "predictions-not-kept" if isinstance(error, PredictionLogFull) else "unavailable"
        return Problem(503, kind, str(error), ("Retry-After", str(max(1, round(error.delay_s)))))
    if isinstance(error, UnknownStrategy):
        return Problem(404, "unknown-strategy", str(error))
    if isinstance(error, NoChampion):
        return Problem(404, "no-champion", str(error))
    if isinstance(error, DataError):
        return Problem(422, "invalid-rows", str(error))
    log.warning("serving.cannot_answer", error=str(error))
    return Problem(503, "cannot-answer", str(error))
