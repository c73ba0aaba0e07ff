"""The admin page of a benchmark's own as a process, and an operator who is signed in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import requests

from config.endpoints import Endpoints
from config.settings import ROOT
from mlops.bootstrap import Services

PASSWORD = "only for this bench"  # noqa: S105 -- a user of a database that is thrown away
START_S = 60.0


@contextmanager
def page(endpoints: Endpoints, var_dir: Path, port: int) -> Iterator[psutil.Process]:
    """`python -m worker admin` until it answers."""
    environment = {
        **os.environ,
        "DATABASE_URL": endpoints.database_url,
        "CELERY_BROKER_URL": endpoints.celery_broker_url,
        "CELERY_RESULT_BACKEND": endpoints.celery_result_backend,
        "MLFLOW_TRACKING_URI": endpoints.settings()["mlflow_tracking_uri"],
        "ACIS_STRATEGIES_FILE": str(endpoints.strategies_file),
        "ACIS_VAR_DIR": str(var_dir),
        "ACIS_ADMIN_PORT": str(port),
        "ACIS_LOG_LEVEL": "WARNING",
    }
    with (var_dir / "admin.log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "worker", "admin"], env=environment, cwd=ROOT, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                if requests.get(f"http://127.0.0.1:{port}/healthz", timeout=1).ok:
                    break
            except requests.RequestException:
                time.sleep(0.1)
        else:
            raise SystemExit((var_dir / "admin.log").read_text(encoding="utf-8"))
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait(20)


def signed_in(services: Services, home: str) -> requests.Session:
    services.ledger.add_user("anna", PASSWORD, role="operator", created_by="bench")
    session = requests.Session()
    session.headers["accept"] = "text/html"
    form = session.get(f"{home}/admin/sign-in").text
    csrf = re.search(r'name="csrf" value="([^"]+)"', form)
    assert csrf  # noqa: S101 -- else there is nothing to measure
    answer = session.post(f"{home}/admin/sign-in", data={"csrf": csrf[1], "name": "anna", "password": PASSWORD})
    answer.raise_for_status()
    return session
