"""The sections `follow`, `http` and `log` of bench/serving.py: with servers, where the others have none."""

from __future__ import annotations

import hashlib
import io
import json
import os
import selectors
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import psycopg2
import xgboost as xgb
from own_servers import own_servers
from pydantic import SecretStr
from sqlalchemy import text

from config.settings import ROOT, Settings, variables
from devstack.ports import choose_port
from mlops.domain.promotion.records import ModelIdentity, PromotionDecision
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.live import predictions as log_of_ledger
from mlops.ledger.schema import migrate
from mlops.registry.checkpoint_store import CheckpointStore
from mlops.registry.kept_models import MODEL, key_of
from mlops.serving.prediction_log import PredictionLog
from mlops.serving.router import ModelRouter
from mlops.serving.spool import encode, read_segment

CLIENTS = (1, 10, 100)
RATE = 200
"""Requests a second at which `http_p99_ms` is taken."""
STRATEGY = "growth"
DAY = date(2026, 6, 1)
_READY_S = 180.0


# ---- HTTP


def http(model: xgb.XGBClassifier, x: np.ndarray, folder: Path, *, quick: bool) -> dict[str, float]:
    """One row over HTTP, ours with token and log, beside `mlflow models serve`."""
    columns = [str(name) for name in model.get_booster().feature_names or ()]
    row = [None if np.isnan(value) else float(value) for value in x[0]]
    asked = {"rows": [dict(zip(columns, row, strict=True))], "tickers": ["AAPL"], "as_of": str(DAY)}
    split = {"dataframe_split": {"columns": columns, "data": [row]}}
    seconds, repeats = (2.0, 2) if quick else (5.0, 3)
    figures: dict[str, float] = {}
    folder.mkdir(parents=True)
    with our_service(model, folder) as (port, token), mlflow_serve(model, folder) as mlflow_port:
        ours = request(port, f"/api/v1/predict/{STRATEGY}", asked, f"Authorization: Bearer {token}\r\n")
        theirs = request(mlflow_port, "/invocations", split)
        print("one row over HTTP, requests a second")
        for n in CLIENTS:
            rates: dict[str, list[float]] = {"ours": [], "mlflow": []}
            for _ in range(repeats):
                rates["mlflow"].append(len(closed_loop(mlflow_port, theirs, clients=n, seconds=seconds)) / seconds)
                rates["ours"].append(len(closed_loop(port, ours, clients=n, seconds=seconds)) / seconds)
            mine, other = median(rates["ours"]), median(rates["mlflow"])
            figures |= {f"http_rps_{n}": mine, f"mlflow_rps_{n}": other, f"http_over_mlflow_serve_{n}": mine / other}
            print(
                f"  {n:>4} clients   ours {mine:>8,.0f}   mlflow models serve {other:>8,.0f}   {mine / other:>6.1f} x"
            )
        took = open_loop(port, ours, rate=RATE, seconds=5.0 if quick else 30.0)
        median_ms, p99_ms = (float(np.percentile(took, share)) * 1000 for share in (50, 99))
        print(f"  at {RATE} a second: median {median_ms:.1f} ms, p99 {p99_ms:.1f} ms, worst {max(took) * 1000:.0f} ms")
    figures["http_over_mlflow_serve"] = min(figures[f"http_over_mlflow_serve_{n}"] for n in CLIENTS)
    return figures | {"http_median_ms": median_ms, "http_p99_ms": p99_ms}


def request(port: int, path: str, body: object, headers: str = "") -> bytes:
    """A request's bytes."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Connection:
    """A kept connection with one question at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0.0
        self._got = b""

    def ask(self, content: bytes, *, began: float | None = None) -> None:
        """Send a question."""
        self.began = perf_counter() if began is None else began
        self.socket.sendall(content)

    def answered(self) -> bool:
        """Read what is there; whether the answer is whole. Raises SystemExit for another than 200."""
        self._got += self.socket.recv(1 << 16)
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found:
            return False
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if len(body) < int(lengths[0].split(b":")[1]):
            return False
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise SystemExit(self._got.decode(errors="replace"))
        self._got = b""
        return True


def closed_loop(port: int, content: bytes, *, clients: int, seconds: float) -> list[float]:
    """Seconds of each answer to so many clients, each of which asks again as soon as it is answered."""
    selector, took = selectors.DefaultSelector(), []
    connections = [Connection(port) for _ in range(clients)]
    for one in connections:
        selector.register(one.socket, selectors.EVENT_READ, one)
        one.ask(content)
    end = perf_counter() + seconds
    while (now := perf_counter()) < end:
        for key, _ in selector.select(end - now):
            if key.data.answered():
                took.append(perf_counter() - key.data.began)
                key.data.ask(content)
    for one in connections:
        one.socket.close()
    return took


