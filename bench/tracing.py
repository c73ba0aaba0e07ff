"""What traces cost a drift check: the whole check, from its acceptance to its end, with spans and without.

    .venv/bin/python bench/tracing.py [--quick] [--json] [--repeats 200]

PostgreSQL and the sample's prices; a collector in a process of its own takes the spans by OTLP over HTTP. Both kinds of
check take turns in one process, the first of a pair changing, so that what else the machine does meets both alike.
--quick: 60 repeats; under 45 s.

    tracing_over_none       time of a traced check over that of the one without beside it: the median of all pairs
    cpu_over_none           the same of the process's own processor time, the thread that sends included
    spans_per_check         spans that the collector got
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

COLLECTOR = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
class Receiver(BaseHTTPRequestHandler):
    n_spans = 0
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        groups = ExportTraceServiceRequest.FromString(body).resource_spans
        Receiver.n_spans += sum(len(scope.spans) for group in groups for scope in group.scope_spans)
        self.send_response(200); self.end_headers()
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(self.n_spans).encode())
    def log_message(self, *_): pass
server = HTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
"""


def check_s(services: object, *, is_traced: bool) -> tuple[float, float]:
    """Seconds of one check of the sample's growth strategy, carried out here: of the clock, and of the processor."""
    from mlops import tracing
    from mlops.domain.records import Executor, Kind
    from mlops.runs.inline import run_inline
    from mlops.runs.request import run_request

    request = run_request(
        services.policies,
        "growth",
        Kind.CHECK,
        reason="bench",
        requested_by="bench",
        as_of="2019-12-13",
        executor=Executor.INLINE,
    )
    begun = tracing._begun  # noqa: SLF001 -- one process measures both
    if not is_traced:
        tracing._begun = None  # noqa: SLF001
    began, cpu = time.perf_counter(), time.process_time()
    # As a worker has it: a task's span around the run.
    with tracing.traced("drift.check", kind="CONSUMER", run_id="bench"):
        run_inline(services, request, on_accept=lambda _: None, on_stage=lambda *_: None)
    taken = time.perf_counter() - began, time.process_time() - cpu
    tracing._begun = begun  # noqa: SLF001
    return taken


def measured(repeats: int) -> dict[str, float]:
    """Medians of both kinds, and how many spans came."""
    from urllib.request import urlopen

    from own_servers import own_servers

    from config.log_setup import set_up_logging
    from config.settings import ROOT, Settings
    from mlops import tracing
    from mlops.bootstrap import connect
    from mlops.features.sample import load_sample
    from mlops.ledger.schema import migrate

    collector = subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{int(collector.stdout.readline())}"
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        strategies = ROOT / "config" / "strategies_sample.toml"
        with tempfile.TemporaryDirectory(prefix="acis-bench-") as folder:
            Path(folder).chmod(0o755)
            with own_servers(Path(folder) / "var", strategies_file=strategies) as endpoints:
                settings = Settings(
                    database_url=endpoints.database_url,
                    strategies_file=strategies,
                    var_dir=Path(folder) / "var",
                    report_dir=folder,
                )
                set_up_logging(level="ERROR")
                migrate(endpoints.database_url)
                load_sample(endpoints.database_url)
                services = connect(settings)
                tracing.begin("bench", calls=True)
                for is_traced in (True, False) * 3:
                    check_s(services, is_traced=is_traced)
                tracing.flush()
                n_before = int(urlopen(url).read())
                taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
                for number in range(repeats):
                    for is_traced in (True, False) if number % 2 else (False, True):
                        taken[is_traced].append(check_s(services, is_traced=is_traced))
                tracing.flush()
                n_spans = int(urlopen(url).read()) - n_before
                services.ledger.close()
    finally:
        collector.kill()
        collector.wait()
    pairs = list(zip(taken[True], taken[False], strict=True))
    traced, none = (median(clock for clock, _ in taken[of]) for of in (True, False))
    return {
        "tracing_over_none": median(with_[0] / without[0] for with_, without in pairs),
        "cpu_over_none": median(with_[1] / without[1] for with_, without in pairs),
        "traced_ms": traced * 1000,
        "none_ms": none * 1000,
        "spans_per_check": n_spans / repeats,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int)
    asked = parser.parse_args()
    found = measured(asked.repeats or (60 if asked.quick else 200))
    if asked.json:
        print(json.dumps({"machine": platform.machine(), "cores": os.cpu_count(), **found}))
        return
    for name, value in found.items():
        print(f"{name:22} {value:10.3f}")


if __name__ == "__main__":
    main()
