"""`acis housekeeping`."""

from __future__ import annotations

from dataclasses import asdict

from mlops.runs.command_line import AsJson, command


@command
def housekeeping(json: AsJson = False) -> int:
    """Take away what is older than the settings ACIS_KEEP_*_DAYS say; the reconciler does it every hour."""
    from mlops.housekeeping import tidy
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    tidied = asdict(tidy(connect()))
    if json:
        print_json(tidied)
    else:
        taken = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in tidied.items() if n)
        out.print(f"Taken away: {taken}." if taken else "Nothing is old.")
    return 0
