"""What the stages need from outside, as Protocols; `mlops.bootstrap` chooses the adapters.

FeatureSource    features/postgres.py, sqlite.py, parquet.py      fake: tests/support
ModelRegistry    mlflow/registry.py                              fake: tests/support
Trainer          training/trainer.py, or a strategy's own
Ledger           ledger/ (PostgreSQL, SQLite)
Dispatcher       tasks/dispatch.py
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    import xgboost as xgb

    from mlops.features.sampling import RowSample
    from mlops.ledger.records import (
        Accepted,
        Champion,
        Finished,
        Grant,
        OutcomeMessage,
        Promotion,
        PromotionDecision,
        Publication,
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
    from mlops.training.matrix import Rows


# --------------------------------------------------------------------------- features


@dataclass(frozen=True, kw_only=True)
class Window:
    """Dates of a read: `start` excluded, `end` included, so that adjacent windows share no date."""

    start: date
    end: date


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the feature view."""

    name: str
    kind: str
    """`number`, `category` (text, boolean), `date`, or `other`."""


class FeatureSource(Protocol):
    """The feature view, read by strategy and date window; always as of a date, never beyond it."""

    def columns(self) -> tuple[Column, ...]:
        """All columns, in the view's order. Raises SourceUnavailable, MissingColumn (no view, no `date`)."""
        ...

    def latest_date(self, strategy: str | None = None) -> date | None:
        """Newest date that has rows of the strategy (of any, when None); None when there is none."""
        ...

    def dates(self, strategy: str, window: Window) -> list[date]:
        """Distinct dates with rows, ascending."""
        ...

    def count(self, strategy: str, window: Window) -> int:
        """Rows in the window."""
        ...

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        """How many rows each date of the window has, ascending by date; dates without rows are not there."""
        ...

    def read(
        self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
    ) -> pa.Table:
        """Rows of the window as Arrow, ordered by date and ticker; of a sample those alone.

        Numbers come as float64 (nan for NULL is *not* substituted: nulls stay null), `date` as date32,
        text as string. An empty window gives an empty table, not an error. Raises SourceUnavailable,
        MissingColumn for a column that the view lacks.
        """
        ...

    def read_batches(self, strategy: str, window: Window, columns: Sequence[str]) -> Generator[pa.RecordBatch]:
        """The rows of `read`, in its order and types, in batches, so that they never stand in memory together.

        An empty window gives no batch, or empty ones. Nothing else is asked of the source until the last batch
        was taken or the iterator was closed. Raises what `read` raises, at the first batch.
        """
        ...


# --------------------------------------------------------------------------- training


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A matrix with its labels."""

    x: Rows
    """(n, f) float32: an array, or rows that are too many for one; `np.asarray(x)` is an array of either."""
    y: npt.NDArray[np.int8]
    """(n,) of 0 and 1"""
    dates: npt.NDArray[np.datetime64]
    """(n,) datetime64[D], ascending"""
    features: tuple[str, ...]
    """f names"""
    validation: Validation | None = None
    """Rows to stop early on; None: every round is boosted."""
    base: bytes | None = None
    """A model in XGBoost's UBJSON whose trees stay and are continued; None: begin without any. Given only to a
    trainer whose `can_continue` is True; `n_estimators` then counts the base's rounds too."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Later rows than those that are fitted, none of whose labels reaches back into them."""

    x: Rows
    y: npt.NDArray[np.int8]
    patience_rounds: int
    """Stop after so many rounds without a better log loss here; the model ends with the best round."""
    positive_weight: float = 1.0
    """What a positive row weighs in that log loss, a negative one 1; as in the fit."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is."""

    done: int
    total: int
    unit: str = "rounds"
    left_s: float | None = None


