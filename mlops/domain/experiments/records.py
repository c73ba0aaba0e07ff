"""An experiment, its daily looks and the counts of what was answered, as the ledger keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from mlops.domain.experiments.assignment import Assignment
from mlops.domain.experiments.decision import Action, Guardrail, Mode
from mlops.domain.experiments.policy import GuardrailPolicy
from mlops.domain.promotion.records import Champion, ModelIdentity

LATENCY_BOUNDS_MS = tuple(2.0 ** (place / 2) for place in range(-16, 29))
"""Upper ends of the buckets of `AnswerCount.latency_ms`, the end included, from 4 µs to 16 s, each 1.41 times the one
before, so that a ratio of two percentiles is known to a third; a last bucket is beyond."""


class Measure(StrEnum):
    """The daily number by which two versions are compared (`mlops.domain.experiments.daily_scores`)."""

    MARK = "mark"
    INCREMENT = "increment"


@dataclass(frozen=True, kw_only=True)
class ExperimentPlan:
    """What an experiment was started as; written once, never changed: its policy snapshot."""

    mode: Mode
    steps: tuple[float, ...]
    """Shares of a canary, ascending; else the one share, 0 of a shadow"""
    measure: Measure
    alpha: float
    sharpe: float
    """Annual, of the difference that it is planned to find"""
    r: float
    """Variance of the mixture, in squared units of the measure (`sequence.mixture_variance`)"""
    deadline_days: int
    """Trading days"""
    min_days_on_step: int
    horizon_dates: int
    """Trading dates that the strategy's label looks ahead"""
    guardrails: GuardrailPolicy
    salt: str
    keys: tuple[str, ...] = ()
    """That the challenger answers whatever its share"""
    expected: dict[str, Any] | None = None
    """How long it was said to take (`duration.Duration` as JSON)"""
    label: str | None = None
    """Of the strategy, and the column of returns that its days are measured by, which `r` is in units of; None: not
    recorded"""
    return_column: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewExperiment:
    """An experiment that is to be started."""

    namespace: str
    strategy: str
    plan: ExperimentPlan
    champion_version: str
    champion_seq: int
    """`Champion.seq` that it is started against"""
    champion: ModelIdentity
    challenger_version: str
    challenger: ModelIdentity
    started_as_of: date
    """Newest complete date then; later dates are its evidence"""
    started_by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Experiment(NewExperiment):
    """A row of `mlops_experiment`."""

    id: int
    step: int
    """Index into `plan.steps`"""
    step_since: date
    """Dates after this one were answered with the present share"""
    held: bool
    """A person holds it on its step"""
    started_at: datetime
    paused: bool = False
    """Its challenger answers nobody and is not promoted until a person releases it: the ledger was set back in time,
    and may have forgotten that somebody ended it"""
    end: Action | None = None
    """None: it runs"""
    end_words: str | None = None
    ended_by: str | None = None
    ended_at: datetime | None = None
    promotion_id: int | None = None
    """The decision that it led to"""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.end is None

    @property
    def share(self) -> float:
        """Share of the keys that the challenger answers now."""
        return 0.0 if self.paused else self.plan.steps[self.step]

    @property
    def challenger_place(self) -> Champion:
        """The challenger as if it were the champion, for what finds and keeps a champion's model."""
        return Champion(
            namespace=self.namespace,
            strategy=self.strategy,
            version=self.challenger_version,
            seq=self.champion_seq,
            as_of=None,
            promotion_id=None,
            identity=self.challenger,
        )

    @property
    def assignment(self) -> Assignment:
        """Which keys the challenger answers now."""
        keys = () if self.paused else self.plan.keys
        return Assignment(salt=self.plan.salt, share=self.share, keys=frozenset(keys))


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a day's look at an experiment found; append-only, one of a date."""

    as_of: date
    n_days: int
    """Days on which both versions were scored"""
    mean: float | None
    """Of the daily differences, challenger less champion"""
    low: float | None
    high: float | None
    """Of the confidence sequence of that mean; None: none yet"""
    share: float
    guardrails: tuple[Guardrail, ...]
    action: Action
    words: str
    differences: tuple[tuple[date, float], ...]
    """Each scored day's difference as it was known at this look"""


@dataclass(frozen=True, kw_only=True)
class ServingState:
    """Who answers for a strategy now, as whoever serves asks for it."""

    champion: Champion
    experiment: Experiment | None
    """The running one; None too where the champion is not the one that it was started against"""


@dataclass(frozen=True, kw_only=True)
class AnswerCount:
    """What one process answered by one version in one minute, counted up; the same again changes nothing."""

    strategy: str
    version: str
    model_sha256: str
    variant: str
    """`champion` or `challenger`"""
    minute: datetime
    """Its begin"""
    writer: str
    """An id of the process that counts, another one after each start; empty: all of them together"""
    n: int
    """Rows that it was asked for, those that failed too"""
    n_errors: int
    n_positive: int
    n_missing_rows: int
    """Rows that lacked a feature which the version reads"""
    latency_ms: tuple[int, ...]
    """Requests by bucket of `LATENCY_BOUNDS_MS`, one more than these, by the time of one of their rows"""

    def __post_init__(self) -> None:
        """Raise ValueError where the buckets are not those of `LATENCY_BOUNDS_MS`."""
        if len(self.latency_ms) != len(LATENCY_BOUNDS_MS) + 1:
            message = f"latencies are counted in {len(LATENCY_BOUNDS_MS) + 1} buckets, not in {len(self.latency_ms)}"
            raise ValueError(message)
