"""Paired evaluation of champion and challenger on the same held-out dates: the probability that one is better.

Called by `mlops.domain.promotion.evidence`. Dates are resampled in blocks, whole and the same for both, since what
both models meet on a date is the same market. Block length, spread and deflation: docs/decisions/0016.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlops.domain.promotion.bootstrap import (
    INTERVAL,
    MIN_BLOCKS,
    automatic_block_length,
    excess_p_value,
    missed_by_blocks,
    spread_of_few_blocks,
    stationary_counts,
)
from mlops.domain.promotion.date_parts import Parts, influence, metric_of
from mlops.domain.promotion.error_budget import deflated, resamples_for
from mlops.domain.training.metrics import LOWER_IS_BETTER, Floats

SEED = 42
"""Of the resamples. It is the same for every decision: a seed that could be chosen is a look."""

_RESAMPLES_OF_RATIO = 2_000

Verdict = Literal["promote", "keep", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Result of the paired test on common dates."""

    metric: str
    challenger: float
    champion: float
    difference: float
    """Positive where the challenger is better, whatever the metric's direction."""
    low: float
    high: float
    """Interval of the difference, at the quantiles `bootstrap.INTERVAL`."""
    n_dates: int
    block_dates: float
    """Expected length: the label's horizon, or the automatic length where that is longer."""
    automatic_block_dates: float
    spread: float
    """Factor on the blocks' resamples' distance from the difference, for few blocks; see `spread_of_few_blocks`."""
    resamples: int
    n_undefined: int
    """Resamples in which the metric is undefined for either model; they count for neither."""
    margin: float
    better_in_blocks: float
    better_by_date: float
    """Probability as if dates were independent. Overlap can only make the answer less sure, so the smaller one counts:
    the spread of few blocks may come out too small by chance."""
    probability_better: float
    """Probability that the challenger is better by at least the margin: the smaller of the two."""
    probability_worse: float
    """Probability that the champion is better by at least the margin."""
    looks: int
    deflated_better: float
    deflated_worse: float
    confidence: float
    verdict: Verdict
    p_value: float | None = None
    """P-value of not being better by the margin: Student's t in blocks or the normal by dates, the larger."""
    level: float | None = None
    """Largest p-value that promotes (`mlops.domain.promotion.error_budget`); None: the probability alone is asked."""
    n_dates_before: int | None = None
    """Earlier dates of the champion from which the spread was taken; None: the common dates have enough blocks."""


@dataclass(frozen=True, kw_only=True)
class Untestable:
    """Reason why there is no test."""

    words: str