def open_loop(port: int, content: bytes, *, rate: int, seconds: float, clients: int = 64) -> list[float]:
    """Seconds of each answer from when it was to be asked, whatever the answers before took."""
    selector, took = selectors.DefaultSelector(), []
    idle = deque(Connection(port) for _ in range(clients))
    everybody = list(idle)
    for one in everybody:
        selector.register(one.socket, selectors.EVENT_READ, one)
    began, n_asked, n = perf_counter(), 0, int(rate * seconds)
    while len(took) < n:
        due = began + n_asked / rate
        if n_asked < n and idle and perf_counter() >= due:
            idle.popleft().ask(content, began=due)
            n_asked += 1
            continue
        for key, _ in selector.select(max(0.0, min(due - perf_counter(), 0.1)) if idle and n_asked < n else 0.1):
            if key.data.answered():
                took.append(perf_counter() - key.data.began)
                idle.append(key.data)
    for one in everybody:
        one.socket.close()
    return took


@contextmanager
def our_service(model: xgb.XGBClassifier, folder: Path) -> Iterator[tuple[int, str]]:
    """`python -m worker serve` on a PostgreSQL of its own; its port, and a token."""
    strategies = folder / "strategies.toml"
    strategies.write_text(f"[strategies.{STRATEGY}]\n", encoding="utf-8")
    with own_servers(folder / "var", strategies_file=strategies) as endpoints:
        migrate(endpoints.database_url)
        settings = Settings(
            database_url=SecretStr(endpoints.database_url),
            var_dir=folder / "service",
            strategies_file=strategies,
            serve_port=choose_port(),
        )
        ledger = open_ledger(endpoints.database_url)
        place(ledger, settings, bytes(model.get_booster().save_raw("ubj")))
        ledger.add_user("bench", "a long enough password", role="viewer", created_by="bench")
        token = ledger.add_token("bench", user="bench", role="viewer")[1]
        with running([sys.executable, "-m", "worker", "serve"], settings.serve_port, "/readyz", environment(settings)):
            yield settings.serve_port, token
        ledger.close()


