"""Values that go into the ledger and come out of it.

Callers: the ledger itself, the stages, the tasks, the command line. Times are aware datetimes in UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal

LIVE = "live"
"""The namespace that is scheduled, projected to the registry and notified; a replay has its own."""

RUN_ID_LENGTH = 128
"""Longest id that may be chosen for a run: it is part of paths and keys that have a limit of their own."""
KEPT_ID_LENGTH = 155
"""Longest id of a run or a message that is on record: Celery keeps ids of so many characters."""
ID_PATTERN = r"^[A-Za-z0-9_.:-]+$"
"""What a run id is made of: it goes into paths, keys, addresses and logs, and means the same in each."""

AHEAD_S = 300.0
"""A time on record that lies further ahead of the clock than this was given while the clock was ahead. Smaller steps
back are waited for: what fell due in them has been done."""


class Kind(StrEnum):
    """What a run is for; with strategy and namespace it names what may be active only once."""

    PIPELINE = "pipeline"
    """drift, then train if drifted, then promote."""
    CHECK = "check"
    """drift alone."""
    RETRAIN = "retrain"
    """train whatever the drift, then promote."""
    TRAIN = "train"
    """train alone."""
    PROMOTE = "promote"
    """promote a version that exists."""
    ROLLBACK = "rollback"
    """make an earlier version the champion again; never blocked by another run."""
    COMPARE = "compare"
    """two versions beside each other, with the paired test; decides nothing."""
    PREDICT = "predict"
    """the champion's predictions of one date's universe."""
    SCORE = "score"
    """predictions against their outcomes, as far as these are known."""


class Stage(StrEnum):
    """A step of a run."""

    DRIFT = "drift"
    TRAIN = "train"
    PROMOTE = "promote"
    PREDICT = "predict"
    SCORE = "score"


FIRST_STAGE: dict[Kind, Stage] = {
    Kind.PIPELINE: Stage.DRIFT,
    Kind.CHECK: Stage.DRIFT,
    Kind.RETRAIN: Stage.TRAIN,
    Kind.TRAIN: Stage.TRAIN,
    Kind.PROMOTE: Stage.PROMOTE,
    Kind.ROLLBACK: Stage.PROMOTE,
    # It needs what a promotion needs: both models, on dates that neither saw.
    Kind.COMPARE: Stage.PROMOTE,
    Kind.PREDICT: Stage.PREDICT,
    Kind.SCORE: Stage.SCORE,
}

NEVER_BLOCKED = (Kind.ROLLBACK, Kind.COMPARE)
"""Any number may be active: a rollback must not wait, and each comparison is of two versions of its own."""


class RunState(StrEnum):
    """Where a run is; the arrows are in `mlops.domain.run_states`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    AWAITING_APPROVAL = "awaiting_approval"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD = "dead"
    SKIPPED = "skipped"


