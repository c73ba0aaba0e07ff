"""The durable record of runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from mlops.domain.drift.episodes import CheckedDay
    from mlops.domain.promotion.records import Champion, EarlierDecision, ModelIdentity, Promotion, PromotionDecision
    from mlops.domain.records import (
        Accepted,
        FindingKind,
        Finished,
        Forgotten,
        Grant,
        LedgerIdentity,
        OutcomeMessage,
        Publication,
        RegistryFinding,
        Renewal,
        RunRequest,
        RunState,
        RunView,
        ScheduleEntry,
        Sent,
        Stage,
        StageOutcome,
        StoredReport,
        WorkerBeat,
    )


class Ledger(Protocol):
    """The durable record of runs. Every call is one transaction; the database's clock is the only clock.

    All raise LedgerUnavailable when the database does not answer.
    """

    def now(self) -> datetime:
        """The database's clock."""
        ...

    def is_quarantined(self, kind: Literal["version", "run", "checkpoint"], name: str) -> bool:
        """The ledger was set back in time, does not know this, and no person has released it."""
        ...

    def forgotten(self) -> Forgotten:
        """What is still to be looked through, since the ledger was set back in time."""
        ...

    # -- a run's life

    def accept(self, request: RunRequest) -> Accepted:
        """Insert run and first stage, or find the run that is there already.

        An inline request's first stage is inserted unpublished and is claimed by the caller next.
        """
        ...

    def published(self, sent: Sequence[Sent]) -> None:
        """Note messages that were sent."""
        ...

    def claim(
        self,
        run_id: str,
        stage: Stage,
        *,
        worker: str,
        publish_no: int | None = None,
        task_id: str | None = None,
        queue: str | None = None,
        key: str | None = None,
    ) -> Grant | None:
        """The stage, when it is queued and due, its lease has expired, or a try with this key got it; else None."""
        ...

    def renew(self, grant: Grant, *, progress: dict[str, Any] | None = None, worker: str | None = None) -> Renewal:
        """Extend the lease. Raises LeaseLost."""
        ...

    def save_checkpoint(self, grant: Grant, checkpoint: dict[str, Any]) -> None:
        """Name what a later grant of this stage may resume from. Raises LeaseLost."""
        ...

    def finish(self, grant: Grant, outcome: StageOutcome) -> Finished:
        """Write result, run state, next stage and outboxes. Raises LeaseLost."""
        ...

    def fail(self, grant: Grant, *, error: str, retry: bool, delay_s: float = 0.0, counts: bool = True) -> Finished:
        """The stage did not end well.

        `retry` False: run and stage are failed (a permanent error; asking again changes nothing).
        `retry` True: queued again after `delay_s`; where `counts`, the attempt is used up, and the last one
        makes the stage dead. Raises LeaseLost.
        """
        ...

    def release(self, grant: Grant, *, cause: str) -> Finished:
        """Give the lease back without using up an attempt (drain). Raises LeaseLost."""
        ...

    def worker_lost(self, run_id: str, stage: Stage, *, task_id: str, cause: str) -> Finished | None:
        """A pool process died while it ran this message: like `fail(retry=True)`; None if not held by it."""
        ...

    def cancel(self, run_id: str, *, actor: str) -> RunState:
        """Cancel a queued run at once, ask a running one to stop. Raises RunNotFound, InvalidTransition."""
        ...

    def requeue(self, run_id: str, *, actor: str) -> Publication:
        """Bring a dead run back with fresh attempts. Raises RunNotFound, InvalidTransition."""
        ...

    # -- the champion

    def champion(self, strategy: str, *, namespace: str = "live") -> Champion:
        """The version in production; `seq` 0 and `version` None where there never was one."""
        ...

    def decide(self, grant: Grant, decision: PromotionDecision) -> Promotion:
        """Commit a decision, fenced by the grant; where it promotes, swap the champion if its seq is as expected.

        A run's second call returns its first decision. Raises LeaseLost, ChampionMoved.
        """
        ...

    def record_transition(self, strategy: str, decision: PromotionDecision, *, namespace: str = "live") -> Promotion:
        """The same without a run: a transition asked for by a person or seen in the registry."""
        ...

    def promotion_of(self, run_id: str) -> Promotion | None:
        """The decision of a run, or None."""
        ...

    def promotions(self, strategy: str | None = None, *, limit: int = 50, namespace: str = "live") -> list[Promotion]:
        """Newest first."""
        ...

    def newest_decision(
        self, strategy: str, version: str, identity: ModelIdentity, *, judged: bool = False, namespace: str = "live"
    ) -> Promotion | None:
        """The last decision about a version, whoever made it, or the last that looked at its gates; None: none.

        Decisions about another model that had the same number are not looked at.
        """
        ...

    def former_champions(self, strategy: str, *, namespace: str = "live") -> list[Promotion]:
        """What can be rolled back to, newest first: the last promotion of each former champion's model."""
        ...

    def known_models(self, strategy: str, version: str) -> list[ModelIdentity]:
        """All models that the ledger knows by this number."""
        ...

    def note_model_file(self, grant: Grant, model_name: str, sha256: str, *, version: str | None = None) -> None:
        """Keep, fenced by the grant, that its training made a file of this digest. Raises LeaseLost.

        version : number that the registry gave it; None before it is registered
        """
        ...

    def noted_model_files(self, made_by: str, *, twins: bool = False) -> frozenset[str]:
        """Digests of all files that a run made; of its judged twins, which are no versions, only where asked."""
        ...

    def recorded_model(self, model_name: str, version: str) -> ModelIdentity:
        """SHA-256 of a version's model file and the run that made it; both None where nothing is recorded."""
        ...

    def training_facts(self, identity: ModelIdentity) -> tuple[dict[str, str], dict[str, float]]:
        """Tags and metrics of a model, as far as its training's stage says; empty where no run trained it."""
        ...

    def record_model_file(
        self, model_name: str, version: str | None, identity: ModelIdentity, *, actor: str, reason: str
    ) -> None:
        """Keep what a person says that a version's file is, with an audit line."""
        ...

    def identify(self, promotion_id: int, identity: ModelIdentity) -> None:
        """Note what the version of a decision is known by, where that is not recorded."""
        ...

    def note_registry_finding(self, strategy: str, kind: FindingKind, key: str, words: str) -> bool:
        """Open a finding about the registry; True where it was not open. What a person has settled stays settled."""
        ...

    def registry_findings(self, strategy: str = "") -> list[RegistryFinding]:
        """The open ones, oldest first: they stop the promotions of their strategy."""
        ...

    def champion_seen(self, strategy: str) -> bool:
        """Settle what says that the champion is missing; True where something did."""
        ...

    def decisions_since(self, strategy: str, *, since: date, namespace: str = "live") -> tuple[EarlierDecision, ...]:
        """What decisions dated `since` or later came to in a comparison with a champion, oldest first."""
        ...

    def unprojected(self, *, limit: int = 50) -> list[Promotion]:
        """Live promotions that the registry does not show yet, oldest first."""
        ...

    def projected(self, promotion_id: int) -> None:
        """The registry was seen to agree."""
        ...

    # -- reading

    def run(self, run_id: str) -> RunView:
        """Raises RunNotFound."""
        ...

    def unknown_runs(self, run_ids: Collection[str]) -> set[str]:
        """Those that are not in the ledger: removed long ago, forgotten, or another ledger's."""
        ...

    def identity(self) -> LedgerIdentity:
        """Which ledger this is, and since when."""
        ...

    def full_run_id(self, written: str) -> str:
        """The id of the one run that has it, or whose id begins with it. Raises RunNotFound."""
        ...

    def runs(
        self,
        *,
        strategy: str | None = None,
        states: Sequence[RunState] = (),
        kinds: Sequence[str] = (),
        namespace: str | None = "live",
        limit: int = 50,
    ) -> list[RunView]:
        """Newest first."""
        ...

    def drift_reports(self, strategy: str, *, limit: int = 90, namespace: str = "live") -> list[dict[str, Any]]:
        """Reports as they were stored, newest as-of date first, with `run_id` and `as_of` added."""
        ...

    def checked_days(self, strategy: str, *, since: date, before: date, namespace: str = "live") -> list[CheckedDay]:
        """Verdicts of the checks as of these dates, oldest first, of several of one date the newest last."""
        ...

    def retrained_days(self, strategy: str, *, until: date, without_run: str, namespace: str = "live") -> list[date]:
        """As-of dates of the other runs that trained and came to their end, promoted or not, oldest first."""
        ...

    def trained_for_labels(
        self, strategy: str, *, until: date, without_run: str, namespace: str = "live"
    ) -> list[RunView]:
        """Those of these runs whose training the check of newly known labels opened, newest as-of date first."""
        ...

    def stored_report(self, run_id: str) -> StoredReport:
        """The drift report of a run. Raises ReportNotFound."""
        ...

    def earlier_checks(
        self, strategy: str, *, before: date, limit: int = 60, namespace: str = "live"
    ) -> list[dict[str, Any]]:
        """`windows`, `psi` and `verdict` of reports as of earlier dates, newest first."""
        ...

    def unlogged_reports(self, *, limit: int = 50) -> list[str]:
        """Runs whose report the registry does not show yet, newest first; live ones alone."""
        ...

    def report_logged(self, run_id: str, *, registry_run_id: str, url: str | None) -> bool:
        """Note where the registry shows a report; False where it was noted already."""
        ...

    def named_in_registry(self, run_ids: Sequence[str]) -> dict[tuple[str, str], str]:
        """What the ledger says the registry has of these runs: (run, kind as in `LoggedByRun`) → its name."""
        ...

    def fill_check_columns(self, *, among_newest: int | None = None, limit: int = 100) -> int:
        """Write in short what reports of an older version say, which stored the report alone; how many."""
        ...

    # -- the reconciler's view

    def due_after_s(self) -> float:
        """Seconds until a pass may find something: a lease that ran out or falls silent, a stage that waited so long.

        Infinite where nothing of the kind is ahead.
        """
        ...

    def due_publications(
        self, queue_lengths: Mapping[str, int] | None = None, *, at_once: bool = False
    ) -> list[Publication]:
        """Stages whose message is missing: never published for 5 s, lease expired, due again, or lost.

        Expired leases are turned back to queued (or dead, when the attempts are used up) first.
        `queue_lengths`: messages waiting per queue; None when the broker does not say.
        """
        ...

    def reroute(self, queue: str) -> int:
        """Take back the messages of `auto` stages that wait in a queue nobody serves any more; how many."""
        ...

    def fail_lost_inline(self) -> int:
        """Fail inline runs whose process stopped renewing; how many."""
        ...

    def pending_outcomes(self, *, limit: int = 100) -> list[OutcomeMessage]:
        """Outcomes not yet in the result backend, oldest first."""
        ...

    def redeliver_outcomes(self, *, within_s: float) -> int:
        """Make pending again what was delivered within so many seconds; how many."""
        ...

    def redeliver_outcome(self, run_id: str) -> OutcomeMessage | None:
        """Make one pending again, and give it; None where the run has none."""
        ...

    def outcomes_delivered(self, run_ids: Sequence[str]) -> None:
        """They are there now."""
        ...

    # -- schedule and workers

    def sync_schedule(self, entries: Sequence[ScheduleEntry]) -> None:
        """Make the timetable equal to `entries`, keeping `last_slot`."""
        ...

    def schedule(self) -> list[ScheduleEntry]:
        """The timetable."""
        ...

    def timetable_begins(self, key: str, at: datetime) -> None:
        """Say from when on an entry has slots, unless somebody has said it."""
        ...

    def set_back(self, key: str, found: datetime) -> datetime | None:
        """To the last slot that has come, an entry whose last one was opened by a clock that was ahead."""
        ...

    def set_leases_back(self) -> int:
        """Leases and pauses that a clock gave which was ahead begin now; how many stages."""
        ...

    def slot_opened(self, key: str, slot: datetime) -> None:
        """Note that a run was opened for the slot; never moves `last_slot` backwards."""
        ...

    def slots_skipped(self, key: str, slots: Sequence[datetime], *, note: str) -> None:
        """Each becomes a run in state `skipped`; never moves `last_slot` backwards."""
        ...

    def worker_seen(self, beat: WorkerBeat) -> None:
        """A sign of life."""
        ...

    def workers(self, *, within_s: float = 60.0) -> list[WorkerBeat]:
        """Workers seen within so many seconds."""
        ...
