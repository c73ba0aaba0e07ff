"""How much worse than another version one answers, apart from any test of its worth; pure.

Called by the daily look at an experiment, by the watch over the champion, and each minute by the reconciler. A
guardrail with too few answers says nothing; each is of one version beside another on the same rows or minutes.

The error rate and the latency are looked at each minute, and a few errors of a few hundred answers come about by chance
on some day of a year. So a value beyond the bound must be clear, too: chance brings one about at any minute of a year
with probability 1 % at most, both guardrails together. That is by the sum over the looks, which holds however much
their windows overlap. It costs time while little is answered: of 200 answers beside as many without an error 15 % must
have failed, of 20,000 1.5 %. A latency needs about 380 calls of the other version.

Answers that fail or are slow together count as one: those of one call, and those of a bad minute beside better ones, by
the variance between the minutes over that of independent answers (the heterogeneity factor of Finney 1971, Probit
analysis). The other three are looked at daily, and their bounds lie beyond what sound versions were seen to come to in
a year (docs/statistics.md), chance included; they need `min_answers` rows, or labels that are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc
from scipy.stats import binom, chi2

from mlops.domain.experiments.decision import Guardrail
from mlops.domain.experiments.policy import GuardrailPolicy
from mlops.domain.experiments.records import LATENCY_BOUNDS_MS, AnswerCount
from mlops.domain.training.metrics import THRESHOLD

Vector = npt.NDArray[np.float64]

_SLOW = 0.95
"""Quantile of the time to answer"""
_LEVEL = 0.01 / (2 * 366 * 24 * 60)
"""Probability with which one of the two guardrails breaks at one look by chance"""
_RATES = np.linspace(0.0, 1.0, 1001) ** 2
"""The other version's error rates between which it is looked for what explains both best; finer where they are low"""


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
    n_errors = [sum(count.n_errors for count in counts) for counts in both]
    calls = [
        np.array([count.latency_ms for count in counts]).reshape(-1, len(LATENCY_BOUNDS_MS) + 1) for counts in both
    ]
    n_calls = [int(np.sum(each)) for each in calls]
    rates = [errors / max(1, n) for errors, n in zip(n_errors, n_rows, strict=True)]
    excess = rates[0] - rates[1]
    slow = [latency_quantile([int(n) for n in each.sum(axis=0)], _SLOW) for each in calls]
    ratio = slow[0] / slow[1] if slow[0] is not None and slow[1] else 0.0
    # A call that failed was not timed; both are asked in calls of like size.
    per_call = (sum(n_rows) - sum(n_errors)) / max(1, sum(n_calls))
    errors_clear = excess > policy.error_rate and _is_more(both, policy.error_rate, per_call=per_call)
    slow_clear = ratio > policy.latency_ratio and _is_slower(calls, policy.latency_ratio)
    return (
        _guardrail("error rate", excess, policy.error_rate, min(n_rows), policy, is_clear=errors_clear),
        _guardrail("latency", ratio, policy.latency_ratio, min(n_calls), policy, is_clear=slow_clear),
    )


def _is_more(both: Sequence[Sequence[AnswerCount]], bound: float, *, per_call: float) -> bool:
    """Whether no error rates whose difference is the bound explain both counts.

    For each rate of the other version the two binomial tails are independent p-values, whose product Fisher 1932 gives
    the distribution of; the rate that explains both best is not known, so that the largest product counts.
    """
    (k, n), (k_other, n_other) = (
        np.array([sum(count.n_errors for count in counts), sum(count.n for count in counts)])
        / max(per_call, _clumping([count.n_errors for count in counts], [count.n for count in counts]))
        for counts in both
    )
    if k < 1:  # less than one call, or one bad minute
        return False
    rates = _RATES * (1 - bound)
    # Between two of the rates neither tail is larger than it is at the one or at the other end.
    many = betainc(k, n - k + 1, rates[1:] + bound)
    few = betainc(n_other - k_other, k_other + 1, 1 - rates[:-1]) if k_other < n_other else np.ones(len(rates) - 1)
    return bool(np.max(many * few) <= np.exp(-chi2.isf(_LEVEL, 4) / 2))


def _is_slower(calls: Sequence[npt.NDArray[np.int64]], bound: float) -> bool:
    """Whether the lower bound of one quantile is so many times the upper one of the other, to a part of a bucket.

    calls : (minutes, buckets) of both. The bounds are order statistics, for which latencies need no distribution.
    """
    ends: list[float] = []
    for each, level in zip(calls, (_LEVEL / 2, 1 - _LEVEL / 2), strict=True):
        buckets = each.sum(axis=0)
        slow = int(np.searchsorted(np.cumsum(buckets), _SLOW * np.sum(buckets)))
        n = int(np.sum(buckets) / _clumping(each[:, slow:].sum(axis=1), each.sum(axis=1)))
        place = binom.ppf(level, n, _SLOW) + (1 if ends else 0)
        end = latency_quantile([int(one) for one in buckets], place / n) if n and place <= n else None
        if end is None:
            return False
        ends.append(end)
    return ends[0] > bound * ends[1]


def _clumping(hits: npt.ArrayLike, n: npt.ArrayLike) -> float:
    """Variance of the hits of n answers a minute over that of independent ones; 1 at least."""
    k, of = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    k, of = k[of > 0], of[of > 0]
    share = float(np.sum(k) / max(1.0, np.sum(of)))
    if len(of) < 2 or not 0 < share < 1:
        return 1.0
    return max(1.0, float(np.sum((k - share * of) ** 2 / of) / (share * (1 - share) * (len(of) - 1))))


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


def _guardrail(
    name: str, value: float, bound: float, n: int, policy: GuardrailPolicy, *, is_clear: bool = True
) -> Guardrail:
    return Guardrail(name=name, value=float(value), bound=bound, n=n, min_n=policy.min_answers, is_clear=is_clear)