class StageState(StrEnum):
    """Where a stage is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD = "dead"


class Executor(StrEnum):
    """Who executes a run's stages."""

    CELERY = "celery"
    INLINE = "inline"
    """The process that opened it; the reconciler fails it when that process dies."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What somebody asks for."""

    strategy: str
    kind: Kind
    policy: dict[str, Any]
    """Snapshot of the strategy with all overrides; the stages read nothing else."""
    reason: str
    """Why it was asked for, in words: `schedule`, `no_champion`, `operator: …`."""
    requested_by: str = "unknown"
    run_id: str | None = None
    """Given: the same request twice is one run. None: the ledger makes one."""
    slot: str | None = None
    """Name of the slot it fills, e.g. `2026-11-23T03:00:00+00:00`; one slot, one run."""
    namespace: str = LIVE
    as_of: date | None = None
    """The date as of which everything is decided; None: by the strategy's policy, when the first stage runs."""
    params: dict[str, Any] = field(default_factory=dict)
    """Arguments of the kind: `version`, `reason` of a rollback, overrides as they were given."""
    executor: Executor = Executor.CELERY
    batch_id: str | None = None
    """The same for all runs that were started together; None: started alone."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A stage's message that must be sent."""

    run_id: str
    stage: Stage
    publish_no: int
    strategy: str
    device: str
    """`auto`, `cpu` or `gpu`, from the policy; routing turns it into a queue."""
    previous_task_id: str | None = None
    """Task id of the message that led to this one, for Flower's chain."""
    deadline_s: float | None = None
    """How long the stage may run, by its policy; the message's time limits follow it. None: the task's own."""
    keeps_its_place: bool = False
    """The stage has had its turn or lost its message: it goes before those that were never sent."""
    traceparent: str | None = None
    """W3C traceparent of the run's trace, which the message goes on with. None: it has none."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A message that is on its queue."""

    publication: Publication
    queue: str
    task_id: str


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """Answer to a request."""

    run_id: str
    created: bool
    """False: this run was there already (same id, same slot, or one is active)."""
    state: RunState
    publication: Publication | None = None
    """To be published by the caller; None where nothing is to be sent."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The right to execute one stage until a time, and all that the stage needs to know."""

    run_id: str
    stage: Stage
    token: int
    """Grows with each grant and fences stale writers."""
    key: str = ""
    """Random, of this grant alone: after a restore or a failover the same number is granted a second time."""
    attempt: int
    """1 for the first; counts crashes and permanent-looking errors only."""
    publish_no: int
    lease_until: datetime
    deadline: datetime
    """Renewal stops here, so that a hung stage frees itself."""
    strategy: str
    kind: Kind
    namespace: str
    as_of: date | None
    policy: dict[str, Any]
    params: dict[str, Any]
    reason: str
    requested_by: str
    executor: Executor
    inputs: dict[str, dict[str, Any]]
    """Results of the run's earlier stages, by stage name."""
    checkpoint: dict[str, Any] | None = None
    """What an earlier grant of this stage saved, to resume from."""
    traceparent: str | None = None
    """W3C traceparent of the run's trace, which its stages go on with. None: it has none."""


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """Answer to a renewal."""

    lease_until: datetime
    cancel: bool
    """Somebody asked the run to stop."""
    drain: bool
    """The worker is shutting down: stop at the next border and give the lease back."""


@dataclass(frozen=True, kw_only=True)
class DayScored:
    """One day's predictions of a version against what came, as the ledger keeps it."""

    version: str
    model_sha256: str
    variant: str
    as_of: date
    """Of the features."""
    n_predictions: int
    n_labelled: int
    """Of them, with an outcome."""
    score: dict[str, Any]
    """`mlops.domain.live.day_score.DayScore` as JSON."""
    digest: str
    """Of counts and score; an equal one is not written again."""


@dataclass(frozen=True, kw_only=True)
class LiveFindings:
    """What a scoring found."""

    days: tuple[DayScored, ...]
    document: dict[str, Any]
    """What is said beside the days; `mlops_live_report.document`."""


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """How a stage ended, as its worker saw it. An expected "no" is an outcome, not an error."""

    result: dict[str, Any]
    """JSON; what the next stage, the page and the caller read."""
    run_state: RunState | None
    """Terminal state of the run, or None where a next stage follows."""
    next_stage: Stage | None = None
    as_of: date | None = None
    """The date that the first stage resolved; later stages use it."""
    drift_report: dict[str, Any] | None = None
    """Stored in `mlops_drift_report` in the same transaction."""
    live: LiveFindings | None = None
    """Stored in `mlops_live_score` and `mlops_live_report` in the same transaction."""


@dataclass(frozen=True, kw_only=True)
class OutcomeMessage:
    """A finished run's outcome on its way to the result backend."""

    run_id: str
    state: str
    """Celery's word: SUCCESS or FAILURE."""
    body: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a finished, failed or released stage left behind."""

    run_state: RunState
    stage_state: StageState
    publication: Publication | None = None
    """The next stage's message, or None."""
    result: dict[str, Any] | None = None
    """Of the stage."""
    error: str | None = None
    """The stage's last, in words."""
    outcome: OutcomeMessage | None = None
    """The run's, where it ended; also in the outbox."""


FindingKind = Literal["champion_missing", "number_reused", "damaged_target"]


