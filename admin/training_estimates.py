"""What can be started on the training page, and how long it takes by what earlier trainings took; pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mlops.domain.policies import MAX_TRIALS
from mlops.domain.records import Kind
from mlops.ledger.run_list import Training


@dataclass(frozen=True, kw_only=True)
class Offer:
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
        Offer(
            name="train",
            title="Train",
            words="A full training on all days of the window, whatever the drift.",
            kind=Kind.RETRAIN,
        ),
        Offer(
            name="incremental",
            title="Incremental update",
            words="A few more rounds on recent days, on top of the champion; a full training where there is none.",
            kind=Kind.RETRAIN,
        ),
        Offer(
            name="auto",
            title="Auto-retrain",
            words="A drift check first; only what drifted, or has no champion, is trained.",
            kind=Kind.PIPELINE,
        ),
        Offer(
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
    offer: Offer, strategies: Sequence[str], earlier: Sequence[Training], *, n_trials: int, n_slots: int
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
