"""`mlflow …` as the command does it, but for `mlflow server`, which serves in this process.

The command starts uvicorn as a child, which imports all of MLflow a second time: twice the work before an answer,
and 250 MB for a parent that only waits. `make run` starts this module, and the image has it as its `mlflow`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

_READ_WITH_THE_SERVER = {
    "--allowed-hosts": "MLFLOW_SERVER_ALLOWED_HOSTS",
    "--cors-allowed-origins": "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "--x-frame-options": "MLFLOW_SERVER_X_FRAME_OPTIONS",
}
"""Options that `mlflow.server` reads from the environment while it is imported: here before the command sets them."""


def main(arguments: Sequence[str]) -> None:
    """Run the command; where it is a server of one worker, do not return before that ends."""
    if arguments[:1] == ["server"] and _is_of_one_process(arguments):
        import uvicorn  # noqa: F401, PLC0415 -- by whose presence `mlflow.server` knows that it serves
        from mlflow import server  # noqa: PLC0415 -- takes seconds

        server._exec_cmd = serve  # noqa: SLF001 -- the one place where it starts the child
        # uvicorn raises the signal again that ended it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit(0))
    from mlflow import cli  # noqa: PLC0415

    cli.cli([*arguments])


def _is_of_one_process(arguments: Sequence[str]) -> bool:
    """Whether the server is uvicorn with one worker; the environment then has what it reads early."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--workers", "--gunicorn-opts", "--waitress-opts", *_READ_WITH_THE_SERVER):
        parser.add_argument(option)
    given = {f"--{name.replace('_', '-')}": one for name, one in vars(parser.parse_known_args(arguments)[0]).items()}
    os.environ.update({name: given[option] for option, name in _READ_WITH_THE_SERVER.items() if given[option]})
    return given["--workers"] == "1" and not given["--gunicorn-opts"] and not given["--waitress-opts"]


def serve(command: Sequence[str], *, extra_env: Mapping[str, str], **_: Any) -> NoReturn:  # noqa: ANN401
    """Do here what `PYTHON -m uvicorn OPTIONS APP` would do in a child, and exit as it would."""
    from uvicorn.main import main as uvicorn_command  # noqa: PLC0415

    os.environ.update(extra_env)
    uvicorn_command([*command[3:]])
    raise SystemExit


if __name__ == "__main__":
    main(sys.argv[1:])