@dataclass(frozen=True, kw_only=True)
class RegistryFinding:
    """Something about the model registry that a person has to decide or mend; it stops the strategy's promotions."""

    strategy: str
    kind: FindingKind
    words: str
    found_at: datetime


@dataclass(frozen=True, kw_only=True)
class StoredReport:
    """A committed row of `mlops_drift_report`."""

    run_id: str
    namespace: str
    strategy: str
    as_of: date | None
    document: dict[str, Any]
    """As `DriftReport.to_json` made it, of whatever version"""
    registry_run_id: str | None = None
    """The registry's run that shows it; None: not yet, or never (a replay's)"""


@dataclass(frozen=True, kw_only=True)
class StageView:
    """A stage as a reader sees it."""

    stage: Stage
    state: StageState
    attempt: int
    token: int
    publish_no: int
    worker: str | None
    queued_at: datetime
    started_at: datetime | None
    """When it was first claimed."""
    finished_at: datetime | None
    not_before: datetime | None
    progress: dict[str, Any] | None
    """`{"done": 40, "total": 100, "unit": "rounds", "left_s": 3.1}`."""
    result: dict[str, Any] | None
    error: str | None
    task_id: str | None
    claimed_at: datetime | None = None
    """When it was last claimed."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as a reader sees it."""

    run_id: str
    namespace: str
    strategy: str
    kind: Kind
    state: RunState
    slot: str | None
    reason: str
    requested_by: str
    executor: Executor
    as_of: date | None
    policy: dict[str, Any]
    params: dict[str, Any]
    outcome: dict[str, Any] | None
    """What `AsyncResult(run_id).get()` returns, or the error in words."""
    cancel_requested: bool
    created_at: datetime
    finished_at: datetime | None
    stages: tuple[StageView, ...]


@dataclass(frozen=True, kw_only=True)
class ScheduleEntry:
    """One line of the timetable."""

    key: str
    """`growth:drift_check`."""
    strategy: str
    kind: Kind
    cron: str
    """Five fields, UTC."""
    offset_s: float
    """Spread: seconds after the nominal time at which the slot is opened."""
    grace_s: float
    enabled: bool = True
    last_slot: datetime | None = None
    """Nominal time of the newest slot that was opened or skipped."""

    def is_ahead(self, now: datetime) -> bool:
        """Whether its last slot was opened by a clock that was ahead: nothing would be due until that time comes."""
        return self.last_slot is not None and (self.last_slot - now).total_seconds() > AHEAD_S


UNIQUE_LENGTH = 9
"""Characters that end a worker's name: a dot and eight hexadecimal digits, drawn at each start, since hosts and
containers may share a name."""
_UNIQUE = re.compile(r"\.[0-9a-f]{8}$")


def place_of(name: str) -> str:
    """A worker's name without what is of this start alone: whoever starts there next takes its place.

    >>> place_of("train.cpu@host.5e0c19ab"), place_of("train.cpu@host")
    ('train.cpu@host', 'train.cpu@host')
    """
    return _UNIQUE.sub("", name)


@dataclass(frozen=True, kw_only=True)
class WorkerBeat:
    """Sign of life of one worker."""

    name: str
    """Unique; of one that an older version started, its place."""
    role: str
    queues: tuple[str, ...]
    device: str
    """`cpu` or `gpu`."""
    pid: int
    host: str
    concurrency: int
    uptime_s: float | None = None
    """Since its main process was started, by its host's clock; None: not told."""
    seen_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class LedgerIdentity:
    """A ledger, wherever its database moves."""

    ledger_id: str
    """Random, made at the first question; a restored backup keeps it, an emptied database gets another one."""
    address: str
    """Where it is now, without credentials; for people."""
    made_at: datetime
    """By its own clock; a restored backup keeps this too."""

    def __str__(self) -> str:
        return f"ledger {self.ledger_id[:8]} ({self.address})"


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What is still to be looked through of a time that the ledger forgot, since it was set back; None: nothing."""

    outcomes_since: datetime | None = None
    registry_since: datetime | None = None
    set_back_to: datetime | None = None
    set_back_at: datetime | None = None
    """When that was noticed last; None: never."""
