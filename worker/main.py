"""What `celery -A worker.main` loads: the application, from the environment's settings."""

from __future__ import annotations

import gc
import os

from config.log_setup import set_up_logging
from config.settings import load_settings
from worker.app import create_app
from worker.routing import ROLES

if "WORKER_ROLE" in os.environ:
    # What is imported from here on stays: to look for garbage meanwhile takes a seventh of a worker's start.
    gc.disable()  # until `worker.signals` has it enabled again, here and in each child
settings = load_settings()
set_up_logging(level=settings.log_level, style=settings.log_format)
# Set by `python -m worker ROLE`, which is how every worker is started.
app = create_app(settings, ROLES.get(os.environ.get("WORKER_ROLE", "")))
