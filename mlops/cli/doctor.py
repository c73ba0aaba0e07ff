"""`acis doctor`: what is unsafe or missing, and how to mend it."""

from __future__ import annotations

import typer

from mlops.cli.options import AsJson


def doctor(json: AsJson = False) -> None:
    """Check settings, servers, the ledger and the feature view. Exit code 1 where something must be mended."""
    from config.settings import load_settings
    from mlops.console import FINDING, OK, guarded, out, print_json
    from mlops.diagnosis import diagnose

    def body() -> int:
        answers = diagnose(load_settings())
        if json:
            print_json(answers)
        else:
            for answer in answers:
                mark = {"ok": "✓", "warning": "!", "error": "✗"}[answer.level]
                out.print(f"{mark} {answer.subject}: {answer.found}", markup=False)
                if answer.mend:
                    out.print(f"    {answer.mend}", markup=False)
        return FINDING if any(answer.level == "error" for answer in answers) else OK

    raise typer.Exit(guarded(body))
