"""Logs: one event, one stable dotted word, and its fields; called once at each process's edge."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

import structlog


def set_up_logging(*, level: str = "INFO", style: str = "console") -> None:
    """Send structlog's events and the standard library's to standard error, as text or as JSON lines."""
    _set_up(_PatientHandler(sys.stderr), level=level, style=style, colours=sys.stderr.isatty())


def set_up_command_logging(folder: Path | None, *, verbose: bool = False) -> None:
    """Of a command that a person runs: the log goes to `commands.log` in `folder`; the terminal has words alone.

    folder : None: nothing is kept      verbose : standard error gets it, in place of the file
    """
    if verbose:
        set_up_logging(level="INFO")
        return
    handler = logging.NullHandler() if folder is None else _PatientFile(folder / "commands.log")
    _set_up(handler, level="INFO", style="console", colours=False)


def access_log(*, is_on: bool) -> Callable[[str], None] | None:
    """Takes lines of JSON to standard error, whatever the log's own style; None where they are not wanted."""

    def write(line: str) -> None:
        with suppress(OSError):  # a volume that is full
            sys.stderr.write(f"{line}\n")

    return write if is_on else None


def _set_up(handler: logging.Handler, *, level: str, style: str, colours: bool) -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_trace,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
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


def _with_trace(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Name the trace and the span that a line was written in, where there is one (`mlops.tracing`)."""
    api = sys.modules.get("opentelemetry.trace")
    present = api.get_current_span().get_span_context() if api is not None else None
    if present is not None and present.is_valid:
        event["trace_id"], event["span_id"] = f"{present.trace_id:032x}", f"{present.span_id:016x}"
    return event


class _PatientHandler(logging.StreamHandler[TextIO]):
    """Standard error, which may lead to a file on a volume that is full: a line that has no room is dropped."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the library's name
        """The library would print a traceback there."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class _PatientFile(RotatingFileHandler):
    """A file of at most two times 5 MB, made with its first line; a line that cannot be written is dropped."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=5_000_000, backupCount=1, encoding="utf-8", delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        """A folder that is not there, or not ours to write in, is nobody's error."""
        with suppress(OSError):
            Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
            super().emit(record)
            # Open for one line only: several commands write here, and one may rename it.
            if self.stream is not None:
                self.stream.close()
                self.stream = None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- the library's name
        """The library would print a traceback on the user's terminal."""
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
