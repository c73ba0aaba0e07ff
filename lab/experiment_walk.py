"""An experiment from its first scored day to its end, decided by the product's own rules.

The sequence of a day knows the differences up to that day alone, so that all days' intervals are computed at once and
each day is decided by its own. Called by `lab.experiment_simulation` and `lab.experiment_replay`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.domain.experiments.decision import ENDS, Action, Evidence, Guardrail, Mode, Stand, decide
from mlops.domain.experiments.policy import ExperimentPolicy
from mlops.domain.experiments.sequence import confidence_sequence

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Walked:
    """How an experiment went."""

    end: Action
    """`wait`: the days that were given are over, and it still runs"""
    day: int
    """Scored days until then"""
    step: int
    """Index of the canary's step then"""
    advanced: tuple[int, ...]
    """Scored days until each step after the first"""
    low: float
    high: float
    words: str


def walk(
    differences: Vector,
    *,
    policy: ExperimentPolicy,
    r: float,
    mode: Mode = Mode.CANARY,
    guardrails: Callable[[int], Sequence[Guardrail]] | None = None,
) -> Walked:
    """Decide day by day.

    differences : (t,) of successive scored days      guardrails : gives those of the n-th day, from 1
    """
    bounds = confidence_sequence(differences, r=r, alpha=policy.alpha)
    means = (np.cumsum(differences) / np.arange(1, len(differences) + 1)).tolist()
    steps = policy.steps if mode is Mode.CANARY else (0.0,)
    step, since, advanced = 0, 0, []
    end, day, words = Action.WAIT, 0, ""
    for day, (low, high) in enumerate(zip(bounds.low.tolist(), bounds.high.tolist(), strict=True), start=1):
        stand = Stand(
            mode=mode,
            steps=steps,
            step=step,
            days_on_step=day - since,
            min_days_on_step=policy.min_days_on_step,
            days_left=policy.deadline_days - day,
        )
        evidence = Evidence(
            n_days=day, low=low, high=high, mean=means[day - 1], guardrails=guardrails(day) if guardrails else ()
        )
        found = decide(stand, evidence)
        end, words = found.action, found.words
        if end in ENDS:
            break
        if end is Action.ADVANCE:
            step, since = step + 1, day
            advanced.append(day)
    last = max(day - 1, 0)
    return Walked(
        end=end if end in ENDS else Action.WAIT,
        day=day,
        step=step,
        advanced=tuple(advanced),
        low=float(bounds.low[last]) if day else -np.inf,
        high=float(bounds.high[last]) if day else np.inf,
        words=words,
    )
