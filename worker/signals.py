"""What happens around each task in a worker: its logs carry ids, and nothing of it is left behind."""

from __future__ import annotations

import gc
import os
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from celery import signals

from config.log_setup import set_up_logging
from config.settings import load_settings
from mlops import tracing
from worker.draining import begin_drain, forget_drains, outlive_sigterm
from worker.health import health_file, own_name, ready_file, touch
from worker.remote_control import restrict


@signals.setup_logging.connect
def set_up_worker_logging(**_: Any) -> None:  # noqa: ANN401
    """Our own log set-up instead of Celery's, in the main process and in spawned children."""
    settings = load_settings()
    set_up_logging(level=settings.log_level, style=settings.log_format)


@signals.heartbeat_sent.connect
def note_alive(**_: Any) -> None:  # noqa: ANN401
    """The main process's event loop turns, and its messages reach Redis: every 2 s."""
    touch(_alive_file())


@cache
def _alive_file() -> Path:
    return health_file(load_settings().var_dir, own_name("worker"))


@cache
def _ready_file() -> Path:
    return ready_file(load_settings().var_dir, own_name("worker"))


@signals.worker_init.connect
def prepare(**_: Any) -> None:  # noqa: ANN401
    """Clear the flags of an earlier process with this number or name; what the main process needs is imported."""
    gc.enable()
    restrict()
    _ready_file().unlink(missing_ok=True)
    forget_drains(load_settings().var_dir)


@signals.worker_ready.connect
def be_ready(**_: Any) -> None:  # noqa: ANN401
    """The pool is up and the queues are read."""
    touch(_ready_file())


@signals.worker_shutting_down.connect
def drain(**_: Any) -> None:  # noqa: ANN401
    """SIGTERM, SIGQUIT or SIGINT: tell the children; inside the signal handler of the main process."""
    _ready_file().unlink(missing_ok=True)
    begin_drain(load_settings().var_dir)


@signals.worker_shutdown.connect
def end_the_drain(**_: Any) -> None:  # noqa: ANN401
    """The main process ends in good order."""
    forget_drains(load_settings().var_dir)


@signals.worker_process_init.connect
def be_told_to_stop_by_the_main_process(**_: Any) -> None:  # noqa: ANN401
    """Alone: a SIGTERM to the whole group would end a training without its checkpoint."""
    outlive_sigterm()


@signals.worker_process_init.connect
def let_threads_wait_passively(**_: Any) -> None:  # noqa: ANN401
    """OpenMP waits without burning the core that a sibling could use."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@signals.worker_process_init.connect
def leave_the_libraries_alone(**_: Any) -> None:  # noqa: ANN401
    """What was loaded before the first task lives as long as the process: the collector need not walk it again."""
    gc.enable()
    gc.collect()
    gc.freeze()


@signals.worker_process_init.connect
def begin_tracing(**_: Any) -> None:  # noqa: ANN401
    """In the child: a thread of the main process would not be there after the fork."""
    tracing.begin(os.environ.get("WORKER_ROLE", "worker"), calls=True)


@signals.worker_process_shutdown.connect
def send_spans(**_: Any) -> None:  # noqa: ANN401
    """A child that is replaced or stopped ends by `os._exit`, which runs nothing of its own."""
    tracing.flush()


#: The spans of this process's tasks, by id.
_spans: dict[str, AbstractContextManager[None]] = {}


@signals.task_prerun.connect
def bind_task(task_id: str, task: Any, **_: Any) -> None:  # noqa: ANN401
    """Each log line of a task names it."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task_id=task_id, task=task.name)
    parent, run_id = getattr(task.request, tracing.TRACEPARENT, None), (task.request.kwargs or {}).get("run_id")
    span = tracing.traced(
        task.name,
        kind="CONSUMER",
        parent=parent if isinstance(parent, str) else None,
        run_id=run_id if isinstance(run_id, str) else None,
        task_id=task_id,
    )
    span.__enter__()
    _spans[task_id] = span


@signals.task_postrun.connect
def unbind_task(task_id: str, **_: Any) -> None:  # noqa: ANN401
    """The next task's lines do not carry this one's ids."""
    if span := _spans.pop(task_id, None):
        span.__exit__(None, None, None)
    structlog.contextvars.clear_contextvars()
