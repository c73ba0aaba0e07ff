"""One trace from the button, or the command, through the queue and the stages to MLflow, whatever happens to processes.

The collector is a real one as far as the wire goes: OTLP over HTTP, read with the standard's own messages.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import SecretStr

from config.settings import ROOT, Settings
from devstack.ports import choose_port
from mlops.bootstrap import Services
from mlops.domain.records import RunState, RunView, StageState
from mlops.domain.run_states import TERMINAL
from mlops.ledger.schema import migrate
from tasks.services import connect
from tests.support.admin import add_people
from tests.support.features import features_locked, postgres_table
from tests.support.processes import environment_of, started
from tests.support.services import panel
from tests.support.waiting import wait_for

STRATEGIES = """
[defaults.data]
as_of = "latest"
min_current_rows = 40
[defaults.drift]
rule = "raw"
[defaults.training]
horizon_dates = 5
training_days = 200
holdout_dates = 20
embargo_dates = 0
params = { n_estimators = 5, max_depth = 2 }
device = "cpu"
[defaults.promotion]
min_accuracy = 0.5
[defaults.schedule]
drift_check = ""
retrain = ""
[strategies.growth]
[strategies.value]
"""
NEVER_MS = "600000"
"""Longer than the test: what this process sends by then was flushed."""
WITHIN_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Span:
    """What a collector gets."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    told: dict[str, str]


@dataclass
class Collector:
    """Receives spans."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)

    def named(self, name: str, **told: str) -> list[Span]:
        """Spans of a name with these attributes."""
        return [
            one
            for one in list(self.spans)
            if one.name == name and all(one.told.get(f"acis.{key}") == value for key, value in told.items())
        ]

    def of_run(self, run_id: str) -> list[Span]:
        """All spans of the traces in which the run is named."""
        traces = {one.trace for one in list(self.spans) if one.told.get("acis.run_id") == run_id}
        return [one for one in list(self.spans) if one.trace in traces]


@contextmanager
def collecting() -> Iterator[Collector]:
    """An OTLP/HTTP receiver on a free port."""
    collector = Collector()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            collector.spans.extend(read(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def read(body: bytes) -> list[Span]:
    """Spans of a request to a collector."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            service=next(one.value.string_value for one in group.resource.attributes if one.key == "service.name"),
            name=span.name,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            kind=span.kind,
            told={one.key: one.value.string_value or str(one.value.int_value) for one in span.attributes},
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


