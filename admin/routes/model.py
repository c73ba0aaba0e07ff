"""One model: its versions beside what MLflow shows, what waits for approval, and the history."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from fastapi import Form
from starlette.responses import Response

from admin import external_links as places
from admin.listing import PAGE_ROWS, at_time, stretch, time_cursor
from admin.model_versions import VersionRow, awaiting, in_registry, version_rows
from admin.pages import Pages
from admin.request_context import Context, RequestContext
from admin.responses import NotValid
from mlops.domain.errors import InvalidTransition, ModelNotFound, RegistryUnavailable, VersionNotFound
from mlops.domain.records import KEPT_ID_LENGTH, Accepted, Kind
from mlops.runs.approval import StaleApproval
from tasks import dispatch

if TYPE_CHECKING:
    from mlops.domain.ports import ModelVersion

# ---- A question to a server that may hang, answered in time or refused

Value = TypeVar("Value")

_AT_ONCE = threading.BoundedSemaphore(8)
"""Questions that hang hold a thread each until their own time is over; no more than these."""


def within(seconds: float, ask: Callable[[], Value]) -> Value:
    """What `ask` returns or raises. Raises RegistryUnavailable where it takes longer; it then ends by itself."""
    slots = _AT_ONCE  # what was taken is given back, whoever puts another in its place
    if not slots.acquire(blocking=False):
        raise RegistryUnavailable("MLflow does not answer, and several questions wait for it; try again in a minute")
    answer: Future[Value] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as exc:  # noqa: BLE001 -- raised where it is waited for
            answer.set_exception(exc)
        finally:
            slots.release()

    # A daemon, so that one that hangs does not hold up the end of the process.
    threading.Thread(target=work, name="within", daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError as exc:
        if answer.done():
            raise
        message = f"MLflow does not answer within {seconds:.0f} s; nothing was done, so try again when it does"
        raise RegistryUnavailable(message) from exc


pages = Pages()

DECISION_ROWS, RUN_ROWS = 20, 5


@pages.get("/registry/models/{strategy}", action="model.read")
def model(context: Context, strategy: str, before: str = "") -> Response:
    """From the ledger; what MLflow shows is as it was at the last look. Raises UnknownStrategy."""
    model_name = context.services.strategies[strategy].model_name
    seen = context.registry_view.get()
    registry = in_registry(seen, model_name)
    line = context.ledger.model_lines([strategy])[strategy]
    found = context.ledger.version_lines(strategy, before=at_time(before), limit=PAGE_ROWS + 1)
    trained = stretch(found, lambda one: time_cursor(one.trained_at, one.run_id))
    decisions = context.ledger.decisions(strategy=strategy, limit=DECISION_ROWS + 1)
    known = context.ledger.version_names(strategy)
    others = [] if before else _others(known, registry, line.version)
    decided = context.ledger.stages_decided(strategy, [*(one.version for one in trained.rows), *others])
    rows = version_rows(trained.rows, decided, registry, line.version, made_by=line.made_by, others=others)
    decided_at = decisions[0].created_at if decisions else None
    is_behind = seen.census is not None and any(row.is_behind(context.now, decided_at) for row in rows)
    if is_behind:
        context.registry_view.hurry()
    return context.show(
        "model.html",
        title=f"Model of {strategy}",
        strategy=strategy,
        model_name=model_name,
        model=line,
        list=trained,
        rows=rows,
        is_behind=is_behind,
        names=_names({*known, *registry, *(one.version for one in decisions)}),
        former=[one.version for one in context.ledger.former_champions(strategy)],
        awaiting=awaiting(context, strategy),
        open_runs=[run for run in context.ledger.open_runs() if run.strategy == strategy],
        runs=context.ledger.run_lines(
            strategy=strategy, kinds=[Kind.PROMOTE, Kind.ROLLBACK, Kind.COMPARE], limit=RUN_ROWS
        ),
        decisions=decisions[:DECISION_ROWS],
        has_more_decisions=len(decisions) > DECISION_ROWS,
        mlflow_error=seen.error,
        mlflow_at=seen.census_at,
        mlflow_page=places.mlflow_model(context.services.settings, model_name),
        chart=_chart(rows),
    )


def _others(known: Collection[str], registry: Mapping[str, ModelVersion], champion: str | None) -> list[str]:
    """Versions that no run trained, as far as MLflow is known; and the champion, wherever it came from."""
    found = [version for version in registry if version not in known]
    return [*found, champion] if champion and champion not in {*known, *found} else found


def _names(versions: Collection[str]) -> list[str]:
    """Versions that can be named in a form, the newest first."""
    return sorted(versions, key=lambda version: (not version.isdecimal(), -int(version) if version.isdecimal() else 0))


def _chart(rows: list[VersionRow]) -> dict[str, Any] | None:
    """Metrics from version to version; None where there are fewer than three."""
    trained = [row.trained for row in reversed(rows) if row.trained]
    if len(trained) < 3:
        return None
    named = {"ROC AUC": "roc_auc", "accuracy": "accuracy", "F1": "f1_score"}
    return {
        "x": [line.trained_at.timestamp() for line in trained],
        "series": [
            {"label": label, "values": [line.metrics.get(name) for line in trained]} for label, name in named.items()
        ],
    }


# ---- What an operator does with a model: promote, roll back, approve, reject. Each opens a run; none waits for it

MLFLOW_S = 5.0
"""An answer to a question that waits needs MLflow: the version that was judged must still be the one there."""
Reason = Annotated[str, Form(max_length=500)]
Version = Annotated[str, Form(max_length=63)]


@pages.post("/registry/models/{strategy}/promote", action="model.promote")
def promote(context: Context, strategy: str, version: Version, reason: Reason = "") -> Response:
    """A run judges the version against the champion, and promotes it where the policy allows."""
    context.note(version=version)
    accepted = dispatch.start_promotion(
        strategy,
        version=version,
        reason=reason.strip() or "promotion asked for on the page",
        requested_by=context.person.actor,
    )
    _refuse_joined(context, accepted, strategy, {"version": version})
    words = f"Version {version} is judged now, and promoted where the policy allows."
    return _done(context, words, strategy, accepted)


@pages.post("/registry/models/{strategy}/rollback", action="model.rollback")
def rollback(context: Context, strategy: str, version: Version, reason: Reason = "") -> Response:
    """A former champion becomes the champion again; the reason is kept with the decision. Raises NoRollback."""
    why = _reason(reason, "a rollback")
    context.note(version=version, reason=why)
    accepted = dispatch.start_rollback(strategy, version=version, reason=why, requested_by=context.person.actor)
    return _done(context, f"Version {version} becomes the champion again in a moment.", strategy, accepted)


@pages.post("/registry/models/{strategy}/answer", action="model.answer")
def answer(
    context: Context,
    strategy: str,
    run_id: Annotated[str, Form(max_length=KEPT_ID_LENGTH)],
    digest: Annotated[str, Form(max_length=128)],
    answer: Annotated[Literal["approve", "reject"], Form()],
    reason: Reason = "",
) -> Response:
    """Approve or reject what a run proposed, bound to the evidence that was seen.

    Raises StaleApproval where that is not there any more, RegistryUnavailable where MLflow does not answer in time.
    """
    why = _reason(reason, "an answer")
    context.note(run_id=run_id, answer=answer, digest=digest, reason=why)
    waiting = context.ledger.promotion_of(run_id)
    if waiting is None or waiting.strategy != strategy:
        raise StaleApproval(f"run {run_id} proposed nothing for {strategy}; open the page again")
    ask_registry(context, waiting.model_name, waiting.version)
    accepted = dispatch.approve(run_id, digest, actor=context.person.actor, reason=why, answer=answer)
    word = "approved; it goes to Production" if answer == "approve" else "rejected; it goes to Archived"
    return _done(context, f"Version {waiting.version} is {word} in a moment.", strategy, accepted)


def _reason(given: str, what: str) -> str:
    found = given.strip()
    if len(found) < 3:
        raise NotValid(f"{what} needs a reason; it is kept with the decision")
    return found


def ask_registry(context: RequestContext, model_name: str, version: str) -> None:
    """Before anything is opened: an MLflow that hangs must not hang the page. What it says is looked at later."""
    try:
        within(MLFLOW_S, lambda: context.services.registry.version(model_name, version))
    except (ModelNotFound, VersionNotFound):
        return


def _refuse_joined(context: RequestContext, accepted: Accepted, strategy: str, wanted: dict[str, str]) -> None:
    """One promotion of a strategy runs at a time. Raises InvalidTransition where it is about something else."""
    if not accepted.created and not wanted.items() <= context.ledger.run(accepted.run_id).params.items():
        raise InvalidTransition(
            f"run {accepted.run_id} of the same kind is active for {strategy}; ask again when it has ended"
        )


def _done(context: RequestContext, words: str, strategy: str, accepted: Accepted) -> Response:
    to = f"/admin/registry/models/{quote(strategy)}"
    return context.done(words, to=to, run_id=accepted.run_id, created=accepted.created)
