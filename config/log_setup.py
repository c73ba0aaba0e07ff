"""Logs: one event, one stable dotted word, and its fields; called once at each process's edge."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog


def set_up_logging(*, level: str = "INFO", style: str = "console") -> None:
    """Send structlog's events and the standard library's to standard error, as text or as JSON lines."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _PatientHandler(sys.stderr)
    tail: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if style == "json":
        tail.append(structlog.processors.format_exc_info)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*tail, renderer]),
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # It warns of each retry; the last one is an error of ours, in words.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    for noisy in ("alembic", "matplotlib", "mlflow"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


class _PatientHandler(logging.StreamHandler[TextIO]):
    """Standard error, which may lead to a file on a volume that is full: a line that has no room is dropped."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the library's name
        """The library would print a traceback there."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


def leave_logging_to_the_caller() -> None:
    """Where nobody set logs up (a notebook, a program that imports us): warnings only, by the standard library.

    structlog's own default prints every event to standard output.
    """
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.stdlib.render_to_log_kwargs,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )
