"""Secrets from files: containers mount them in a folder, where no `inspect` or `describe` shows them.

Each file is named as the variable that it stands for (`DATABASE_URL`) and holds its value; ACIS_SECRETS_DIR names the
folder. Every process reads it at its edge, with its settings. A program of others, which knows variables alone, is
started by

    python -m config.secret_files mlflow server …
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from config.roles import SECRETS, SERVER_PASSWORDS, TRACE_HEADERS

VARIABLE = "ACIS_SECRETS_DIR"


def read_secret_files(environ: MutableMapping[str, str]) -> None:
    """Set the variables that the folder has a file of; one that is set already wins, so children see what we see.

    A line's end behind the value is no part of it; a file that is empty sets nothing. Raises ValueError where the
    folder, or a file in it, cannot be read.
    """
    folder = environ.get(VARIABLE)
    if not folder:
        return
    try:
        known = SECRETS | SERVER_PASSWORDS | {TRACE_HEADERS}
        names = known.intersection(file.name for file in Path(folder).iterdir())
        for name in sorted(names):
            value = Path(folder, name).read_text(encoding="utf-8").rstrip("\r\n")
            if value and not environ.get(name):
                environ[name] = value
    except OSError as exc:
        raise ValueError(f"{VARIABLE} ({folder}): {exc.strerror} ({exc.filename}); it is a folder of files") from exc


def main(command: list[str]) -> int:
    """Become the command, with the secrets in its environment; 2 where there is none, or no secret can be read."""
    if not command:
        sys.stderr.write("usage: python -m config.secret_files COMMAND [ARGUMENT …]\n")
        return 2
    try:
        read_secret_files(os.environ)
        os.execvp(command[0], command)  # noqa: S606
    except (ValueError, OSError) as exc:
        sys.stderr.write(f"{command[0]}: {exc}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
