"""`acis backup`, `restore`, `quarantine`, `doctor` and `housekeeping`: keeping the system in health."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mlops.runs.command_line import AsJson, command

Folder = Annotated[Path, typer.Argument(help="Folder of the backup.")]
_MlflowDatabase = Annotated[
    str | None,
    typer.Option(
        "--mlflow-database",
        envvar="MLFLOW_BACKEND_STORE_URI",
        help="MLflow's own database; by default `mlflow` on the ledger's server.",
    ),
]
_LedgerOnly = Annotated[
    bool, typer.Option("--ledger-only", help="MLflow's database and artifacts are kept by other means.")
]
Artifacts = Annotated[
    str | None,
    typer.Option("--artifacts", help="Folder of MLflow's artifacts; by default MLFLOW_ARTIFACT_ROOT, or make run's."),
]


@command
def backup(
    folder: Folder,
    mlflow_database: _MlflowDatabase = None,
    artifacts: Artifacts = None,
    ledger_only: _LedgerOnly = False,
    json: AsJson = False,
) -> int:
    """Copy ledger, MLflow's database, artifacts and strategies into a new folder, with a digest of each file."""
    from config.settings import load_settings
    from devstack.backup import back_up
    from mlops.reporting.terminal import err, out, print_json

    made = back_up(
        load_settings(),
        folder,
        mlflow_database=mlflow_database,
        artifacts=artifacts,
        ledger_only=ledger_only,
        say=lambda words: err.print(words, markup=False),
    )
    if json:
        print_json(made)
    else:
        out.print(
            f"{folder}: {len(made.files)} files, {sum(made.rows.values()):,} rows of the ledger as of "
            f"{made.made_at:%Y-%m-%d %H:%M:%S} UTC.",
            markup=False,
        )
    return 0


@command
def restore(
    folder: Folder,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also in the place of a ledger that holds runs; they are lost.")
    ] = False,
    mlflow_database: _MlflowDatabase = None,
    artifacts: Artifacts = None,
    ledger_only: _LedgerOnly = False,
    json: AsJson = False,
) -> int:
    """Put a backup in the place of what is there, after its digests were verified; the ledger in one transaction."""
    from config.settings import load_settings
    from devstack.backup import restore as restore_backup
    from mlops.reporting.terminal import err, out, print_json

    restored = restore_backup(
        load_settings(),
        folder,
        overwrite=overwrite,
        mlflow_database=mlflow_database,
        artifacts=artifacts,
        ledger_only=ledger_only,
        say=lambda words: err.print(words, markup=False),
    )
    if json:
        print_json(restored)
    else:
        out.print(
            f"The ledger is that of {restored.made_at:%Y-%m-%d %H:%M:%S} UTC. The reconciler looks through Redis, "
            "MLflow and the checkpoints for what came later; `acis quarantine` lists what the ledger does not "
            "know.",
            markup=False,
        )
    return 0


@command
def quarantine(
    release: Annotated[
        tuple[str, str] | None,
        typer.Option("--release", metavar="KIND NAME", help="Treat it like any other from now on."),
    ] = None,
    delete: Annotated[
        tuple[str, str] | None, typer.Option("--delete", metavar="KIND NAME", help="Take it away where it lies.")
    ] = None,
    json: AsJson = False,
) -> int:
    """What MLflow and the checkpoints hold of a time that the ledger does not know, since it was set back."""
    from mlops.invocation import command_line_actor
    from mlops.registry import quarantine as quarantines
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    if release is not None:
        quarantines.release(services, *release, actor=command_line_actor())
    if delete is not None:
        quarantines.delete(services, *delete, actor=command_line_actor())
    left = services.ledger.quarantined()
    if json:
        print_json({"quarantined": left})
        return 0
    for one in left:
        out.print(f"{one.kind} {one.name}: {one.reason}", markup=False)
    out.print(f"{len(left)} in quarantine." if left else "Nothing is in quarantine.")
    return 0


# ---- `acis doctor`: what is unsafe or missing, and how to mend it


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
