"""The part of Celery's worker that begins a drain however the worker is ended: by a signal, or from Flower's page.

Celery tells nobody of a shutdown that was asked for remotely, but closes every step before it waits for the pool.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from config.settings import load_settings
from worker.draining import begin_drain


class DrainStep(bootsteps.StartStopStep):
    """Of the worker's blueprint."""

    def close(self, parent: Any) -> None:  # noqa: ANN401, ARG002 -- the base class's signature
        """Before the pool is waited for; a second time does nothing."""
        begin_drain(load_settings().var_dir)