class TrainingControl(Protocol):
    """What a trainer asks and tells while it runs; called once per boosting round, so it is cheap."""

    def report(self, progress: Progress) -> None:
        """Tell how far the training is."""
        ...

    def check(self) -> None:
        """Raise StageCancelled, LeaseLost, or Drained when the training must stop now."""
        ...

    def save_checkpoint(self, name: str, payload: bytes) -> None:
        """Keep `payload` so that a later grant of this stage can resume from it."""
        ...

    def load_checkpoint(self) -> tuple[str, bytes] | None:
        """Name and payload of the newest checkpoint whose data and parameters agree, or None."""
        ...


class Trainer(Protocol):
    """Fits one binary classifier. A strategy may name its own; it must return an XGBClassifier.

    One that honours `TrainingData.base` says so with an attribute `can_continue = True`.
    """

    def fit(
        self,
        data: TrainingData,
        *,
        params: Mapping[str, float | int | str | bool],
        seed: int,
        device: str,
        n_jobs: int,
        segment_rounds: int,
        control: TrainingControl,
    ) -> xgb.XGBClassifier:
        """Fit on all rows of `data`. `device` is `cpu` or `cuda`."""
        ...


# --------------------------------------------------------------------------- registry


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A version in the model registry."""

    name: str
    version: str
    stage: str
    """None, Staging, Production or Archived."""
    aliases: tuple[str, ...]
    run_id: str | None
    """The registry's own run, not the ledger's."""
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    created_at: datetime
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One parameter set that a tuning tried."""

    number: int
    """From 1."""
    params: Mapping[str, Any]
    value: float | None
    """Of the metric that is tuned, the mean over all folds; None where the trial was pruned."""
    so_far: tuple[float, ...]
    """That mean after each fold but the last."""
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """All that is logged of one training."""

    ledger_run_id: str
    strategy: str
    model_name: str
    run_name: str
    model: Any
    """An XGBClassifier."""
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    features: tuple[str, ...]
    example: Any
    """A small pandas frame, float32/float64 columns in the order of `features`."""
    predictions: Any
    """Output of the model for `example`, for the signature."""
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    """Files to log: artifact folder (may be '') + '/' + file name → local file."""
    dataset: Any = None
    """A pandas frame of some of the data set's rows, which gives its schema, or None."""
    dataset_rows: int = 0
    """How many rows the data set has."""
    dataset_name: str = ""
    trials: tuple[TrialRecord, ...] = ()
    """Logged as runs of their own below this one."""
    trials_metric: str = ""


@dataclass(frozen=True, kw_only=True)
class FailedTraining:
    """What is known of a training that failed."""

    ledger_run_id: str
    run_name: str
    reason: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ReportRecord:
    """All that is logged of one drift check."""

    ledger_run_id: str
    strategy: str
    run_name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Mapping[str, str]
    """Artifact name → text"""


@dataclass(frozen=True, kw_only=True)
class RegistryRun:
    """A run in the registry's own pages."""

    run_id: str
    url: str | None
    """Where a browser finds it; None where the registry has no pages."""


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What a version's training logged beside its metrics."""

    params: Mapping[str, str]
    importance: Mapping[str, float]
    """Share of the total gain by feature, the largest first; empty where it was not logged."""


@dataclass(frozen=True, kw_only=True)
class RegistryCensus:
    """All that the registry holds, by names and numbers."""

    experiments: tuple[str, ...]
    models: tuple[str, ...]
    versions: tuple[ModelVersion, ...]
    """Without metrics, newest first within a model."""


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """A run of the registry, and when it began."""

    run_id: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class OpenRegistryRun:
    """A run of the registry that says RUNNING."""

    run_id: str
    ledger_run_id: str


#: Name of the drift profile among a version's artifacts, and of the tag that holds its SHA-256.
PROFILE_ARTIFACT, PROFILE_TAG = "drift_profile.arrow", "acis.profile_sha256"


