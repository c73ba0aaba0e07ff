"""`acis promote`, `rollback`, `compare`, `explain`, `approve` and `reject`: which version is in production, and why."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.invocation import command_line_actor
from mlops.runs.command_line import (
    AsJson,
    EveryStrategy,
    MinAccuracy,
    OnWorkers,
    StrategyName,
    Tags,
    chosen,
    command,
    run_option,
)

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

    from mlops.bootstrap import Services
    from mlops.domain.records import RunView
    from mlops.reporting.terminal import StageDisplay
    from mlops.runs.approval import Answer


@command
def promote(
    strategy: StrategyName,
    version: Annotated[str | None, run_option("version")] = None,
    min_accuracy: MinAccuracy = None,
    override: Annotated[str | None, run_option("override", metavar="REASON")] = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> int:
    """Judge a challenger and put it into Production where the policy allows. Exit code 1 where it is refused."""
    from mlops.domain.records import Kind
    from mlops.runs.launch import command_run
    from tasks.services import connect

    services = connect()
    return _decided(
        lambda display: command_run(
            services,
            strategy,
            Kind.PROMOTE,
            display,
            queue=queue,
            version=version,
            min_accuracy=min_accuracy,
            override=override,
        ),
        json=json,
    )


@command
def rollback(
    strategy: StrategyName,
    to: Annotated[str, typer.Option(help="Former champion that becomes the champion again.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the promotion.")],
    queue: OnWorkers = False,
    json: AsJson = False,
) -> int:
    """Make a former champion the champion again; any other version is refused, since it passed no gate."""
    from mlops.invocation import command_line_actor
    from mlops.reporting.terminal import OK, out, print_json
    from mlops.runs.launch import launch
    from mlops.runs.request import rollback_request
    from tasks.services import connect

    services = connect()
    if services.ledger.champion(strategy).version == to:
        words = f"version {to} is the champion of {strategy!r} already; nothing was changed"
        print_json({"strategy": strategy, "version": to, "words": words}) if json else out.print(words)
        return OK
    request = rollback_request(
        services.policies, services.ledger, strategy, to, reason=reason, requested_by=command_line_actor()
    )
    return _decided(
        lambda display: launch(services, request, queue=queue, on_accept=display.accepted, on_stage=display.stage),
        json=json,
    )


@command
def compare(
    strategies: Annotated[list[str] | None, typer.Argument(help="Default: all strategies.")] = None,
    stage: Annotated[str, typer.Option(help="Production, Staging, Archived or None.")] = "Production",
    version: Annotated[
        list[str] | None, typer.Option(help="Twice, with one strategy: the second is tested against the first.")
    ] = None,
    json: AsJson = False,
) -> int:
    """Metrics of the strategies' models in one stage side by side, or of two versions of one strategy with the test."""
    from mlops.domain.errors import ConfigurationError
    from mlops.mlflow.mlflow_client import ACISMLflowClient
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    if version:
        if len(version) != 2 or len(strategies or []) != 1:
            message = "two versions of one strategy are compared: acis compare STRATEGY --version 1 --version 2"
            raise ConfigurationError(message)
        return _compare_versions(services, (strategies or [""])[0], version[0], version[1], json)
    names = [services.strategies[name].model_name for name in strategies or services.strategies]
    frame = ACISMLflowClient().compare_models(names, stage=stage)
    if json:
        print_json(frame.astype(object).where(frame.notna(), None).to_dict("records"))
    else:
        out.print(_side_by_side(frame) if len(frame) else f"No model is in stage {stage}.")
    return 0


def _side_by_side(frame: DataFrame) -> Table:
    """One row per model; metrics that no model has are left out."""
    from rich.table import Table

    named = [name for name in frame.columns if name not in ("model_name", "version") and frame[name].notna().any()]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for name in ("version", *named):
        table.add_column(name.replace("_", " "), justify="right", overflow="fold", min_width=5)
    for row in frame.to_dict("records"):
        cells = ["" if row[name] != row[name] else f"{row[name]:.3f}" for name in named]
        table.add_row(str(row["model_name"]), f"v{row['version']}", *cells)
    return table


def _compare_versions(services: Services, strategy: str, first: str, second: str, json: bool) -> int:
    from rich.table import Table

    from mlops.domain.training.metric_names import COUNTS
    from mlops.reporting.terminal import out, print_json
    from mlops.stages.paired_evaluation import compare_versions

    found = compare_versions(
        services.ledger,
        services.registry,
        services.source,
        services.policies[strategy],
        first,
        second,
        today=services.feature_day(),
    )
    if json:
        print_json(found)
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("as logged, on its own held-out dates")
    for one in (found.champion, found.challenger):
        table.add_column(f"v{one.version} ({one.stage})", justify="right")
    for name in sorted(set(found.champion.metrics) | set(found.challenger.metrics)):
        cells = [one.metrics.get(name) for one in (found.champion, found.challenger)]
        form = ",.0f" if name in COUNTS else ".4f"
        table.add_row(name, *("" if cell is None else format(cell, form) for cell in cells))
    out.print(table)
    for line in (f"v{second} against v{first}: {found.words}", *found.findings):
        out.print(line, markup=False)
    return 0


def _decided(run: Callable[[StageDisplay], RunView], *, json: bool) -> int:
    from mlops.domain.records import RunState
    from mlops.reporting.narrative import is_error
    from mlops.reporting.terminal import ERROR, FINDING, OK
    from mlops.runs.launch import shown

    view = shown(run, json=json)
    if is_error(view):
        return ERROR
    return OK if view.state is RunState.SUCCEEDED else FINDING


# ---- `acis explain`, `acis approve`, `acis reject`