def compare_on_dates(  # noqa: PLR0913 -- both sides, and the policy's numbers
    metric: str,
    *,
    challenger: Parts,
    champion: Parts,
    horizon_dates: int,
    margin: float,
    confidence: float,
    looks: int = 1,
    level: float | None = None,
    seed: int = SEED,
    sees_overlap: bool = True,
    champion_before: npt.NDArray[np.float64] | None = None,
) -> PairedTest | Untestable:
    """Run the test. `looks`: challengers and tuning trials that were looked at, this one among them.

    sees_overlap : False for evidence whose p-values were not widened for what blocks miss of overlapping labels
    champion_before : (d,) influence of each of the champion's dates before a change, where the common dates are those
    since then and may be few: with fewer than two blocks of them, the spread in blocks is that of the earlier dates
    """
    n = len(next(iter(challenger.values())))
    once = np.ones((1, n))
    ours = float(metric_of(metric, challenger, once, horizon_dates=horizon_dates)[0])
    theirs = float(metric_of(metric, champion, once, horizon_dates=horizon_dates)[0])
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return Untestable(words=f"{metric} is undefined on these {n} dates{_why(metric, ours)}")
    least = MIN_BLOCKS * max(1, horizon_dates)
    before = champion_before if n < least else None
    if n < least and (before is None or len(before) < least or n < MIN_BLOCKS):
        message = f"{n} common dates are fewer than {MIN_BLOCKS} blocks of the {horizon_dates} that a label looks ahead"
        if before is not None:
            message += f", and the champion's {len(before)} earlier dates, by which they could be judged, are too"
        return Untestable(words=message)
    varying = influence(metric, challenger) - influence(metric, champion) if before is None else before
    # Rounded, as the spread is: the last bits of sums and quantiles differ between machines and library versions.
    automatic = round(automatic_block_length(varying), 2)
    block = max(float(horizon_dates), automatic)
    n_blocks = len(varying) / block
    resamples = resamples_for(looks, confidence)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    observed = sign * (ours - theirs)

    def answer(block_dates: float) -> _Answer:
        counts = stationary_counts(n, block_dates=block_dates, resamples=resamples, seed=seed)
        theirs_drawn = metric_of(metric, champion, counts, horizon_dates=horizon_dates)
        drawn = sign * (metric_of(metric, challenger, counts, horizon_dates=horizon_dates) - theirs_drawn)
        return _answer(drawn, observed, spread=spread_of_few_blocks(n, block_dates, confidence), margin=margin)

    def answer_from_before(before: npt.NDArray[np.float64]) -> _Answer:
        """The answer with the champion's spread in blocks of its earlier dates, on `n` of them."""
        drawn = stationary_counts(len(before), block_dates=block, resamples=resamples, seed=seed) @ before
        deviations = drawn * math.sqrt(len(before) / n) * _ratio_of_spreads(metric, challenger, champion, horizon_dates)
        spread = spread_of_few_blocks(len(before), block, confidence)
        return _answer(observed + deviations, observed, spread=spread, margin=margin)

    by_date = answer(1.0)
    in_blocks = answer(block) if before is None else answer_from_before(before)
    better, worse = min(in_blocks.better, by_date.better), min(in_blocks.worse, by_date.worse)
    deflated_better, deflated_worse = deflated(better, looks), deflated(worse, looks)
    missed = missed_by_blocks(horizon_dates, block) if sees_overlap else 1.0
    p_value = excess_p_value(observed - margin, in_blocks.deviation * missed, by_date.deviation, blocks=n_blocks)
    verdict: Verdict = "inconclusive"
    if deflated_better >= confidence and (level is None or p_value <= level):
        verdict = "promote"
    elif deflated_worse >= confidence:
        verdict = "keep"
    return PairedTest(
        metric=metric,
        challenger=ours,
        champion=theirs,
        difference=observed,
        low=min(in_blocks.low, by_date.low),
        high=max(in_blocks.high, by_date.high),
        n_dates=n,
        block_dates=block,
        automatic_block_dates=automatic,
        spread=spread_of_few_blocks(len(varying), block, confidence),
        resamples=resamples,
        n_undefined=in_blocks.n_undefined,
        margin=margin,
        better_in_blocks=in_blocks.better,
        better_by_date=by_date.better,
        probability_better=better,
        probability_worse=worse,
        looks=looks,
        deflated_better=deflated_better,
        deflated_worse=deflated_worse,
        confidence=confidence,
        verdict=verdict,
        p_value=p_value,
        level=level,
        n_dates_before=None if before is None else len(before),
    )


def _ratio_of_spreads(metric: str, challenger: Parts, champion: Parts, horizon_dates: int) -> float:
    """How much more the difference of the two varies from date to date than the champion alone; from 1 to 2.

    Of two models that err alike it varies less than one of them, of two that err in opposite ways twice as much. Both
    spreads are of the same few dates, so that what is common to all of these cancels.
    """
    n = len(next(iter(champion.values())))
    counts = stationary_counts(n, block_dates=1.0, resamples=_RESAMPLES_OF_RATIO, seed=SEED)
    theirs = metric_of(metric, champion, counts, horizon_dates=horizon_dates)
    both = metric_of(metric, challenger, counts, horizon_dates=horizon_dates) - theirs
    alone = _deviation(theirs)
    return round(min(2.0, max(1.0, _deviation(both) / alone)), 4) if alone > 0.0 else 2.0


