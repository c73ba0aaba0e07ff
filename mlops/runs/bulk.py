"""One action for many strategies: each is done and audited by itself, and one that fails stops no other.

Callers: the command line, the admin page, and `tasks.dispatch.start_many`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlops.domain.errors import AcisError, ConfigurationError, TemporaryError
from mlops.domain.records import Accepted, Kind
from mlops.runs.approval import Answer, approval_request, refuse_joined
from mlops.runs.request import run_request, submit
from mlops.strategies.book import SettledBook
from mlops.strategies.overlay import was_and_is

if TYPE_CHECKING:
    from mlops.domain.policies import ScheduledJob
    from mlops.ledger.queries.strategy_status import Awaiting
    from mlops.runs.services import RunServices

_PAUSED = "schedule.paused"


BATCH_ID_LENGTH = 32
"""Characters of the longest batch id; a UUID has 32."""


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Who asks, as the audit has it."""

    actor: str
    address: str | None = None
    batch_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Of the runs that this opens."""

    def __post_init__(self) -> None:
        if not 0 < len(self.batch_id) <= BATCH_ID_LENGTH:
            message = (
                f"batch id of {len(self.batch_id)} characters, which begins {self.batch_id[:40]!r}, cannot be kept; "
                f"give 1 to {BATCH_ID_LENGTH}"
            )
            raise ConfigurationError(message)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result for one strategy."""

    strategy: str
    words: str = ""
    """What was done, or why nothing needed to be; empty where it failed."""
    is_changed: bool = False
    """Something was done."""
    error: str = ""
    """Why it failed, or was not tried."""
    accepted: Accepted | None = None
    """The run that was opened, or was active already."""


def set_paused(
    services: RunServices,
    strategies: Sequence[str],
    jobs: Sequence[ScheduledJob],
    *,
    paused: bool,
    by: Asker,
    reason: str,
    limit_s: float | None = None,
) -> list[Outcome]:
    """Pause or resume the scheduled jobs of each; beat takes it over within seconds."""

    def act(name: str) -> Outcome:
        before = services.policies.settled(name).strategy
        schedule = before.schedule
        crons = {"drift_check": schedule.drift_check, "retrain": schedule.retrain}
        asked = [job for job in jobs if crons[job] and (job in schedule.paused) is not paused]
        if not asked:
            return Outcome(strategy=name, words="paused already" if paused else "not paused")
        kept = [job for job in schedule.paused if job not in asked]
        value = [*kept, *asked] if paused else kept
        after = services.policies.edit(name, {_PAUSED: value}, actor=by.actor, reason=reason).strategy
        words = f"{' and '.join(job.replace('_', ' ') for job in asked)} {'paused' if paused else 'resumed'}"
        return Outcome(
            strategy=name, words=f"{words} ({was_and_is(before, after, [_PAUSED])[_PAUSED]})", is_changed=True
        )

    action = "schedule.pause" if paused else "schedule.resume"
    return _each(services, strategies, act, action=action, by=by, reason=reason, limit_s=limit_s)


def open_runs(
    services: RunServices,
    strategies: Sequence[str],
    kind: Kind,
    *,
    by: Asker,
    reason: str,
    limit_s: float | None = None,
    **options: Any,  # noqa: ANN401 -- RunOptions checks them
) -> list[Outcome]:
    """A run of each on the workers; one that is active already is joined. Raises LedgerUnavailable before the first."""
    book = SettledBook(services.policies.all_settled())
    services.dispatcher  # noqa: B018 -- with no broker named nothing is accepted

    def act(name: str) -> Outcome:
        request = run_request(book, name, kind, reason=reason, requested_by=by.actor, **options)
        accepted = submit(services, replace(request, batch_id=by.batch_id))
        words = "run opened" if accepted.created else "a run of this kind is active already, and goes on"
        return Outcome(strategy=name, words=words, is_changed=accepted.created, accepted=accepted)

    return _each(services, strategies, act, action=f"run.{kind.value}", by=by, reason=reason, limit_s=limit_s)


def waiting_of(services: RunServices, strategies: Iterable[str]) -> dict[str, Awaiting]:
    """Newest decision of each strategy that waits for a person."""
    names = set(strategies)
    return {one.strategy: one for one in services.ledger.awaiting() if one.strategy in names}


