"""How sure a share is that was counted on few independent looks; pure."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import beta

CONFIDENCE = 0.95
"""Of an interval, where nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share with its interval."""

    share: float
    low: float
    high: float


def rate_of(share: float, n: int, *, confidence: float = CONFIDENCE) -> Rate:
    """Clopper-Pearson's exact interval for `share` of `n` independent looks.

    The count share · n need not be whole: where dependent looks are counted as fewer independent ones, it is not
    (Korn and Graubard 1998, Survey Methodology 24, 193-201). n >= 1.
    """
    tail = (1 - confidence) / 2
    hits = share * n
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return Rate(share=share, low=low, high=high)
