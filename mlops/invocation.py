"""Who runs the present command, and which: what the ledger records of runs that are asked for on a command line."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

_shown: list[bool] = []
"""Whether the command's log is on standard error; empty before it was asked for."""


def command_log(*, verbose: bool | None = None) -> None:
    """Send the log of this command where it belongs, once: no line of it between what the command says.

    verbose : None: as it was asked for first, else not
    """
    from config.log_setup import set_up_command_logging  # noqa: PLC0415 -- `acis --help` is quick without
    from config.settings import SettingsError, load_settings  # noqa: PLC0415 -- the same

    if verbose is None and _shown:
        return
    _shown[:] = [bool(verbose)]
    try:
        folder = load_settings().var_dir / "log"
    except SettingsError:  # the command itself says so
        folder = None
    set_up_command_logging(folder, verbose=bool(verbose))


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
