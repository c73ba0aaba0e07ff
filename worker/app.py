"""Makes the Celery application: its settings with their reasons, and acknowledgements that cannot get lost."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from celery import Celery
from kombu.transport import redis as transport
from kombu.transport import virtual

from config.settings import Settings
from mlops.domain.errors import NothingConfigured
from mlops.redis_address import tls_options
from tasks.broker import wait_while_redis_cannot_serve
from worker import unreadable
from worker.draining import DrainStep
from worker.routing import QUEUES, Role

# ---- Celery's settings, each with its reason. Correctness never rests on them: the ledger decides


def celery_config(settings: Settings, role: Role | None) -> dict[str, Any]:
    """Settings of the application in one process; `role` is None in beat, Flower and clients.

    Raises NothingConfigured when no broker is named and none runs.
    """
    broker, backend = settings.celery_broker_url, settings.result_backend_url
    if broker is None or backend is None:
        message = "no broker is configured; set CELERY_BROKER_URL, or start everything with `make run`"
        raise NothingConfigured(message)
    certificates = tls_options(broker.get_secret_value())
    config: dict[str, Any] = {
        "broker_url": broker.get_secret_value(),
        # What the address says already: Flower looks for it here alone.
        **({"broker_use_ssl": certificates} if certificates else {}),
        "result_backend": backend.get_secret_value(),
        # Nothing executable in a message.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # Task modules, and the signals, in spawned children too; and what a role's children would import at once.
        "imports": (
            "tasks.drift",
            "tasks.training",
            "tasks.promotion",
            "tasks.live",
            "tasks.maintenance",
            "worker.signals",
            *(role.preloaded if role else ()),
        ),
        # The stage tasks choose for themselves (tasks/request.py); everything else acknowledges early.
        "task_acks_late": False,
        # One message at a time: fair to long tasks; QoS drift hoards hundreds otherwise.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "broker_transport_options": {
            # kombu passes "for ever" otherwise, and a publisher hangs on a half-open connection.
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            # What a dead worker held unacknowledged is redelivered after so long. A stage's message is acknowledged
            # at once, so these are starts, which are safe to repeat and wait for a database START_RETRY_S at most.
            "visibility_timeout": max(60.0, settings.lease_s),
            # Looked for every 10 s, not every 100.
            "unacked_restore_throttle": 1,
            # Unroutable messages are dropped in silence otherwise.
            "deadletter_queue": "unrouted",
        },
        # Workers wait for Redis at start and for ever after; the default gives up at 100.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Nothing is redelivered for messages of stages, so nothing need be killed when a connection resets.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # The default blocks for ever.
        "broker_pool_acquire_timeout": 30,
        # Only the queues of routing.py; a misspelt one is an error, not a new queue.
        "task_queues": QUEUES,
        "task_default_queue": "control",
        "task_create_missing_queues": False,
        "task_routes": "worker.routing.route_task",
        # Flower sees every message from its publication on.
        "task_track_started": True,
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        # Redis' results are a copy; the ledger is the truth. Failures are looked at longer.
        "result_expires": 7 * 86400,
        "result_failure_expires": 30 * 86400,
        "result_extended": True,
        # The backend's default is to retry for ever.
        "result_backend_always_retry": True,
        "result_backend_max_retries": 3,
        "redis_socket_timeout": 30,
        "redis_socket_connect_timeout": 5,
        "redis_socket_keepalive": True,
        "redis_retry_on_timeout": True,
        "redis_backend_health_check_interval": 25,
        # Beat notices a changed timetable within so many seconds.
        "beat_max_loop_interval": 5,
        "beat_scheduler": "worker.scheduler:LedgerScheduler",
        # Our own logs (worker/signals.py).
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "timezone": "UTC",
        "enable_utc": True,
    }
    if role is not None:
        config |= {
            "worker_pool_start_method": role.start_method,
            "worker_max_tasks_per_child": role.max_tasks_per_child,
            # Spawned children import the libraries first; the default gives up after 4 s.
            "worker_proc_alive_timeout": 60,
        }
    return config


# ---- Acknowledgements to Redis of which the answer may be lost
#
# kombu counts a message as unacknowledged until Redis has answered that it is taken out. Where that answer is lost it
# logs so and goes on, and the message takes a place of the prefetch window for as long as the worker lives: a worker
# with one process then receives nothing any more, and says nothing.

log = structlog.get_logger(__name__)

_NEXT = "it comes again after the visibility timeout"


class Acknowledgements(unreadable.CheckedQoS):
    """Asks a second time, and gives the place in the window back whatever comes of it."""

    def ack(self, delivery_tag: str) -> None:
        """Take a message out of Redis. Safe to ask twice: what is out already stays out.

        One that cannot be taken out comes again after the visibility timeout, when its stage will be another's or done.
        """
        errors = self._errors
        try:
            self._take_out(delivery_tag)
        except errors:
            try:
                self._take_out(delivery_tag)
            except errors as exc:
                log.warning(
                    "message.not_acknowledged", delivery_tag=delivery_tag, error=str(exc), next="it comes again"
                )
        finally:
            virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 -- kombu's signature
        """Take a message out, or put it back."""
        if not requeue:
            self.ack(delivery_tag)
            return
        try:
            super().reject(delivery_tag, requeue=True)
        except self._errors as exc:
            log.warning("message.not_put_back", delivery_tag=delivery_tag, error=str(exc), next=_NEXT)
            virtual.QoS.ack(self, delivery_tag)

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        errors: tuple[type[Exception], ...] = self.channel.connection_errors  # type: ignore[attr-defined]  # untyped
        return errors

    def _take_out(self, delivery_tag: str) -> None:
        self._mended(lambda: self._remove_from_indices(delivery_tag).execute())  # type: ignore[attr-defined]  # the stubs leave it out


# ---- No scripts in Redis
#
# Whoever may run a script can stop the server with one that does not end, so no role may (devstack.redis_users). kombu
# has two uses for them, which plain commands serve as well: the lock under which unacknowledged messages are looked
# through, and an end for the bindings of queues of answers, which their askers take away themselves.


@contextmanager
def _mutex(client: Any, name: str, expire: float) -> Iterator[None]:  # noqa: ANN401 -- a redis client
    """Hold the lock; where another took it over meanwhile, both have put messages back, each of them once."""
    mine = uuid.uuid4().hex
    if not client.set(name, mine, nx=True, ex=expire):
        raise transport.MutexHeld
    try:
        yield
    finally:
        held = client.get(name)
        if held in (mine, mine.encode()):
            client.delete(name)


class ScriptlessChannel(unreadable.CheckedChannel):
    """A channel to Redis that needs no scripts, and acknowledges so that nothing is lost."""

    QoS = Acknowledgements

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        expires: dict[str, int] = self._expires  # type: ignore[attr-defined]  # the stubs leave it out
        kept = expires.pop(queue, None)
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[misc]  # as above
        finally:
            if kept is not None:
                expires[queue] = kept

    def maybe_refresh_binding_expiry(self) -> None:
        """Nothing, since bindings have no end."""


def install() -> None:
    """Every channel to Redis of this process acknowledges so, reads what can be read, and runs no script."""
    unreadable.install(ScriptlessChannel)
    transport.Mutex = _mutex


def create_app(settings: Settings, role: Role | None = None) -> Celery:
    """The application of this process, made current so that the tasks belong to it."""
    wait_while_redis_cannot_serve()
    app = Celery("acis")
    app.conf.update(celery_config(settings, role))
    app.steps["worker"].add(DrainStep)
    install()
    app.set_default()
    return app
