"""Makes the Celery application."""

from __future__ import annotations

from celery import Celery

from config.settings import Settings
from tasks.broker import wait_while_redis_is_full
from worker import acknowledgement
from worker.celery_config import celery_config
from worker.drain_step import DrainStep
from worker.routing import Role


def create_app(settings: Settings, role: Role | None = None) -> Celery:
    """The application of this process, made current so that the tasks belong to it."""
    wait_while_redis_is_full()
    app = Celery("acis")
    app.conf.update(celery_config(settings, role))
    app.steps["worker"].add(DrainStep)
    acknowledgement.install()
    app.set_default()
    return app
