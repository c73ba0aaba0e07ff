"""`mlflow …` as the command does it, but for `mlflow server`, which serves in this process.

The command starts uvicorn as a child, which imports all of MLflow a second time: twice the time until the first answer,
and 300 MB for a parent that only waits. `make run` starts this module, and the image has it as its `mlflow`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

_READ_WITH_THE_SERVER = {
    "allowed_hosts": "MLFLOW_SERVER_ALLOWED_HOSTS",
    "cors_allowed_origins": "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "x_frame_options": "MLFLOW_SERVER_X_FRAME_OPTIONS",
}
"""Options that `mlflow.server` reads from the environment while it is imported: here before the command sets them."""


def main(arguments: Sequence[str]) -> None:
    """Run the command; where it is a server of one worker, do not return before that ends."""
    import uvicorn  # noqa: F401, PLC0415 -- by whose presence `mlflow.server` knows that it serves
    from mlflow import cli  # noqa: PLC0415 -- takes seconds

    if arguments[:1] == ["server"]:
        given = cli.server.make_context("mlflow server", [*arguments[1:]]).params
        os.environ.update({name: given[one] for one, name in _READ_WITH_THE_SERVER.items() if given[one]})
        if str(given["workers"]) == "1" and not given["gunicorn_opts"] and not given["waitress_opts"]:
            from mlflow import server  # noqa: PLC0415

            server._exec_cmd = serve  # noqa: SLF001 -- the one place where it starts the child
            # uvicorn raises the signal again that ended it.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: sys.exit(0))
    cli.cli([*arguments])


def serve(command: Sequence[str], *, extra_env: Mapping[str, str], **_: Any) -> NoReturn:  # noqa: ANN401
    """Do here what `PYTHON -m uvicorn OPTIONS APP` would do in a child, and exit as it would."""
    from uvicorn.main import main as uvicorn_command  # noqa: PLC0415

    os.environ.update(extra_env)
    uvicorn_command([*command[3:]])
    raise SystemExit


if __name__ == "__main__":
    main(sys.argv[1:])