class ModelRegistry(Protocol):
    """Where models and their versions live. Raises RegistryUnavailable when it does not answer."""

    def log_training(self, trained: TrainedModel, *, before_write: Callable[[], None] = lambda: None) -> ModelVersion:
        """Log and register, once per `ledger_run_id` however often it is called, and by whomever.

        before_write: called before each write; raises where the caller may not write any more.
        """
        ...

    def log_failure(self, failed: FailedTraining) -> None:
        """Log an attempt that ended before there was a model, as a run that FAILED with the reason."""
        ...

    def find_by_ledger_run(self, model_name: str, ledger_run_id: str) -> ModelVersion | None:
        """The version that a ledger run registered, or None."""
        ...

    def version(self, model_name: str, version: str) -> ModelVersion:
        """Raises ModelNotFound, VersionNotFound."""
        ...

    def versions(self, model_name: str) -> list[ModelVersion]:
        """All versions, newest first; empty where there is no such model."""
        ...

    def load_classifier(self, model_name: str, version: str) -> xgb.XGBClassifier:
        """The version as an XGBClassifier, verified against its logged digest."""
        ...

    def drift_profile(self, model_name: str, version: str) -> bytes:
        """The profile that the version was logged with, verified against its logged digest.

        Raises ModelNotFound, VersionNotFound; UnusableProfile: it has none, it is gone, or it was changed.
        """
        ...

    def training_facts(self, version: ModelVersion) -> TrainingFacts:
        """Parameters and importance of a version's training. Raises ModelNotFound where its run is gone."""
        ...

    def census(self) -> RegistryCensus:
        """Everything, in a few requests however many versions there are."""
        ...

    def ended_runs(self, *, page: str | None = None) -> tuple[list[RunStart], str | None]:
        """Runs that have ended, newest first, a thousand at a time, with what names the next page."""
        ...

    def artifact_bytes(self, run_id: str) -> int:
        """What a run's files and its model hold; some requests."""
        ...

    def apply_stage(self, model_name: str, version: str, stage: str, *, seq: int, tags: Mapping[str, str]) -> None:
        """Make stage and alias say that `version` is in `stage`; safe to repeat.

        Production: stage first, then alias `champion`, then every other Production version to Archived.
        Staging: alias `challenger`. Archived, None: the aliases that point to it go.
        `tags` are written first, `seq` as tag `acis.seq`.
        """
        ...

    def log_report(self, report: ReportRecord) -> RegistryRun:
        """Log a drift check in the experiment of its strategy's, once per `ledger_run_id` unless two do so at once."""
        ...

    def drop_report(self, run_id: str) -> None:
        """Delete a run that `log_report` made beside another's; nothing where it is gone."""
        ...

    def close_stale_runs(self, ledger_run_id: str, *, reason: str) -> int:
        """End as KILLED the registry's runs of this ledger run that still say RUNNING; how many."""
        ...

    def open_runs(self) -> list[OpenRegistryRun]:
        """What says RUNNING in our experiments, however old; some hundreds at most."""
        ...

    def close_run(self, run_id: str, *, reason: str) -> None:
        """End one as KILLED."""
        ...


# --------------------------------------------------------------------------- ledger


class Ledger(Protocol):
    """The durable record of runs. Every call is one transaction; the database's clock is the only clock.

    All raise LedgerUnavailable when the database does not answer.
    """

    def now(self) -> datetime:
        """The database's clock."""
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
    ) -> Grant | None:
        """The stage, when it is queued and due or its lease has expired; else None."""
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

    def newest_decision(self, strategy: str, version: str, *, namespace: str = "live") -> Promotion | None:
        """The last decision about a version, whoever made it; None where there is none."""
        ...

    def challengers_of(
        self, strategy: str, champion: str, *, since: date, other_than: str, namespace: str = "live"
    ) -> tuple[str, ...]:
        """Versions that were tested against this champion, by decisions dated `since` or later; oldest first."""
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

    # -- the reconciler's view

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


class Dispatcher(Protocol):
    """Rings the bell: turns publications into messages."""

    def publish(self, publication: Publication) -> bool:
        """Send it; False where the broker does not answer (the reconciler will send it)."""
        ...

    def flush(self) -> None:
        """Note in the ledger now what was sent, where that waits."""
        ...


Alert = Callable[[str, Mapping[str, Any]], None]
"""Called with a stable event word and its fields where a person should know."""
