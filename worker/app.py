"""Makes the Celery application."""

from __future__ import annotations

import structlog
from celery import Celery
from kombu.transport import virtual
from kombu.transport.redis import Channel, QoS

from config.settings import Settings
from tasks.broker import wait_while_redis_is_full
from worker.celery_config import celery_config
from worker.draining import DrainStep
from worker.routing import Role

# ---- Acknowledgements to Redis of which the answer may be lost
#
# kombu counts a message as unacknowledged until Redis has answered that it is taken out. Where that answer is lost it
# logs so and goes on, and the message takes a place of the prefetch window for as long as the worker lives: a worker
# with one process then receives nothing any more, and says nothing. Installed by `worker.app`.

log = structlog.get_logger(__name__)

_NEXT = "it comes again after the visibility timeout"


class Acknowledgements(QoS):
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
        self._remove_from_indices(delivery_tag).execute()  # type: ignore[attr-defined]  # the stubs leave it out


def install() -> None:
    """Every channel to Redis of this process acknowledges so."""
    Channel.QoS = Acknowledgements


def create_app(settings: Settings, role: Role | None = None) -> Celery:
    """The application of this process, made current so that the tasks belong to it."""
    wait_while_redis_is_full()
    app = Celery("acis")
    app.conf.update(celery_config(settings, role))
    app.steps["worker"].add(DrainStep)
    install()
    app.set_default()
    return app
