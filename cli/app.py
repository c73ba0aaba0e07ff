"""`acis`: the console command. A command's imports happen on use, so `acis --help` is quick."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Annotated

import typer

from cli import (
    backfill,
    backup,
    champions,
    drift,
    evaluation,
    experiment_evaluation,
    experiments,
    fleet,
    history,
    labels,
    live,
    runs,
    selftest,
    servers,
)
from config.secret_files import read_secret_files
from mlops import tracing
from mlops.drift_detection.drift_detector import check
from mlops.invocation import command_log
from mlops.mlflow.train_with_mlflow import train
from mlops.retraining.auto_retrain import retrain

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


#: They start and stop what is traced, and `up` serves for days.
_NOT_TRACED = ("up", "stop", "status", "clean")


@app.callback()
def common(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the log on standard error; else var/log/commands.log has it.")
    ] = False,
) -> None:
    """Keeps trading-strategy models fresh, and lets no bad one into production."""
    command_log(verbose=verbose)
    if tracing.is_wanted() and context.invoked_subcommand not in _NOT_TRACED:
        with suppress(ValueError):  # the command's settings say it
            read_secret_files(os.environ)  # the collector's headers may be one
        tracing.begin("command", calls=True)
        context.with_resource(tracing.traced(f"acis {context.invoked_subcommand}"))


app.command("up")(servers.up)
app.command("status")(servers.status)
app.command("stop")(servers.stop)
app.command("secrets")(servers.secrets)
app.command("clean")(servers.clean)
app.command("migrate")(servers.migrate)
app.command("load-sample")(servers.load_sample)
app.command("demo")(servers.demo)
app.command("server-users")(servers.server_users)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("quarantine")(backup.quarantine)
app.command("strategies")(fleet.strategies)
app.command(
    "pause",
    help="Pause scheduled jobs: they open nothing until they are resumed. Exit code 1 where any strategy failed.",
)(fleet.pausing(paused=True))
app.command("resume", help="Resume scheduled jobs, from their next time on. Exit code 1 where any strategy failed.")(
    fleet.pausing(paused=False)
)
app.command("run")(fleet.run)
app.command("check")(check)
app.command("train")(train)
app.command("retrain")(retrain)
app.command("promote")(champions.promote)
app.command("rollback")(champions.rollback)
app.command("compare")(champions.compare)
app.add_typer(runs.app, name="registry")
app.command("explain")(champions.explain)
app.command(
    "approve",
    help="Put what runs proposed into Production. Exit code 1 where one is refused, for the champion moved meanwhile."
    "\n\nWith --tag or --all: the newest decision that waits of each such strategy, answered on the workers.",
)(champions.answering("approve"))
app.command(
    "reject",
    help="Refuse what runs proposed; their versions go to Archived. --tag and --all: as for approve.",
)(champions.answering("reject"))
app.command("runs")(runs.runs)
app.command("cancel")(runs.cancel)
app.command("requeue")(runs.requeue)
app.command("predict")(live.predict)
app.command("live")(live.live)
app.add_typer(experiments.app, name="experiment")
app.command("report")(history.report)
app.command("drift-history")(history.drift_history)
app.command("policy")(fleet.policy)
app.command("users")(fleet.users)
app.command("backfill")(backfill.backfill)
app.command("doctor")(backup.doctor)
app.command("housekeeping")(backup.housekeeping)
app.command("evaluate-drift")(drift.evaluate_drift)
app.command("leak-check")(evaluation.leak_check)
app.command("evaluate-training")(evaluation.evaluate_training)
app.command("evaluate-refit")(evaluation.evaluate_refit)
app.command("evaluate-live")(evaluation.evaluate_live)
app.command("evaluate-experiments")(experiment_evaluation.evaluate_experiments)
app.command("evaluate-labels")(labels.evaluate_labels)
app.command("selftest")(selftest.selftest)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
