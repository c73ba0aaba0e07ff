"""What the form of the training page asks to start; the question before it asks the same of a query."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from admin.responses import NothingChosen, NotValid
from admin.trainable import Show, open_trainings, trainable
from mlops.domain.errors import ConfigurationError
from mlops.domain.policies import MAX_TRIALS
from mlops.domain.records import Kind
from mlops.ledger.queries.run_lists import Training
from mlops.runs.options import RunOptions

if TYPE_CHECKING:
    from admin.request_context import RequestContext

# ---- What can be started on the training page, and how long it takes by what earlier trainings took; pure


@dataclass(frozen=True, kw_only=True)
class TrainingEstimate:
    """One of the four."""

    name: str
    title: str
    words: str
    kind: Kind
    """Of the run that it opens, with promotion."""

    def is_like(self, training: Training) -> bool:
        """Whether an earlier training did the same kind of work."""
        if self.name == "tune":
            return training.n_trials > 0
        return training.n_trials == 0 and training.is_incremental == (self.name == "incremental")


OFFERS = {
    offer.name: offer
    for offer in (
        TrainingEstimate(
            name="train",
            title="Train",
            words="A full training on all days of the window, whatever the drift.",
            kind=Kind.RETRAIN,
        ),
        TrainingEstimate(
            name="incremental",
            title="Incremental update",
            words="A few more rounds on recent days, on top of the champion; a full training where there is none.",
            kind=Kind.RETRAIN,
        ),
        TrainingEstimate(
            name="auto",
            title="Auto-retrain",
            words="A drift check first; only what drifted, or has no champion, is trained.",
            kind=Kind.PIPELINE,
        ),
        TrainingEstimate(
            name="tune",
            title="Tune",
            words=f"A search of parameters before the training, in so many trials (at most {MAX_TRIALS}).",
            kind=Kind.RETRAIN,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long the trainings of a start take, the queue not counted."""

    likely_s: float | None
    """Each as long as the median of its like; None: nothing like it has run."""
    longest_s: float | None
    """Each as long as the longest of its like."""
    one_s: float | None
    """A typical one of them."""
    n_earlier: int
    """Trainings that it rests on."""
    n_slots: int
    """Trainings that run at a time."""


def estimate(
    offer: TrainingEstimate, strategies: Sequence[str], earlier: Sequence[Training], *, n_trials: int, n_slots: int
) -> Estimate:
    """By each strategy's own earlier trainings of the kind, else by those of all strategies.

    A tuning is counted by the trial. As long as the sum divided among the slots, and no less than the longest one.
    """
    own: dict[str, list[float]] = defaultdict(list)
    for training in earlier:
        if offer.is_like(training):
            own[training.strategy].append(_scaled(training, n_trials))
    everything = [seconds for times in own.values() for seconds in times]
    n_slots = max(1, n_slots)
    if not everything or not strategies:
        return Estimate(likely_s=None, longest_s=None, one_s=None, n_earlier=len(everything), n_slots=n_slots)
    times_of = [own.get(strategy) or everything for strategy in strategies]
    likely, longest = [median(times) for times in times_of], [max(times) for times in times_of]
    return Estimate(
        likely_s=_together(likely, n_slots),
        longest_s=_together(longest, n_slots),
        one_s=median(likely),
        n_earlier=len(everything),
        n_slots=n_slots,
    )


def _scaled(training: Training, n_trials: int) -> float:
    return training.run_s / training.n_trials * n_trials if training.n_trials else training.run_s


def _together(seconds: Sequence[float], n_slots: int) -> float:
    return max(math.fsum(seconds) / n_slots, *seconds)


MOST_AT_ONCE = 5000


@dataclass(frozen=True, kw_only=True)
class TrainingQuestion:
    """What the form means."""

    offer: TrainingEstimate
    strategies: tuple[str, ...]
    n_trials: int
    options: RunOptions
    promotes: bool

    @property
    def kind(self) -> Kind:
        """Of the runs. Auto-retrain always decides: no such run trains alone."""
        return self.offer.kind if self.promotes or self.offer.name == "auto" else Kind.TRAIN


class TrainingForm(BaseModel):
    """Its fields; what else a browser sends is left alone."""

    what: Literal["train", "incremental", "auto", "tune"] = "train"
    strategies: list[str] = Field(default_factory=list)
    """Those that are ticked."""
    everything: bool = False
    """All that the search finds, on whatever page."""
    q: str = Field("", max_length=100)
    show: Show = ""
    tag: str = Field("", max_length=32)
    trials: int = 30
    promote: bool = False
    reason: str = Field("", max_length=500)

    def asked(self, context: RequestContext) -> TrainingQuestion:
        """What to start. Raises NotValid where it is nothing, UnknownStrategy."""
        found = self.considered(context)
        if not found.strategies:
            raise NothingChosen("no strategy is ticked; tick those to train, or the box for all of them")
        return found

    def considered(self, context: RequestContext) -> TrainingQuestion:
        """The same, which may be nothing yet. Raises NotValid, UnknownStrategy."""
        try:
            options = RunOptions(
                incremental=self.what == "incremental", tune=self.trials if self.what == "tune" else None
            )
        except ConfigurationError as exc:
            raise NotValid(str(exc)) from exc
        names = list(dict.fromkeys(self.strategies))
        if self.everything:
            found = trainable(
                context, open_trainings(context), q=self.q, show=self.show, tag=self.tag, n_rows=MOST_AT_ONCE
            )
            names = [line.strategy for line in found.rows]
        for name in names:
            _ = context.services.strategies[name]
        return TrainingQuestion(
            offer=OFFERS[self.what],
            strategies=tuple(names),
            n_trials=self.trials,
            options=options,
            promotes=self.promote,
        )
