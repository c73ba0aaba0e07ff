"""A connection to the broker for whoever has other work too."""

from __future__ import annotations

from celery import Celery
from kombu import Connection


def impatient_connection(app: Celery) -> Connection:
    """A connection that gives up after a second try: a pass has work that needs no Redis."""
    options = {"socket_timeout": 5, "socket_connect_timeout": 3, "max_retries": 1}
    return app.connection_for_write(transport_options=options)