@dataclass(frozen=True, kw_only=True)
class System:
    """The traced system as a test sees it."""

    services: Services
    collector: Collector
    environment: dict[str, str]
    features_url: str
    admin_url: str
    logs: Path
    drift: subprocess.Popen[bytes]

    def run(self) -> str:
        """The id of a run that was opened by command."""
        done = subprocess.run(
            [sys.executable, "-m", "cli.app", "run", "growth", "--json"],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        run_id: str = json.loads(done.stdout)["strategies"][0]["accepted"]["run_id"]
        return run_id

    def ended(self, run_id: str) -> RunView:
        """The run once it is over."""
        wait_for(lambda: self.services.ledger.run(run_id).state in TERMINAL, f"{run_id} ends", within_s=WITHIN_S)
        return self.services.ledger.run(run_id)


@pytest.fixture(scope="module")
def system(
    redis_server: str,
    redis_numbers: Iterator[int],
    postgres_database: Callable[[], str],
    mlflow_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """All roles that a run goes through, traced; each child of the drift worker does one task and is replaced."""
    folder = tmp_path_factory.mktemp("traced")
    strategies, ledger_url, features = folder / "strategies.toml", postgres_database(), postgres_database()
    strategies.write_text(STRATEGIES, encoding="utf-8")
    migrate(ledger_url)
    postgres_table(panel(), features)
    settings = Settings(
        database_url=SecretStr(ledger_url),
        feature_source=SecretStr(features),
        celery_broker_url=SecretStr(f"{redis_server}/{next(redis_numbers)}"),
        celery_result_backend=SecretStr(f"{redis_server}/{next(redis_numbers)}"),
        mlflow_tracking_uri=SecretStr(mlflow_url),
        strategies_file=strategies,
        var_dir=folder / "var",
        report_dir=folder,
        drift_concurrency=1,
        train_n_jobs=1,
        admin_port=choose_port(),
        log_format="json",
    )
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        environment = {**environment_of(settings), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        recycled = ["celery", "-A", "worker.main", "worker", "-Q", "drift", "-n", "drift@%h", "-c", "1",
                    "--max-tasks-per-child", "1", "--without-mingle", "--without-gossip", "-l", "INFO"]  # fmt: skip
        drift = stack.enter_context(
            started(
                recycled,
                {**environment, "WORKER_ROLE": "drift", "WORKER_NAME": "drift", "OTEL_BSP_SCHEDULE_DELAY": NEVER_MS},
                folder / "drift.log",
            )
        )
        others = [
            stack.enter_context(started(["worker", role], environment, folder / f"{role}.log"))
            for role in ("control", "train.cpu", "promote", "admin")
        ]
        services = connect(settings)
        stack.callback(services.ledger.close)
        url = f"http://127.0.0.1:{settings.admin_port}"
        wait_for(lambda: answers(f"{url}/healthz"), "the page is up", within_s=WITHIN_S)
        yield System(
            services=services,
            collector=collector,
            environment=environment,
            features_url=features,
            admin_url=url,
            logs=folder,
            drift=drift,
        )
        for process in (drift, *others):
            process.terminate()  # all at once, before each is waited for


def answers(url: str) -> bool:
    try:
        return bool(httpx2.get(url).status_code == 200)
    except httpx2.HTTPError:
        return False


def told_lines(log: Path) -> list[dict[str, Any]]:
    """Lines of a log that are JSON."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]


# ---- The trace of a run


def roots(spans: list[Span]) -> list[str]:
    """Names of the spans whose parent did not come."""
    ids = {one.id for one in spans}
    return [one.name for one in spans if one.parent not in ids]


def test_a_run_by_command_is_one_trace_up_to_the_promotion(system: System) -> None:
    run_id = system.run()
    assert system.ended(run_id).state is RunState.SUCCEEDED
    wait_for(lambda: system.collector.named("projection", run_id=run_id), "the last span came", within_s=WITHIN_S)
    wait_for(lambda: system.collector.named("model.promote", run_id=run_id), "and its task's", within_s=20)
    wait_for(lambda: roots(system.collector.of_run(run_id)) == ["acis run"], "each span has its parent", within_s=20)
    spans = system.collector.of_run(run_id)
    assert len({one.trace for one in spans}) == 1
    names = {one.name for one in spans}
    assert names >= {
        "acis run", "accept",
        "enqueue drift.check", "drift.check", "claim", "stage drift", "commit",
        "enqueue model.train", "model.train", "stage train",
        "enqueue model.promote", "model.promote", "stage promote", "evidence", "decision", "projection",
    }  # fmt: skip
    assert {one.service for one in spans} >= {"acis-command", "acis-drift", "acis-train.cpu", "acis-promote"}
    to_mlflow = [
        one for one in spans if "/api/2.0/mlflow/" in (one.told.get("http.url") or one.told.get("url.full", ""))
    ]
    assert {one.service for one in to_mlflow} >= {"acis-train.cpu", "acis-promote"}


def test_the_lines_of_a_log_name_their_trace(system: System) -> None:
    run_id = system.ended(system.run()).run_id
    wait_for(lambda: system.collector.named("commit", run_id=run_id), "its spans came", within_s=WITHIN_S)
    told = told_lines(system.logs / "drift.log")
    (trace,) = [one["trace_id"] for one in told if (one["event"], one.get("run_id")) == ("stage.finished", run_id)]
    assert {one.trace for one in system.collector.of_run(run_id)} == {trace}


def test_a_run_by_the_button_begins_with_the_request(system: System) -> None:
    add_people(system.services.ledger, {"olga": "operator"})
    _, token = system.services.ledger.add_token("traces", user="olga", role="operator")
    answer = httpx2.post(
        f"{system.admin_url}/admin/schedule/growth/drift_check/run",
        headers={"authorization": f"Bearer {token}", "accept": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    run_id = answer.json()["run_id"]
    system.ended(run_id)
    wait_for(lambda: system.collector.named("commit", run_id=run_id), "the last span came", within_s=WITHIN_S)
    wait_for(lambda: [one for one in system.collector.of_run(run_id) if one.kind == 2], "the request's", within_s=20)
    spans = system.collector.of_run(run_id)
    assert len({one.trace for one in spans}) == 1
    (request,) = [one for one in spans if one.kind == 2]  # SERVER
    assert (request.service, request.parent) == ("acis-admin", "")
    assert token not in json.dumps([one.told for one in system.collector.spans])


# ---- Processes that are replaced and killed


def test_a_child_that_is_replaced_after_each_task_has_sent_all_its_spans(system: System) -> None:
    """Its processor would send them in ten minutes: what came was flushed before the child ended."""
    expected = ["claim", "commit", "drift.check", "stage drift"]

    def names(run_id: str) -> list[str]:
        spans = system.collector.of_run(run_id)
        return sorted(one.name for one in spans if one.service == "acis-drift" and one.name in expected)

    for _ in range(2):
        run_id = system.ended(system.run()).run_id
        wait_for(lambda run_id=run_id: names(run_id) == expected, f"each span of {run_id} came once", within_s=20)


def test_the_trace_goes_on_in_another_child_when_one_is_killed(system: System) -> None:
    services = system.services
    with features_locked(system.features_url):
        run_id = system.run()
        wait_for(
            lambda: services.ledger.run(run_id).stages[0].state is StageState.RUNNING, "it works", within_s=WITHIN_S
        )
        for child in psutil.Process(system.drift.pid).children():
            os.kill(child.pid, signal.SIGKILL)
        wait_for(lambda: services.ledger.run(run_id).stages[0].attempt == 2, "it is given back", within_s=WITHIN_S)
    system.ended(run_id)
    wait_for(lambda: system.collector.named("stage.lost", run_id=run_id), "the loss is told", within_s=20)
    wait_for(lambda: system.collector.named("commit", run_id=run_id), "the end is told", within_s=20)
    spans = system.collector.of_run(run_id)
    assert len({one.trace for one in spans}) == 1
    assert [one.told["acis.attempt"] for one in spans if one.name == "stage drift"] == ["2"]
    assert len([one for one in spans if one.name == "enqueue drift.check"]) == 2


# ---- Off, and without a collector


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**kept, **environment}, capture_output=True, text=True, check=False
    )


def test_nothing_is_imported_where_no_collector_is_named() -> None:
    done = python(
        "import sys, worker.signals, tasks.base, cli.app; from mlops import tracing\n"
        "tracing.begin('test')\n"
        "with tracing.traced('a'): assert tracing.traceparent() is None\n"
        # redis-py imports the metrics' part of the library by itself, where it is installed.
        "parts = 'opentelemetry.sdk.trace', 'opentelemetry.exporter', 'opentelemetry.instrumentation'\n"
        "tracing.flush(); print([name for name in sys.modules if name.startswith(parts)])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_collector_that_is_away_holds_nothing_up_and_is_told_of_once() -> None:
    done = python(
        "import time; from config.log_setup import set_up_logging; from mlops import tracing\n"
        "set_up_logging(style='json'); tracing.begin('test')\n"
        "began = time.monotonic()\n"
        "for _ in range(5000):\n"
        "    with tracing.traced('a'): pass\n"
        "tracing.flush(); tracing.flush(); print(time.monotonic() - began < 8)",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{choose_port()}",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert done.stdout == "True\n", done.stderr
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["tracing.collector_away"]
