"""What a probability is worth when several challengers were looked at.

Pure; called by `mlops.domain.promotion.paired`.
"""

from __future__ import annotations

import math

LOOKBACK_DAYS = 90
"""Earlier challengers of a champion count for so many days: after that the held-out dates are others."""

_LEAST, _MOST = 2_000, 20_000


def deflated(probability: float, looks: int) -> float:
    """The probability that none of `looks` equal challengers would have come so far by luck: P^k.

    Šidák's correction of the p-value 1 - P: 1 - (1 - p)^k. Exact for independent looks. Weekly challengers share
    most of their held-out dates, so it is on the safe side. 1 look leaves P as it is.

    >>> deflated(0.95, looks=1)
    0.95
    >>> round(deflated(0.95, looks=10), 2)
    0.6

    Source: Šidák 1967, JASA 62; for tried strategies Bailey & López de Prado 2014, The Deflated Sharpe Ratio.
    """
    return probability ** max(1, looks)


def resamples_for(looks: int, confidence: float) -> int:
    """Enough resamples that the deflated threshold is 20 of them away from a unanimous answer; 2,000 to 20,000."""
    return min(_MOST, max(_LEAST, math.ceil(20 * max(1, looks) / (1.0 - confidence))))