@command
def explain(
    run_id: Annotated[
        str | None, typer.Argument(help="A run's id, or the beginning of it that `acis runs` shows.")
    ] = None,
    experiment: Annotated[
        int | None, typer.Option(help="Instead of a run, the experiment that a decision ended.")
    ] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Only compute the decision again and compare.")] = False,
    json: AsJson = False,
) -> int:
    """Why a run decided as it did, and whether the ledger alone gives the same again. Exit code 1 where it does not."""
    from mlops.domain.errors import ConfigurationError, ExperimentNotFound, RunNotFound
    from mlops.domain.promotion.evidence import replay as replayed
    from mlops.domain.promotion.explanation import explanation
    from mlops.reporting.terminal import FINDING, OK, out, print_json
    from tasks.services import connect

    ledger = connect().ledger
    if experiment is not None and run_id is None:
        ended = ledger.experiment(experiment)
        promotion = None if ended.promotion_id is None else ledger.promotion(ended.promotion_id)
        if promotion is None:
            how = f"ended as {ended.end}: {ended.end_words}; no decision was made" if ended.end else "runs"
            raise ExperimentNotFound(
                f"experiment {ended.id} of {ended.strategy} {how}; `acis experiment show {ended.id}`"
            )
    elif run_id is not None and experiment is None:
        view = ledger.run(ledger.full_run_id(run_id))
        promotion = ledger.promotion_of(view.run_id)
        if promotion is None:
            message = f"run {view.run_id} of {view.strategy} is {view.state} and decided about no version"
            raise RunNotFound(message)
    else:
        raise ConfigurationError("one decision is explained: give a run's id, or --experiment and its id")
    again = replayed(promotion.evidence, promotion.evidence_digest)
    if json:
        print_json({"promotion": promotion, "replay": again})
    elif replay:
        out.print(again.words if again else "its evidence is of an earlier version and cannot be computed again")
    else:
        out.print("\n".join(explanation(promotion, again)), markup=False)
    return OK if again is None or again.agrees else FINDING


def answering(answer: Answer) -> Callable[..., None]:
    """The command `acis approve` or `acis reject`."""

    @command
    def approve_or_reject(
        reason: Annotated[str, typer.Option(help="Why; kept with the decision.")],
        run_ids: Annotated[
            list[str] | None,
            typer.Argument(metavar="[RUN_ID]...", help="Ids of runs, or the beginnings that `acis runs` shows."),
        ] = None,
        tag: Tags = None,
        everything: EveryStrategy = False,
        digest: Annotated[
            str | None, typer.Option(help="Digest of the evidence that you looked at; refused where it is another.")
        ] = None,
        queue: OnWorkers = False,
        json: AsJson = False,
    ) -> int:
        from mlops.reporting.terminal import guarded, print_json

        if tag or everything:
            if run_ids or digest:
                raise typer.BadParameter("give run ids, or --tag or --all; a digest belongs to one run")
            return _answer_waiting(answer, tag, everything, reason, json)
        if not run_ids:
            raise typer.BadParameter("no run is named; give a run's id, or --tag TAG, or --all for all that waits")
        if digest and len(run_ids) > 1:
            raise typer.BadParameter("a digest belongs to one run; answer that one by itself", param_hint="--digest")
        views: list[RunView] = []
        code = max(guarded(partial(_answer, run_id, answer, reason, digest, queue, json, views)) for run_id in run_ids)
        if json and views:
            print_json(views if len(run_ids) > 1 else views[0])
        return code

    return approve_or_reject


def _answer_waiting(answer: Answer, tag: list[str] | None, everything: bool, reason: str, json: bool) -> int:
    from mlops.reporting.terminal import FINDING, OK, out, print_json
    from mlops.runs.bulk import Asker, answer_waiting, summed_up, waiting_of
    from tasks.services import connect

    services = connect()
    waiting = waiting_of(services, chosen(services.strategies, None, tag, everything=everything))
    seen = {one.run_id: one.evidence_digest for one in waiting.values()}
    by = Asker(actor=command_line_actor())
    outcomes = answer_waiting(services, list(waiting), seen, answer=answer, by=by, reason=reason)
    if json:
        print_json({"strategies": outcomes})
    elif outcomes:
        done = "Approved" if answer == "approve" else "Rejected"
        out.print("\n".join(summed_up(outcomes, done)), markup=False)
    else:
        out.print("Nothing of them waits for approval.")
    return FINDING if any(one.error for one in outcomes) else OK


def _answer(
    run_id: str, answer: Answer, reason: str, digest: str | None, queue: bool, json: bool, views: list[RunView]
) -> int:
    from mlops.domain.records import Accepted, Stage
    from mlops.reporting.narrative import error_of, is_error, result_of
    from mlops.reporting.terminal import ERROR, FINDING, OK, StageDisplay, err
    from mlops.runs.approval import approval_request, refuse_joined
    from mlops.runs.launch import launch
    from tasks.services import connect

    services = connect()
    request = approval_request(
        services.ledger,
        services.registry,
        services.ledger.full_run_id(run_id),
        answer=answer,
        actor=command_line_actor(),
        reason=reason,
        digest=digest,
    )
    display = StageDisplay(quiet=json)

    def opened(accepted: Accepted) -> None:
        refuse_joined(accepted, request)

    with display.live():
        view = launch(services, request, queue=queue, on_accept=opened, on_stage=display.stage)
    views.append(view)
    if is_error(view) and not json:
        err.print(f"Error: {error_of(view)}", style="red", markup=False)
    if is_error(view):
        return ERROR
    return OK if result_of(view, Stage.PROMOTE).get("answered") == answer else FINDING
