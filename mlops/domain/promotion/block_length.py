"""How long the blocks of the stationary bootstrap must be for a series.

Pure; called by `mlops.domain.promotion.paired`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def automatic_block_length(series: npt.NDArray[np.float64]) -> float:
    """Expected block length that minimises the mean squared error of the bootstrap's variance; at least 1.

    b = (2 G^2 / D)^(1/3) n^(1/3), G = sum w(k/M) |k| R(k), D = 2 (sum w(k/M) R(k))^2, with the flat-top window w
    and M twice the lag after which the autocorrelations stay within 2 sqrt(log10(n) / n). At most 3 sqrt(n) and
    n / 3. A constant or very short series (n < 8) gives 1.

    Source: Politis & White 2004, Automatic block-length selection; corrected by Patton, Politis & White 2009.
    """
    n = len(series)
    if n < 8 or float(np.ptp(series)) == 0.0:
        return 1.0
    centred = series - series.mean()
    k_n = max(5, math.ceil(math.sqrt(math.log10(n))))
    m_max = min(n - 1, math.ceil(math.sqrt(n)) + k_n)
    covariance = np.array([float(centred[lag:] @ centred[: n - lag]) / n for lag in range(m_max + 1)])
    bandwidth = min(2 * max(1, _last_lag(covariance / covariance[0], n, k_n, m_max)), m_max)
    lags = np.arange(1, bandwidth + 1)
    weight = np.clip(2.0 * (1.0 - lags / bandwidth), 0.0, 1.0)
    g = 2.0 * float(np.sum(weight * lags * covariance[lags]))
    spectrum = float(covariance[0] + 2.0 * np.sum(weight * covariance[lags]))
    if spectrum <= 0.0:
        return 1.0
    length = float(np.cbrt(2.0 * g**2 / (2.0 * spectrum**2) * n))
    return max(1.0, min(length, 3.0 * math.sqrt(n), n / 3.0))


def _last_lag(correlation: npt.NDArray[np.float64], n: int, k_n: int, m_max: int) -> int:
    """Smallest lag after which `k_n` autocorrelations in a row are insignificant, else the last significant one."""
    is_large = np.abs(correlation) >= 2.0 * math.sqrt(math.log10(n) / n)
    for lag in range(m_max - k_n + 1):
        if not is_large[lag + 1 : lag + 1 + k_n].any():
            return lag
    significant = np.flatnonzero(is_large[1:]) + 1
    return int(significant[-1]) if len(significant) else 0
