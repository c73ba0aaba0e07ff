"""`acis doctor`: what is unsafe or missing, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mlops.runs.command_line import AsJson, command


@command
def doctor(
    each: Annotated[bool, typer.Option("--each", help="A line for each strategy, in place of sums.")] = False,
    json: AsJson = False,
) -> int:
    """Check settings, servers, the ledger and the feature view. Exit code 1 where something must be mended.

    What more than eight strategies have in common is one line with examples; --each, and --json, have every one.
    """
    from pydantic import ValidationError

    from config.settings import Settings, SettingsError, load_settings
    from mlops.diagnosis.answer import Answer, summed_up
    from mlops.diagnosis.doctor import diagnose
    from mlops.reporting.terminal import FINDING, OK, out, print_json

    answers: list[Answer] = []
    try:
        settings = load_settings()
    except SettingsError as exc:
        # A misspelt variable must not hide everything else.
        mend = "correct or unset it; .env.example lists them all"
        answers.append(Answer(subject="settings", level="error", found=str(exc), mend=mend))
        try:
            settings = Settings()
        except ValidationError:
            raise exc from None
    answers += diagnose(settings)
    if json:
        print_json(answers)
    else:
        for answer in answers if each else summed_up(answers):
            mark = {"ok": "✓", "warning": "!", "error": "✗"}[answer.level]
            out.print(f"{mark} {answer.subject}: {answer.found}", markup=False)
            if answer.mend:
                out.print(f"    {answer.mend}", markup=False)
    return FINDING if any(answer.level == "error" for answer in answers) else OK


# ---- `acis housekeeping`


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
