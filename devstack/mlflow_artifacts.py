"""The place of MLflow's artifacts: looked at before the server starts, and named when it refuses.

MLflow itself says healthy whatever its store does, and answers what fails there with 500 and no word. Loaded by the
MLflow server alone.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from mlops.addresses import without_credentials
from mlops.registry import s3
from mlops.volumes import says_full

FINAL, PASSING = "INVALID_STATE", "TEMPORARILY_UNAVAILABLE"
"""MLflow's codes of what only a person can change, and of what may pass."""
_CHECK = "acis-check"

log = logging.getLogger("uvicorn.artifacts")


def ensure_artifacts(destination: str, open_store: Callable[[str], Any]) -> None:
    """Write, list and remove a file. Raises SystemExit, in words: a server that keeps no artifact must not seem well.

    destination : a folder, or a URL such as `s3://bucket/prefix`    open_store : MLflow's own
    """
    place = f"{_CHECK}-{secrets.token_hex(8)}"
    try:
        store = open_store(destination)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "check.txt")
            file.write_text("is it kept?", encoding="utf-8")
            store.log_artifact(str(file), place)
        found = [Path(one.path).name for one in store.list_artifacts(place)]
        store.delete_artifacts(place)
    except Exception as exc:
        if says_full(exc):  # what waits for room goes on by itself, and the registry is of use meanwhile
            log.warning("no room for artifacts at %s: %s", _shown(destination), exc)
            return
        raise SystemExit(
            f"MLflow is not started: it cannot keep files at {_shown(destination)}: {s3.in_words(exc)}"
        ) from exc
    if found != ["check.txt"]:
        raise SystemExit(
            f"MLflow is not started: what was written to {_shown(destination)} could not be found again; "
            "correct MLFLOW_ARTIFACT_ROOT"
        )


def name_failures(app: Any, flask: Any, destination: str) -> None:  # noqa: ANN401 -- FastAPI and Flask
    """Have both halves of MLflow answer a failure of S3 in MLflow's own form, with a word for it."""
    try:
        from boto3.exceptions import Boto3Error  # noqa: PLC0415 -- an extra
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError:
        return
    from fastapi.responses import JSONResponse  # noqa: PLC0415

    async def by_fastapi(_request: object, exc: Exception) -> JSONResponse:
        body, status = _answer(exc, destination)
        return JSONResponse(body, status_code=status)

    for kind in (BotoCoreError, ClientError, Boto3Error):
        app.add_exception_handler(kind, by_fastapi)
        flask.register_error_handler(kind, lambda exc: _answer(exc, destination))


def _answer(exc: Exception, destination: str) -> tuple[dict[str, str], int]:
    words = f"the store of the artifacts, {_shown(destination)}, refuses or does not answer: {s3.in_words(exc)}"
    log.warning(words)
    # No status that the client tries again by itself: it would lose the words, and whoever asked waits better.
    return {"error_code": FINAL if s3.is_final(exc) else PASSING, "message": words}, int(HTTPStatus.CONFLICT)


def _shown(destination: str) -> str:
    return without_credentials(destination)
