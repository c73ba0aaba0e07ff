"""A standard variable of OpenTelemetry that is not valid costs the spans, and never the process."""

from __future__ import annotations

import pytest

from mlops import tracing


def test_a_delay_that_the_library_refuses_is_said_and_no_span_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "-5")
    monkeypatch.setattr(tracing, "_begun", None)
    warned: list[str] = []
    monkeypatch.setattr(tracing.log, "warning", lambda event, **said: warned.append(f"{event} {said['error']}"))
    tracing.begin("test")
    assert warned == ["tracing.not_begun schedule_delay_millis must be positive."]
    with tracing.traced("nothing"):
        assert tracing.traceparent() is None
