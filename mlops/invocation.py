"""Who runs the present command, and which: what the ledger records of runs that are asked for on a command line."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path


def command() -> str:
    """`acis check`, `drift_detector.py`, or the program that imported the documented functions."""
    program = Path(sys.argv[0]).name
    if not program or program.startswith("-"):  # an interpreter, or `python -c`
        return "python"
    subcommand = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return f"{program} {subcommand}".strip() if program == "acis" else program


def command_line_actor() -> str:
    """The user of the operating system and the command, as in `jo (acis check)`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unnamed user"
    return f"{user} ({command()})"
