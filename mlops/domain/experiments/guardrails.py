"""How much worse than another version one answers, apart from any test of its worth; pure.

Called by the daily look at an experiment, by the watch over the champion, and each minute by the reconciler. A
guardrail with too few answers says nothing; each is of one version beside another on the same rows or minutes. Only the
watch over the champion sets what was served in different minutes side by side, and only asks by it (`rollback.ACTING`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.domain.experiments.decision import Guardrail
from mlops.domain.experiments.policy import GuardrailPolicy
from mlops.domain.experiments.records import LATENCY_BOUNDS_MS, AnswerCount
from mlops.domain.training.metrics import THRESHOLD

Vector = npt.NDArray[np.float64]

_SLOW = 0.95
"""Quantile of the time to answer"""


@dataclass(frozen=True, kw_only=True)
class PairedAnswers:
    """What two versions said of the same rows, and what came of them."""

    one: Vector
    """(n,) probabilities of the version that is guarded"""
    other: Vector
    """(n,) of the version beside it"""
    y: npt.NDArray[np.int8]
    """(n,) labels, 0 where not known"""
    known: npt.NDArray[np.bool_]
    """(n,)"""


def guard_answers(answers: PairedAnswers, policy: GuardrailPolicy) -> tuple[Guardrail, ...]:
    """Give the guardrails of the share that is called positive, and of the calibration as far as labels are known."""
    n, known = len(answers.one), answers.known
    share = [float(np.mean(said >= THRESHOLD)) if n else 0.0 for said in (answers.one, answers.other)]
    found = [_guardrail("positive share", abs(share[0] - share[1]), policy.positive_share, n, policy)]
    n_known = int(np.count_nonzero(known))
    excess = 0.0
    if n_known:
        came = float(np.mean(answers.y[known]))
        off = [abs(float(np.mean(said[known])) - came) for said in (answers.one, answers.other)]
        excess = off[0] - off[1]
    return (*found, _guardrail("calibration", excess, policy.calibration, n_known, policy))


def guard_missing(
    missing: float, missing_other: float, *, n_rows: int, policy: GuardrailPolicy
) -> tuple[Guardrail, ...]:
    """Give the guardrail of missing values among the features that each version reads, as shares of them."""
    return (_guardrail("missing features", missing - missing_other, policy.missing_features, n_rows, policy),)


def guard_served(
    one: Sequence[AnswerCount], other: Sequence[AnswerCount], policy: GuardrailPolicy
) -> tuple[Guardrail, ...]:
    """Give the guardrails of the error rate and of the latency, of what both versions were asked while serving.

    Of each there must be as many answers of either version as the policy says: a share of a few is no share.
    """
    both = (one, other)
    n_rows = [sum(count.n for count in counts) for counts in both]
    rates = [sum(count.n_errors for count in counts) / max(1, n) for counts, n in zip(both, n_rows, strict=True)]
    calls = [[sum(column) for column in zip(*(count.latency_ms for count in counts), strict=True)] for counts in both]
    slow = [latency_quantile(buckets, _SLOW) for buckets in calls]
    ratio = slow[0] / slow[1] if slow[0] is not None and slow[1] else 0.0
    return (
        _guardrail("error rate", rates[0] - rates[1], policy.error_rate, min(n_rows), policy),
        _guardrail("latency", ratio, policy.latency_ratio, min(sum(buckets) for buckets in calls), policy),
    )


def latency_quantile(buckets: Sequence[int], share: float) -> float | None:
    """Give the latency, ms, below which this share of the calls lay; the end of a bucket's own where it is the last.

    buckets : calls by bucket of `LATENCY_BOUNDS_MS`, in which they are taken to lie evenly by the logarithm; none: None
    """
    wanted, before = share * sum(buckets), 0
    for place, n in enumerate(buckets):
        if n and before + n >= wanted:
            high = LATENCY_BOUNDS_MS[min(place, len(LATENCY_BOUNDS_MS) - 1)]
            low = LATENCY_BOUNDS_MS[place - 1] if place else high / 2
            return float(low * (high / low) ** ((wanted - before) / n))
        before += n
    return None


def _guardrail(name: str, value: float, bound: float, n: int, policy: GuardrailPolicy) -> Guardrail:
    return Guardrail(name=name, value=float(value), bound=bound, n=n, min_n=policy.min_answers)
