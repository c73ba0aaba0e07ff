"""What a person should look at, the most pressing first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from admin.navigation import PREFIX
from admin.wording import duration
from mlops.diagnosis.backlog import LONG_WAIT_S
from mlops.strategies.book import Unfit
from tasks.broker import UNROUTED

if TYPE_CHECKING:
    from admin.request_context import RequestContext
    from mlops.ledger.ledger import SqlLedger

_DEAD_S = 7 * 86400.0
_FAILED_S = 86400.0
_CHANGED_S = 86400.0
ALIVE_S = 120.0
"""The reconciler asks the workers every half a minute, and notes who answers."""
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A line at the top of the overview."""

    level: Literal["bad", "warn"]
    words: str
    link: str


def alerts(context: RequestContext) -> list[Alert]:
    """All of them; some queries that read little."""
    found = [
        *_runs(context),
        *alerts_of_registry(context.ledger),
        *_guesses(context),
        *_workers(context),
        *_broker(context),
        *_policies(context),
        *_features(context),
        *_rollbacks(context),
        *_experiments(context),
    ]
    return sorted(found, key=lambda alert: alert.level != "bad")


def _runs(context: RequestContext) -> Iterator[Alert]:
    dead = context.ledger.state_counts(within_s=_DEAD_S).get("dead", 0)
    if dead:
        words = f"{_many(dead, 'run')} of the last week used up all attempts and died"
        yield Alert(level="bad", words=words, link=f"{PREFIX}/runs?state=dead")
    failed = context.ledger.state_counts(within_s=_FAILED_S).get("failed", 0)
    if failed:
        words = f"{_many(failed, 'run')} of the last 24 hours failed"
        yield Alert(level="warn", words=words, link=f"{PREFIX}/runs?state=failed")
    waiting = context.ledger.awaiting()
    if waiting:
        names = ", ".join(f"{one.strategy} v{one.version}" for one in waiting[:_NAMED])
        more = f" and {len(waiting) - _NAMED} more" if len(waiting) > _NAMED else ""
        verb = "awaits" if len(waiting) == 1 else "await"
        yield Alert(
            level="warn",
            words=f"{_many(len(waiting), 'decision')} {verb} approval: {names}{more}",
            link=f"{PREFIX}/runs/{waiting[0].run_id}"
            if len(waiting) == 1
            else f"{PREFIX}/runs?state=awaiting_approval",
        )


def alerts_of_registry(ledger: SqlLedger) -> Iterator[Alert]:
    """What is wrong with the model registry, and what somebody changed there within a day."""
    found = ledger.registry_findings()
    for finding in found[:_NAMED]:
        yield Alert(level="bad", words=finding.words, link=f"{PREFIX}/registry/models/{quote(finding.strategy)}")
    if len(found) > _NAMED:
        words = f"{len(found) - _NAMED} more findings about the model registry: `acis registry`"
        yield Alert(level="bad", words=words, link=f"{PREFIX}/registry")
    damaged = ledger.damaged_targets()
    for finding in damaged[:_NAMED]:
        yield Alert(level="warn", words=finding.words, link=f"{PREFIX}/registry/models/{quote(finding.strategy)}")
    if len(damaged) > _NAMED:
        words = f"{len(damaged) - _NAMED} more former champions cannot be rolled back to: `acis registry`"
        yield Alert(level="warn", words=words, link=f"{PREFIX}/registry")
    changes = ledger.changes_by_hand(within_s=_CHANGED_S)
    for change in changes[:_NAMED]:
        often = f"; {change.n_times:,} times since {change.first_at:%H:%M} UTC" if change.n_times > 1 else ""
        yield Alert(
            level="bad",
            words=f"{change.last_at:%Y-%m-%d %H:%M} UTC{often}: {change.words}",
            link=f"{PREFIX}/registry/models/{quote(change.strategy)}",
        )
    if len(changes) > _NAMED:
        words = f"{len(changes) - _NAMED:,} more changes by hand in the model registry within a day"
        yield Alert(level="bad", words=words, link=f"{PREFIX}/audit?action=registry")


