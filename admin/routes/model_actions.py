"""What an operator does with a model: promote, roll back, approve, reject. Each opens a run; none waits for it."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Form
from starlette.responses import Response

from admin.deadline import within
from admin.pages import Pages
from admin.refusals import NotValid
from admin.request_context import Visit, Visiting
from mlops.domain.errors import InvalidTransition, ModelNotFound, VersionNotFound
from mlops.domain.records import Accepted
from mlops.runs.approval import StaleApproval
from tasks import dispatch

pages = Pages()

MLFLOW_S = 5.0
"""An answer to a question that waits needs MLflow: the version that was judged must still be the one there."""
Reason = Annotated[str, Form(max_length=500)]
Version = Annotated[str, Form(max_length=63)]


@pages.post("/registry/models/{strategy}/promote", action="model.promote")
def promote(visit: Visiting, strategy: str, version: Version, reason: Reason = "") -> Response:
    """A run judges the version against the champion, and promotes it where the policy allows."""
    visit.note(version=version)
    accepted = dispatch.start_promotion(
        strategy,
        version=version,
        reason=reason.strip() or "promotion asked for on the page",
        requested_by=visit.person.actor,
    )
    _refuse_joined(visit, accepted, strategy, {"version": version})
    words = f"Version {version} is judged now, and promoted where the policy allows."
    return _done(visit, words, strategy, accepted)


@pages.post("/registry/models/{strategy}/rollback", action="model.rollback")
def rollback(visit: Visiting, strategy: str, version: Version, reason: Reason = "") -> Response:
    """A former champion becomes the champion again; the reason is kept with the decision. Raises NoRollback."""
    why = _reason(reason, "a rollback")
    visit.note(version=version, reason=why)
    accepted = dispatch.start_rollback(strategy, version=version, reason=why, requested_by=visit.person.actor)
    return _done(visit, f"Version {version} becomes the champion again in a moment.", strategy, accepted)


@pages.post("/registry/models/{strategy}/answer", action="model.answer")
def answer(
    visit: Visiting,
    strategy: str,
    run_id: Annotated[str, Form(max_length=155)],
    digest: Annotated[str, Form(max_length=128)],
    answer: Annotated[Literal["approve", "reject"], Form()],
    reason: Reason = "",
) -> Response:
    """Approve or reject what a run proposed, bound to the evidence that was seen.

    Raises StaleApproval where that is not there any more, RegistryUnavailable where MLflow does not answer in time.
    """
    why = _reason(reason, "an answer")
    visit.note(run_id=run_id, answer=answer, digest=digest, reason=why)
    waiting = visit.ledger.promotion_of(run_id)
    if waiting is None or waiting.strategy != strategy:
        raise StaleApproval(f"run {run_id} proposed nothing for {strategy}; open the page again")
    _ask_for(visit, waiting.model_name, waiting.version)
    accepted = dispatch.approve(run_id, digest, actor=visit.person.actor, reason=why, answer=answer)
    word = "approved; it goes to Production" if answer == "approve" else "rejected; it goes to Archived"
    return _done(visit, f"Version {waiting.version} is {word} in a moment.", strategy, accepted)


def _reason(given: str, what: str) -> str:
    found = given.strip()
    if len(found) < 3:
        raise NotValid(f"{what} needs a reason; it is kept with the decision")
    return found


def _ask_for(visit: Visit, model_name: str, version: str) -> None:
    """Before anything is opened: an MLflow that hangs must not hang the page. What it says is looked at later."""
    try:
        within(MLFLOW_S, lambda: visit.services.registry.version(model_name, version))
    except (ModelNotFound, VersionNotFound):
        return


def _refuse_joined(visit: Visit, accepted: Accepted, strategy: str, wanted: dict[str, str]) -> None:
    """One promotion of a strategy runs at a time. Raises InvalidTransition where it is about something else."""
    if not accepted.created and not wanted.items() <= visit.ledger.run(accepted.run_id).params.items():
        raise InvalidTransition(
            f"run {accepted.run_id} of the same kind is active for {strategy}; ask again when it has ended"
        )


def _done(visit: Visit, words: str, strategy: str, accepted: Accepted) -> Response:
    to = f"/admin/registry/models/{quote(strategy)}"
    return visit.done(words, to=to, run_id=accepted.run_id, created=accepted.created)
