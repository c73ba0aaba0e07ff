"""`acis explain`, `acis approve`, `acis reject`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops.cli.options import AsJson, OnWorkers, RunId
from mlops.invocation import command_line_actor

if TYPE_CHECKING:
    from mlops.retraining.approval import Answer

_Digest = Annotated[
    str | None, typer.Option(help="Digest of the evidence that you looked at; refused where it is another.")
]
_Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]


def explain(
    run_id: RunId,
    replay: Annotated[bool, typer.Option("--replay", help="Only compute the decision again and compare.")] = False,
    json: AsJson = False,
) -> None:
    """Why a run decided as it did, and whether the ledger alone gives the same again. Exit code 1 where it does not."""
    from mlops.bootstrap import connect
    from mlops.console import FINDING, OK, guarded, out, print_json
    from mlops.errors import RunNotFound
    from mlops.promotion.evidence import replay as replayed
    from mlops.promotion.explanation import explanation

    def body() -> int:
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

    raise typer.Exit(guarded(body))


def approve(
    run_id: RunId, reason: _Reason, digest: _Digest = None, queue: OnWorkers = False, json: AsJson = False
) -> None:
    """Put what a run proposed into Production. Exit code 1 where it is refused, for the champion moved meanwhile."""
    raise typer.Exit(_answer(run_id, "approve", reason, digest, queue, json))


def reject(
    run_id: RunId, reason: _Reason, digest: _Digest = None, queue: OnWorkers = False, json: AsJson = False
) -> None:
    """Refuse what a run proposed; its version goes to Archived."""
    raise typer.Exit(_answer(run_id, "reject", reason, digest, queue, json))


def _answer(run_id: str, answer: Answer, reason: str, digest: str | None, queue: bool, json: bool) -> int:
    from config.log_setup import set_up_logging
    from mlops.bootstrap import connect
    from mlops.console import ERROR, FINDING, OK, StageDisplay, err, guarded, print_json
    from mlops.ledger.records import Accepted, Stage
    from mlops.retraining.approval import approval_request, refuse_joined
    from mlops.retraining.launch import launch
    from mlops.retraining.narrative import error_of, is_error

    set_up_logging(level="WARNING")

    def body() -> int:
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
        if json:
            print_json(view)
        elif is_error(view):
            err.print(f"Error: {error_of(view)}", style="red", markup=False)
        if is_error(view):
            return ERROR
        result = next((stage.result or {} for stage in view.stages if stage.stage is Stage.PROMOTE), {})
        return OK if result.get("answered") == answer else FINDING

    return guarded(body)