def _guesses(context: RequestContext) -> Iterator[Alert]:
    """Whose password somebody tries to guess: for operators, who can do something about it."""
    if not context.person.is_operator:
        return
    for one in context.ledger.guessed_at()[:_NAMED]:
        places = "one address" if one.n_addresses == 1 else f"{one.n_addresses:,} addresses"
        words = f"somebody guesses at {one.name}'s password: {one.times:,} wrong ones or refused tries from {places}"
        link = f"{PREFIX}/audit?action=sign_in&q={quote(one.name)}"
        yield Alert(level="bad", words=f"{words} since {one.since:%H:%M} UTC", link=link)


def _workers(context: RequestContext) -> Iterator[Alert]:
    link = f"{PREFIX}/workers"
    waited_s = context.ledger.longest_wait_s()
    if waited_s is not None and waited_s > LONG_WAIT_S:
        yield Alert(level="bad", words=f"a stage that is due has waited for {duration(waited_s)}", link=link)
    lately = context.ledger.workers(within_s=86400.0)
    alive = {
        worker.name for worker in lately if (context.now - (worker.seen_at or context.now)).total_seconds() < ALIVE_S
    }
    if not alive:
        words = "no worker is alive, or the reconciler, which asks them, does not run"
        yield Alert(level="bad", words=words, link=link)


def _broker(context: RequestContext) -> Iterator[Alert]:
    view = context.look_at_broker()
    if view.depths is None:
        yield Alert(level="bad", words=f"{view.error}; runs are accepted, and wait", link=f"{PREFIX}/workers")
    elif view.depths.get(UNROUTED):
        found = _many(view.depths[UNROUTED], "message")
        words = f"{found} went to no queue that a worker reads, or cannot be read; they are in {UNROUTED}"
        yield Alert(level="warn", words=words, link=f"{PREFIX}/workers")


def _policies(context: RequestContext) -> Iterator[Alert]:
    unfit = [one for one in context.services.policies.all_settled().values() if isinstance(one, Unfit)]
    for one in unfit[:_NAMED]:
        yield Alert(level="bad", words=f"{one.name}: {one.error}", link=f"{PREFIX}/drift/strategies/{one.name}")
    if len(unfit) > _NAMED:
        words = f"{len(unfit) - _NAMED:,} more strategies have edits that do not fit"
        yield Alert(level="bad", words=words, link=f"{PREFIX}/drift?show=edited")


def _features(context: RequestContext) -> Iterator[Alert]:
    late = context.ledger.late_features()
    for one in late[:_NAMED]:
        link = f"{PREFIX}/drift/strategies/{quote(one.strategy)}"
        yield Alert(level="warn", words=f"{one.strategy}: {one.late_words}", link=link)
    if len(late) > _NAMED:
        words = f"the features of {len(late) - _NAMED:,} more strategies are late"
        yield Alert(level="warn", words=words, link=f"{PREFIX}/drift")


def _rollbacks(context: RequestContext) -> Iterator[Alert]:
    """Champions that are shown worse than a former one, or break a guardrail, and what a person may do."""
    asked = context.ledger.asked_rollbacks(list(context.services.strategies))
    for strategy, words in list(asked.items())[:_NAMED]:
        yield Alert(level="bad", words=f"{strategy}: {words}", link=f"{PREFIX}/live/{quote(strategy)}")
    if len(asked) > _NAMED:
        words = f"{len(asked) - _NAMED:,} more champions should give their place back: `acis live`"
        yield Alert(level="bad", words=words, link=f"{PREFIX}/live")


def _experiments(context: RequestContext) -> Iterator[Alert]:
    """Experiments that wait for a person, since the ledger may have forgotten that somebody ended them."""
    paused = [one for one in context.ledger.running_experiments() if one.paused]
    for one in paused[:_NAMED]:
        words = (
            f"{one.strategy}: the experiment of v{one.challenger_version} is paused since the ledger was set back in "
            f'time; `acis experiment release {one.strategy} --reason "…"` lets it go on, `abort` ends it'
        )
        yield Alert(level="warn", words=words, link=f"{PREFIX}/experiments/{quote(one.strategy)}")
    if len(paused) > _NAMED:
        words = f"{len(paused) - _NAMED:,} more experiments are paused, and wait for a person"
        yield Alert(level="warn", words=words, link=f"{PREFIX}/experiments?show=paused")


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n:,} {what}s"
