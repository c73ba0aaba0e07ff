"""Did the share of missing values change? Two-proportion z-test with pooled variance; pure.

    z = (p_c - p_r) / sqrt(p (1 - p) (1/n + 1/m)),   p = pooled share;   p-value two-sided, normal

Called for each feature by `findings`.
"""

from __future__ import annotations

import math

from scipy.stats import norm


def missing_share_test(n_missing_reference: int, n_reference: int, n_missing_current: int, n_current: int) -> float:
    """Two-sided p that both windows miss values at the same rate; 1 where none or all are missing in both."""
    if not n_reference or not n_current:
        return float("nan")
    pooled = (n_missing_reference + n_missing_current) / (n_reference + n_current)
    if pooled in (0.0, 1.0):
        return 1.0
    difference = n_missing_current / n_current - n_missing_reference / n_reference
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / n_reference + 1 / n_current))
    return float(2 * norm.sf(abs(difference) / deviation))