@contextmanager
def mlflow_serve(model: xgb.XGBClassifier, folder: Path) -> Iterator[int]:
    """`mlflow models serve` of the same model; its port."""
    import mlflow.xgboost

    mlflow.xgboost.save_model(model, str(folder / "mlflow-model"), model_format="ubj")
    port = choose_port()
    program = [str(Path(sys.executable).with_name("mlflow")), "models", "serve", "--env-manager", "local"]
    command = [*program, "--model-uri", str(folder / "mlflow-model"), "--port", str(port), "--host", "127.0.0.1"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with running(command, port, "/ping", {**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}):
        yield port


@contextmanager
def running(command: list[str], port: int, path: str, variables: dict[str, str]) -> Iterator[None]:
    """A server in a process group of its own, ended with the block."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until = perf_counter() + _READY_S
        while not answers(f"http://127.0.0.1:{port}{path}"):
            if process.poll() is not None or perf_counter() > until:
                raise SystemExit(f"{' '.join(command)} does not come up")
            sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def answers(url: str) -> bool:
    """It gives 200."""
    try:
        with urlopen(url, timeout=5) as found:  # noqa: S310 -- our own
            return bool(found.status == 200)
    except (URLError, OSError):
        return False


def environment(settings: Settings) -> dict[str, str]:
    """The settings as variables."""
    values = {name: getattr(settings, field) for name, field in variables().items()}
    told = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
        if value is not None
    }
    return {**os.environ, **told, "OMP_NUM_THREADS": "1"}


def place(ledger: SqlLedger, settings: Settings, content: bytes, *, version: str = "1", seq: int = 0) -> None:
    """Make a model the champion, with its file where a promotion keeps it."""
    identity = ModelIdentity(sha256=hashlib.sha256(content).hexdigest(), made_by="bench")
    CheckpointStore(settings.checkpoint_place).keep_model(key_of(identity), {MODEL: content})
    decision = PromotionDecision(
        decision="promote",
        version=version,
        model_name="bench",
        reasons=("bench",),
        evidence={},
        evidence_digest="sha256:0",
        actor="bench",
        target_stage="Production",
        expected_seq=seq,
        identity=identity,
    )
    ledger.record_transition(STRATEGY, decision)


# ---- Following


def follow(model: xgb.XGBClassifier, _x: np.ndarray, folder: Path, *, quick: bool) -> dict[str, float]:
    """Seconds from a promotion's commit to its first answer, and what the ledger is asked each second."""
    content = bytes(model.get_booster().save_raw("ubj"))
    fewer = [bytes(model.get_booster()[:rounds].save_raw("ubj")) for rounds in range(60, 70)]
    took: list[float] = []
    with own_servers(folder / "var") as endpoints:
        migrate(endpoints.database_url)
        settings = Settings(database_url=SecretStr(endpoints.database_url), var_dir=folder / "router")
        ledger = open_ledger(endpoints.database_url)
        place(ledger, settings, content)
        with ModelRouter(STRATEGY, settings=settings) as router:
            for seq, other in enumerate(fewer[: 4 if quick else 10], 1):
                place(ledger, settings, other, version=str(seq + 1), seq=seq)
                began = perf_counter()
                while router.model.seq != seq + 1:
                    sleep(0.005)
                took.append(perf_counter() - began)
        asked = []
        for _ in range(200):
            began = perf_counter()
            ledger.serving_state(STRATEGY)
            asked.append(perf_counter() - began)
        ledger.close()
    print(f"a promotion is followed after {median(took):.2f} s, at most {max(took):.2f} s, in {len(took)} of them")
    print(f"  the question that is asked each second: {median(asked) * 1000:.2f} ms")
    return {"follow_s": median(took), "follow_worst_s": max(took), "follow_question_ms": median(asked) * 1000}


# ---- The log


def log(_model: xgb.XGBClassifier, _x: np.ndarray, folder: Path, *, quick: bool) -> dict[str, float]:
    """Predictions that are recorded, flushed, spooled and committed, beside one COPY of the same rows."""
    n_rows, repeats = (60_000, 3) if quick else (300_000, 5)
    folder.mkdir(parents=True)
    with own_servers(folder / "var") as endpoints:
        migrate(endpoints.database_url)
        ledger = open_ledger(endpoints.database_url)
        figures: dict[str, float] = {}
        print(f"{n_rows:,} predictions, durably written, a second")
        for of_a_call in (500, 1):
            n = n_rows if of_a_call > 1 else n_rows // 6
            plain, ours = [], []
            for repeat in range(repeats):
                plain.append(copied(ledger, endpoints.database_url, n))
                ours.append(logged(ledger, folder / f"spool-{of_a_call}-{repeat}", n, of_a_call=of_a_call))
            ratio = median(ours) / median(plain)
            name = "log_over_copy" if of_a_call > 1 else "log_over_copy_single"
            figures |= {name: ratio, f"log_per_s_{of_a_call}": n / median(ours), "copy_per_s": n / median(plain)}
            print(
                f"  {of_a_call:>4} rows a call   COPY alone {n / median(plain):>9,.0f}   "
                f"ours {n / median(ours):>9,.0f}   COPY / ours {ratio:>5.2f}"
            )
        ledger.close()
    return figures


def answered(n: int) -> tuple[list[str], list[date], np.ndarray, list[bytes]]:
    """What n rows were answered."""
    rng = np.random.default_rng(0)
    digests = rng.bytes(16 * n)
    tickers = [f"T{number % 3000:04}" for number in range(n)]
    return tickers, [DAY] * n, rng.random(n, dtype=np.float32), [digests[i : i + 16] for i in range(0, 16 * n, 16)]


def copied(ledger: SqlLedger, url: str, n: int) -> float:
    """Seconds of one COPY of n rows, ready to be sent, into a table of the same kind, committed."""
    model = f"{STRATEGY}\x1f1\x1f{'a' * 64}\x1fchampion".encode()
    frame = encode(model, *answered(n), at_us=int(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1e6))
    segment = Path(f"/tmp/acis-bench-{os.getpid()}.seg")  # noqa: S108 -- its own name
    segment.write_bytes(frame)
    rows, _ = read_segment(segment)
    segment.unlink()
    assert rows is not None  # noqa: S101 -- n of them
    body = log_of_ledger._as_csv(rows, namespace="live", batch_id="b" * 32).read()  # noqa: SLF001 -- the same rows
    with ledger.database.transaction() as connection:
        connection.execute(text("DROP TABLE IF EXISTS plain"))
        connection.execute(text("CREATE TABLE plain (LIKE mlops_prediction INCLUDING ALL) PARTITION BY RANGE (as_of)"))
        month = "FOR VALUES FROM ('2026-06-01') TO ('2026-07-01')"
        connection.execute(text(f"CREATE TABLE plain_202606 PARTITION OF plain {month}"))
    with psycopg2.connect(url.replace("+psycopg2", "")) as raw, raw.cursor() as cursor:
        began = perf_counter()
        cursor.copy_expert("COPY plain FROM STDIN (FORMAT csv)", io.BytesIO(body))
        raw.commit()
        return perf_counter() - began


def logged(ledger: SqlLedger, folder: Path, n: int, *, of_a_call: int) -> float:
    """Seconds until n rows, so many a call and each call flushed, are all in the ledger."""
    tickers, dates, probability, digests = answered(n)
    model: Any = SimpleNamespace(strategy=STRATEGY, version="1", sha256="a" * 64, variant="champion")
    with ledger.database.transaction() as connection:
        connection.execute(text("TRUNCATE mlops_prediction, mlops_prediction_batch"))
    predictions = PredictionLog(ledger, folder, limit_bytes=1 << 30, origin="service")
    began = perf_counter()
    for place in range(0, n, of_a_call):
        part = slice(place, place + of_a_call)
        predictions.record(model, tickers[part], dates[part], probability[part], digests[part])
        predictions.flush()
    predictions.close(within_s=600)
    took = perf_counter() - began
    with ledger.database.reading() as connection:
        found = connection.scalar(text("SELECT count(*) FROM mlops_prediction"))
    assert found == n  # noqa: S101 -- else nothing is measured
    return took