def missing_p_value(
    metric: str,
    parts: Parts,
    *,
    required: float,
    horizon_dates: int,
    confidence: float,
    seed: int = SEED,
    sees_overlap: bool = True,
) -> float:
    """Chance of so bad a value on these dates of a model that meets the bar; 1 where it cannot be tested.

    required : from below, or from above for a metric that is better when lower
    sees_overlap : as `compare_on_dates` takes it
    """
    n = len(next(iter(parts.values())))
    value = float(metric_of(metric, parts, np.ones((1, n)), horizon_dates=horizon_dates)[0])
    if n < MIN_BLOCKS * max(1, horizon_dates) or not math.isfinite(value):
        return 1.0
    block = max(float(horizon_dates), round(automatic_block_length(influence(metric, parts)), 2))
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0

    def deviation(block_dates: float) -> float:
        counts = stationary_counts(n, block_dates=block_dates, resamples=resamples_for(1, confidence), seed=seed)
        return _deviation(metric_of(metric, parts, counts, horizon_dates=horizon_dates))

    missed = missed_by_blocks(horizon_dates, block) if sees_overlap else 1.0
    return excess_p_value(sign * (value - required), deviation(block) * missed, deviation(1.0), blocks=n / block)


def paired_test_in_words(test: PairedTest, champion_version: str) -> str:
    """Describe the test in a sentence."""
    is_worse = test.verdict == "keep"
    after, plain = (
        (test.deflated_worse, test.probability_worse) if is_worse else (test.deflated_better, test.probability_better)
    )
    counted = f" ({plain:.4f} before deflation for {test.looks} looks)" if test.looks > 1 else ""
    is_short = (test.deflated_worse if is_worse else test.deflated_better) < test.confidence
    asked = "below the" if is_short else "at least the"
    beyond = ""
    if deflated(_probability(np.ones(test.resamples, dtype=np.bool_), test.resamples), test.looks) < test.confidence:
        beyond = f"; {test.resamples:,} resamples cannot show it after so many looks: lower promotion.confidence"
    than = "worse" if is_worse else "better"
    return (
        f"{test.metric} {test.challenger:.4f} against the {test.champion:.4f} of champion {champion_version} on "
        f"{test.n_dates} common dates{_of_spread(test)}: {than} by at least {test.margin:g} with probability "
        f"{after:.4f}{counted}, {asked} required {test.confidence:g}{beyond}{_of_level(test)}"
    )


def _of_spread(test: PairedTest) -> str:
    if test.n_dates_before is None:
        return ""
    return f" since a change, with the spread of the champion's {test.n_dates_before} dates before it"


def _of_level(test: PairedTest) -> str:
    if test.level is None or test.p_value is None or test.verdict == "keep":
        return ""
    within = "within" if test.p_value <= test.level else "above"
    return (
        f"; p-value {test.p_value:.2g}, {within} the {test.level:.2g} that this decision may spend of the year's error"
    )


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """Shares and interval of one set of resamples."""

    better: float
    worse: float
    low: float
    high: float
    n_undefined: int
    deviation: float
    """Standard deviation of the resampled differences, not widened."""


def _answer(drawn: npt.NDArray[np.float64], observed: float, *, spread: float, margin: float) -> _Answer:
    """Compute shares and interval of the resampled differences (r,), nan where the metric is undefined."""
    defined = drawn[np.isfinite(drawn)]
    widened = observed + spread * (defined - observed)
    low, high = np.quantile(widened, INTERVAL, method="inverted_cdf") if len(widened) else (observed, observed)
    return _Answer(
        better=_probability((widened > 0.0) & (widened >= margin), len(drawn)),
        worse=_probability((widened < 0.0) & (widened <= -margin), len(drawn)),
        low=float(low),
        high=float(high),
        n_undefined=len(drawn) - len(defined),
        deviation=_deviation(drawn),
    )


def _deviation(drawn: Floats) -> float:
    """Standard error that the resamples show, of those in which the metric is defined; 0 where none is."""
    defined = drawn[np.isfinite(drawn)]
    return float(np.std(defined)) if len(defined) else 0.0


def _probability(hits: npt.NDArray[np.bool_], resamples: int) -> float:
    """Share of hits, never 1: one more resample is counted on the other side."""
    return int(np.count_nonzero(hits)) / (resamples + 1)


def _why(metric: str, challenger: float) -> str:
    whose = "the champion" if math.isfinite(challenger) else "the challenger"
    return {
        "roc_auc": ": all labels are equal",
        "f1_score": f": {whose} calls no row positive, and none is",
        "sharpe": f": the returns of {whose}'s positions do not vary",
    }.get(metric, "")
