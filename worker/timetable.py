"""Opens the slots of the timetable; called by beat, and by the reconciler for what beat missed.

A slot is unique in the ledger, so any number of both may call this at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import structlog

from mlops.bootstrap import Services
from mlops.domain.errors import AcisError, ConfigurationError, LedgerUnavailable
from mlops.domain.policies import Strategy
from mlops.domain.ports import Dispatcher
from mlops.domain.records import AHEAD_S, Kind, RunState, ScheduleEntry
from mlops.runs.request import run_request
from mlops.strategies.book import Unfit
from tasks.slots import due_slots, parse_cron

log = structlog.get_logger(__name__)


def entries_of(strategy: Strategy) -> list[ScheduleEntry]:
    """The strategy's two lines of the timetable, a paused one not enabled.

    Raises ConfigurationError for a cron that is not valid.
    """
    policy = strategy.schedule
    offset_s = _spread(strategy.name, policy.spread_minutes)
    entries = []
    lines: tuple[tuple[Literal["drift_check", "retrain"], Kind, str], ...] = (
        ("drift_check", Kind.PIPELINE, policy.drift_check),
        ("retrain", Kind.RETRAIN, policy.retrain),
    )
    for word, kind, cron in lines:
        if cron:
            parse_cron(cron)
            entries.append(
                ScheduleEntry(
                    key=f"{strategy.name}:{word}",
                    strategy=strategy.name,
                    kind=kind,
                    cron=cron,
                    offset_s=offset_s,
                    grace_s=policy.grace_hours * 3600,
                    enabled=word not in policy.paused,
                )
            )
    return entries


def sync_timetable(services: Services) -> None:
    """Make the ledger's timetable equal to the policies; a strategy's wrong time stops no other.

    Where a strategy's edits do not fit, its lines stay as they are: they come due, and say why they open nothing.
    """
    entries: list[ScheduleEntry] = []
    for name, settled in services.policies.all_settled().items():
        if isinstance(settled, Unfit):
            log.warning("strategy.policy_does_not_fit", strategy=name, error=str(settled.error))
            entries += [entry for entry in services.ledger.schedule() if entry.strategy == name]
            continue
        try:
            entries += entries_of(settled.strategy)
        except ConfigurationError as exc:
            mend = "correct its schedule in the strategies file, or on its page"
            log.warning("strategy.not_scheduled", strategy=name, error=str(exc), action=mend)
    services.ledger.sync_schedule(entries)


def open_due_slots(services: Services, dispatcher: Dispatcher) -> int:
    """Open a run for each slot that is due; how many. Raises LedgerUnavailable; an entry's own error is logged."""
    now = services.ledger.now()
    entries = services.ledger.schedule()
    ahead = [entry for entry in entries if entry.is_ahead(now)]
    if ahead and _set_back(services, ahead, now):
        entries = services.ledger.schedule()
    opened = 0
    for entry in entries:
        if entry.strategy not in services.strategies:
            continue
        try:
            opened += _open(services, dispatcher, entry, now)
        except LedgerUnavailable:
            raise
        except AcisError as exc:
            log.warning("slot.not_opened", key=entry.key, error=str(exc))
    return opened


def _set_back(services: Services, ahead: Sequence[ScheduleEntry], now: datetime) -> bool:
    """The clock was ahead when these entries' last slots were opened, or it is behind now: where two clocks agree.

    Until they do, these entries wait: a slot that was opened in its time must not be opened again.
    """
    apart_s = (services.now() - now).total_seconds()
    if abs(apart_s) > AHEAD_S:
        log.warning(
            "timetable.waits",
            entries=len(ahead),
            ahead_s=round(max((entry.last_slot - now).total_seconds() for entry in ahead if entry.last_slot)),
            clocks_apart_s=round(apart_s),
            action="set the clock of the database's machine, or of this one",
        )
        return False
    for entry in ahead:
        found = entry.last_slot
        last = services.ledger.set_back(entry.key, found) if found else None
        if found and last:
            log.warning(
                "slots.set_back",
                key=entry.key,
                last_slot=last.isoformat(),
                was=found.isoformat(),
                next="slots are opened by the clock as it is now",
            )
    return True


def _open(services: Services, dispatcher: Dispatcher, entry: ScheduleEntry, now: datetime) -> int:
    if entry.last_slot is None:
        services.ledger.timetable_begins(entry.key, now)
        return 0
    due = due_slots(entry, now)
    _skip(services, entry, [slot for slot, is_opened in due[:-1] if not is_opened], "missed, and a newer one is due")
    opened = 0
    for slot, is_opened in due[-1:]:
        if not is_opened:
            _skip(services, entry, [slot], "missed, and older than its grace")
            continue
        accepted = services.ledger.accept(
            run_request(
                services.policies,
                entry.strategy,
                entry.kind,
                reason="schedule",
                requested_by="beat",
                slot=slot.isoformat(),
            )
        )
        waits = not accepted.created and accepted.state in (RunState.QUEUED, RunState.RUNNING)
        if waits and services.ledger.run(accepted.run_id).slot != slot.isoformat():
            # Another run of the kind is active: the slot waits within its grace.
            continue
        services.ledger.slot_opened(entry.key, slot)
        if accepted.publication is not None:
            dispatcher.publish(accepted.publication)
        log.info("slot.opened", key=entry.key, slot=slot.isoformat(), run_id=accepted.run_id)
        opened += accepted.created
    return opened


def _skip(services: Services, entry: ScheduleEntry, slots: Sequence[datetime], note: str) -> None:
    if not slots:
        return
    services.ledger.slots_skipped(entry.key, slots, note=note)
    log.warning(
        "slots.skipped",
        key=entry.key,
        slots=len(slots),
        first=slots[0].isoformat(),
        last=slots[-1].isoformat(),
        note=note,
        action="none, if everything was meant to be down",
    )


def _spread(strategy: str, minutes: int) -> float:
    """Seconds after the nominal time, the same for a name on every machine and every day."""
    if minutes <= 0:
        return 0.0
    digest = hashlib.sha256(strategy.encode()).digest()
    return float(int.from_bytes(digest[:4], "big") % (minutes * 60))
