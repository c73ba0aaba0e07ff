"""`acis housekeeping`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from mlops.stages.command_line import AsJson


def housekeeping(json: AsJson = False) -> None:
    """Take away what is older than the settings ACIS_KEEP_*_DAYS say; the reconciler does it every hour."""
    from mlops.bootstrap import connect
    from mlops.housekeeping import tidy
    from mlops.reporting.terminal import guarded, out, print_json

    def body() -> int:
        tidied = asdict(tidy(connect()))
        if json:
            print_json(tidied)
        else:
            taken = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in tidied.items() if n)
            out.print(f"Taken away: {taken}." if taken else "Nothing is old.")
        return 0

    raise typer.Exit(guarded(body))
