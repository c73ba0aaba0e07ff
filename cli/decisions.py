"""`acis explain`, `acis approve`, `acis reject`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.invocation import command_line_actor
from mlops.runs.command_line import AsJson, EveryStrategy, OnWorkers, RunId, Tags, chosen, command

if TYPE_CHECKING:
    from mlops.domain.records import RunView
    from mlops.runs.approval import Answer


@command
def explain(
    run_id: RunId,
    replay: Annotated[bool, typer.Option("--replay", help="Only compute the decision again and compare.")] = False,
    json: AsJson = False,
) -> int:
    """Why a run decided as it did, and whether the ledger alone gives the same again. Exit code 1 where it does not."""
    from mlops.domain.errors import RunNotFound
    from mlops.domain.promotion.evidence import replay as replayed
    from mlops.domain.promotion.explanation import explanation
    from mlops.reporting.terminal import FINDING, OK, out, print_json
    from tasks.services import connect

    ledger = connect().ledger
    view = ledger.run(ledger.full_run_id(run_id))
    promotion = ledger.promotion_of(view.run_id)
    if promotion is None:
        message = f"run {view.run_id} of {view.strategy} is {view.state} and decided about no version"
        raise RunNotFound(message)
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
