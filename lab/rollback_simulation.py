"""How often a champion that is as good as those before it gives its place back within two years of daily looks; pure.

The panels are those of `lab.experiment_simulation`; the decision is the product's, with the level alpha / k and with a
mixture that is set, as the product does, by what each former champion said before the promotion. Called by
`bench/rollback.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab.experiment_simulation import ALPHA, HELD_OUT, HORIZON, SKILL, calibrated_probabilities
from mlops.domain.experiments.daily_scores import increment_difference, mark_difference
from mlops.domain.experiments.duration import MAX_DAYS, planned_watch_days
from mlops.domain.experiments.policy import ExperimentPolicy
from mlops.domain.experiments.records import Measure
from mlops.domain.experiments.rollback import FormerChampion, RollbackAction, RollbackFacts, evidence_of
from mlops.domain.experiments.sequence import confidence_sequence, mixture_variance

Vector = npt.NDArray[np.float64]

BETTER = 0.3
"""Correlation of what a better former champion sees with the return over the horizon"""
_SPREAD, _COMMON, _LASTING = 0.01, 0.3, 0.95
"""Of a name's daily return, its share that is the market's, and the autocorrelation of a version's noise"""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """How champions fared that were looked at daily for two years beside k former ones."""

    measure: Measure
    k: int
    skill_of_former: float
    """Correlation of what the best of them sees with the return; the champion's is `SKILL`"""
    n: int
    rolled_back: float
    """Share that gave the place back; where the former are no better, wrongly"""
    median_days: float | None
    """Days to it, of all; None: fewer than half did"""


def watch_champions(n: int, *, k: int, n_names: int, best: float = SKILL, seed: int = 23) -> list[Watched]:
    """Watch n champions beside k former ones by each measure, on the same panels.

    best : correlation of what one of the former sees; of the others it is the champion's
    """
    rng = np.random.default_rng([seed, k, n_names])
    days = {measure: np.empty(n) for measure in Measure}
    for place in range(n):
        found = _one(rng, n_names=n_names, skills=[SKILL, best, *([SKILL] * (k - 1))])
        for measure in Measure:
            days[measure][place] = _days_to_rollback(found[measure], measure)
    return [_watched(measure, k, best, of) for measure, of in days.items()]


def _watched(measure: Measure, k: int, best: float, days: Vector) -> Watched:
    median = float(np.median(days))
    return Watched(
        measure=measure,
        k=k,
        skill_of_former=best,
        n=len(days),
        rolled_back=float(np.isfinite(days).mean()),
        median_days=median if math.isfinite(median) else None,
    )


def _one(
    rng: np.random.Generator, *, n_names: int, skills: Sequence[float]
) -> dict[Measure, list[tuple[Vector, Vector]]]:
    """By measure, of each former champion its days before the promotion and its differences since."""
    days, h = HELD_OUT + MAX_DAYS, HORIZON
    market = math.sqrt(_COMMON) * rng.normal(size=(days + h, 1))
    moves = market + math.sqrt(1 - _COMMON) * rng.normal(size=(days + h, n_names))
    so_far = np.vstack([np.zeros((1, n_names)), np.cumsum(moves, axis=0)])
    ahead = (so_far[h:] - so_far[:-h])[:days] / math.sqrt(h)
    champion, *former = (calibrated_probabilities(ahead, skill, _LASTING, rng) for skill in skills)
    returns, beside_none = _SPREAD * moves[:days], np.full_like(champion, 0.5)

    def differences(measure: Measure, one: Vector, other: Vector) -> Vector:
        if measure is Measure.MARK:
            return mark_difference(one, other, returns)
        return increment_difference(one, other, returns, horizon_dates=h)

    return {
        measure: [
            (differences(measure, one, beside_none)[:HELD_OUT], differences(measure, one, champion)[HELD_OUT:])
            for one in former
        ]
        for measure in Measure
    }


def _days_to_rollback(pairs: Sequence[tuple[Vector, Vector]], measure: Measure) -> float:
    """Days until the product rolls back, looked at daily; infinite: it does not within these."""
    policy = ExperimentPolicy(alpha=ALPHA)
    level = ALPHA / len(pairs)
    planned = planned_watch_days(policy, alpha=level)
    mixtures = [mixture_variance(spread=float(np.std(before)), days=planned, alpha=level) for before, _ in pairs]

    def is_rolled_back(n_days: int) -> bool:
        former = tuple(
            FormerChampion(
                version=str(place),
                model_sha256="",
                made_by=None,
                is_watched=True,
                r=r,
                differences=tuple((str(day), float(value)) for day, value in enumerate(since[:n_days])),
            )
            for place, (r, (_, since)) in enumerate(zip(mixtures, pairs, strict=True))
        )
        return bool(evidence_of(_facts(former, measure))["action"] == RollbackAction.ROLLBACK)

    above = [
        confidence_sequence(since, r=r, alpha=level).low > 0 for r, (_, since) in zip(mixtures, pairs, strict=True)
    ]
    days = np.flatnonzero(np.any(above, axis=0)) + 1
    return next((float(day) for day in days if is_rolled_back(int(day))), math.inf)


def _facts(former: Sequence[FormerChampion], measure: Measure) -> RollbackFacts:
    return RollbackFacts(
        strategy="simulated",
        as_of="2000-01-01",
        champion={"version": "champion"},
        measure=measure,
        why_not=None,
        mode="automatic",
        alpha=ALPHA,
        cooldown_days=20,
        days_since_rollback=None,
        former=former,
    )


def better_former(n: int, *, n_names: int) -> list[Watched]:
    """Watch champions beside three former ones of which one sees more than they do."""
    return watch_champions(n, k=3, n_names=n_names, best=BETTER)
