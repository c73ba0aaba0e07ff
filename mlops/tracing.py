"""Traces of runs by OpenTelemetry: one from the button or the command through the queue and the stages to MLflow.

Off, and nothing of it imported, unless the standard variables name a collector: OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_TRACES_EXPORTER=otlp. The others mean what the standard says. A collector
that is away costs spans and nothing else: they are sent by a thread of their own, and dropped where it cannot.

Called from every layer above; processes begin it at their edge, forked ones after the fork.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import structlog

log = structlog.get_logger(__name__)

Kind = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]

TRACEPARENT = "traceparent"
"""Name of the W3C header, also in the headers of a message."""

#: A process that is killed loses the spans of so many milliseconds; the library's own default is five seconds.
_DELAY_MS = 1000
#: A process that ends waits so long for a collector.
_FLUSH_S = 2.0


class _Tracing:
    """What a process sends its spans with."""

    def __init__(self, role: str) -> None:
        from opentelemetry import trace  # noqa: PLC0415 -- not imported where traces are off
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self.pid = os.getpid()
        self.trace, self.propagator = trace, TraceContextTextMapPropagator()
        # Attributes given here would win over the standard variable.
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"acis-{role}"}
        # Ended by `flush`, which waits for a bounded time; the library's own waits for ten seconds and more.
        self.provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self.collector = _Collector(OTLPSpanExporter())
        delay_ms = float(os.environ.get("OTEL_BSP_SCHEDULE_DELAY") or _DELAY_MS)
        self.provider.add_span_processor(BatchSpanProcessor(self.collector, schedule_delay_millis=delay_ms))
        self.tracer = self.provider.get_tracer("acis")


class _Collector:
    """An exporter that says once that its collector is away, and once that it is back."""

    def __init__(self, exporter: Any) -> None:  # noqa: ANN401 -- imported only where traces are on
        self._exporter = exporter
        self.is_away = False

    def export(self, spans: Any) -> Any:  # noqa: ANN401
        """Send spans; the library's result."""
        result = self._exporter.export(spans)
        is_away = result.name != "SUCCESS"
        if is_away and not self.is_away:
            log.warning("tracing.collector_away", lost=len(spans), next="spans are dropped until it is back")
        elif self.is_away and not is_away:
            log.info("tracing.collector_back")
        self.is_away = is_away
        return result

    def shutdown(self) -> None:
        """Send no more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 -- the library's signature
        """Nothing is kept here."""
        return True


_begun: _Tracing | None = None


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the standard variables name a collector."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return exporter == "otlp" or any(environ.get(name) for name in endpoints)


def begin(role: str, *, calls: bool = False) -> None:
    """Send this process's spans from now on, where a collector is named; a second time does nothing.

    role : `service.name` is acis-ROLE unless OTEL_SERVICE_NAME is set
    calls : HTTP requests to MLflow are spans too; for processes where each belongs to a run
    """
    global _begun  # noqa: PLW0603 -- one a process, like the library's own
    if not is_wanted() or (_begun is not None and _begun.pid == os.getpid()):
        return
    try:
        _begun = _Tracing(role)
        if calls:
            from opentelemetry.instrumentation.requests import RequestsInstrumentor  # noqa: PLC0415 -- as above

            RequestsInstrumentor().instrument(tracer_provider=_begun.provider)
    except ImportError as exc:
        _begun = None
        log.warning("tracing.not_installed", missing=str(exc), action="install the extra: make otel")
        return
    _quieten()
    atexit.register(flush)


def _quieten() -> None:
    """The library logs each try with a traceback; `_Collector` says it once."""
    import logging  # noqa: PLC0415

    for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def serve_requests(app: Any) -> None:  # noqa: ANN401 -- a FastAPI application
    """Make each request to the application a span, but for its streams, probes and files."""
    if _begun is None:
        return
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # noqa: PLC0415 -- as above

    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=_begun.provider,
        excluded_urls="healthz,readyz,/static/,/events",
        exclude_spans=["receive", "send"],
    )


def traced(
    name: str, *, kind: Kind = "INTERNAL", parent: str | None = None, **attributes: str | float | None
) -> AbstractContextManager[None]:
    """A span for as long as the block lasts; nothing where traces are off.

    parent : a W3C traceparent, which counts unless the present span is of the same trace
    attributes : recorded as `acis.NAME`; None is left out
    """
    if _begun is None:
        return nullcontext()
    return _recorded(_begun, name, kind, parent, attributes)


@contextmanager
def _recorded(
    begun: _Tracing, name: str, kind: Kind, parent: str | None, attributes: Mapping[str, str | float | None]
) -> Iterator[None]:
    told = {f"acis.{key}": value for key, value in attributes.items() if value is not None}
    with begun.tracer.start_as_current_span(
        name,
        context=_context_of(begun, parent),
        kind=begun.trace.SpanKind[kind],
        attributes=told,
        # The message says it; a traceback is in the log.
        record_exception=False,
    ):
        yield


def _context_of(begun: _Tracing, parent: str | None) -> Any:  # noqa: ANN401 -- the library's context; None: the present one
    if not parent:
        return None
    context = begun.propagator.extract({TRACEPARENT: parent})
    asked, present = (begun.trace.get_current_span(of).get_span_context() for of in (context, None))
    return context if asked.is_valid and asked.trace_id != present.trace_id else None


def traceparent() -> str | None:
    """The present span in W3C form, 55 characters; None where there is none."""
    if _begun is None:
        return None
    carrier: dict[str, str] = {}
    _begun.propagator.inject(carrier)
    return carrier.get(TRACEPARENT)


def carried(parent: object) -> dict[str, Any]:
    """Options of a message that goes on with a trace: the present span's, else what was given; empty without one."""
    present = traceparent() or parent
    return {"headers": {TRACEPARENT: present}} if isinstance(present, str) else {}


def flush() -> None:
    """Send what waits, before a process ends or is replaced; returns after two seconds at the latest."""
    if _begun is None or _begun.pid != os.getpid() or _begun.collector.is_away:
        return
    # The library's own time limit is ignored, and it may wait for its thread, which waits for the collector.
    sender = threading.Thread(target=_begun.provider.force_flush, daemon=True)
    sender.start()
    sender.join(_FLUSH_S)