def answer_waiting(
    services: RunServices,
    strategies: Sequence[str],
    seen: Mapping[str, str],
    *,
    answer: Answer,
    by: Asker,
    reason: str,
    limit_s: float | None = None,
) -> list[Outcome]:
    """Approve or reject what waits of each strategy, its newest decision; the answer is carried out on the workers.

    seen : by run, the digest of the evidence that the person saw; a decision that is not there is not answered
    """
    waiting = waiting_of(services, strategies)
    services.dispatcher  # noqa: B018 -- with no broker named nothing is accepted

    def act(name: str) -> Outcome:
        one = waiting.get(name)
        if one is None:
            return Outcome(strategy=name, words="nothing waits for approval")
        if one.run_id not in seen:
            error = f"version {one.version} was not on the list that was answered; look at it and answer again"
            return Outcome(strategy=name, error=error)
        request = approval_request(
            services.ledger,
            services.registry,
            one.run_id,
            answer=answer,
            actor=by.actor,
            reason=reason,
            digest=seen[one.run_id],
        )
        accepted = submit(
            services,
            replace(request, batch_id=by.batch_id),
            on_accept=lambda accepted: refuse_joined(accepted, request),
        )
        word = "approved" if answer == "approve" else "rejected"
        return Outcome(strategy=name, words=f"version {one.version} {word}", is_changed=True, accepted=accepted)

    return _each(services, strategies, act, action=f"model.{answer}", by=by, reason=reason, limit_s=limit_s)


def _each(
    services: RunServices,
    strategies: Sequence[str],
    act: Callable[[str], Outcome],
    *,
    action: str,
    by: Asker,
    reason: str,
    limit_s: float | None,
) -> list[Outcome]:
    """Every strategy's outcome. A server that is away ends it: what comes after is not tried, and says so.

    limit_s : after so long the rest is not tried; a page does not answer for ever
    Raises TemporaryError where the server is away from the beginning, so that nothing was done.
    """
    until = None if limit_s is None else time.monotonic() + limit_s
    outcomes: list[Outcome] = []
    stopped = ""
    for name in strategies:
        if not stopped and until is not None and time.monotonic() > until:
            stopped = f"not tried: the others took {limit_s:.0f} s; ask again for the rest"
        if stopped:
            outcomes.append(Outcome(strategy=name, error=stopped))
            continue
        try:
            outcome = act(name)
        except TemporaryError as exc:
            if not outcomes:
                raise
            outcome = Outcome(strategy=name, error=str(exc))
            stopped = f"not tried, since {name} failed: {exc}"
        except AcisError as exc:
            outcome = Outcome(strategy=name, error=str(exc))
        try:
            _audit(services, outcome, action=action, by=by, reason=reason)
        except TemporaryError as exc:
            stopped = stopped or f"not tried, since the audit cannot be written: {exc}"
            if not outcome.error:
                outcome = replace(outcome, words=f"{outcome.words}; not in the audit: {exc}")
        outcomes.append(outcome)
    return outcomes


def _audit(services: RunServices, outcome: Outcome, *, action: str, by: Asker, reason: str) -> None:
    detail: dict[str, object] = {"reason": reason}
    if outcome.accepted is not None:
        detail |= {"run_id": outcome.accepted.run_id, "joined": not outcome.accepted.created}
    detail |= {"refused": outcome.error} if outcome.error else {"done": outcome.words}
    services.ledger.audit(by.actor, action, outcome.strategy, address=by.address, **detail)


def summed_up(outcomes: Sequence[Outcome], done: str, *, shown: int = 8) -> list[str]:
    """`paused: 398 of 400 strategies`, then those that needed nothing, then each that failed, with why.

    shown : strategies that are named where nothing was to do; those that failed are all named
    """
    changed = [one for one in outcomes if one.is_changed]
    failed = [one for one in outcomes if one.error]
    unchanged = [one for one in outcomes if not one.is_changed and not one.error]
    what = "strategy" if len(outcomes) == 1 else "strategies"
    lines = [f"{done}: {len(changed):,} of {len(outcomes):,} {what}"]
    for words in dict.fromkeys(one.words for one in unchanged):
        names = [one.strategy for one in unchanged if one.words == words]
        more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
        lines.append(f"nothing to do for {len(names):,}, {words}: {', '.join(names[:shown])}{more}")
    for error in dict.fromkeys(one.error for one in failed):
        names = [one.strategy for one in failed if one.error == error]
        lines.append(f"failed for {len(names):,}: {', '.join(names)}: {error}")
    return lines
