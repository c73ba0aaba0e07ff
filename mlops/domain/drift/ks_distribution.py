"""Tail of the two-sided one-sample Kolmogorov-Smirnov statistic, as scipy.stats.kstwo has it, without its cost; pure.

    n D^2 >= 2.2    p = 2 P(D+ >= D), the exact sum of Birnbaum and Tingey 1951
    below           1 - the expansion of Pelz and Good 1976

scipy adds the terms of the sum one by one in doubled precision, 80 ms at n = 90,000: as long as the sort of
ten columns. Ranges of validity: Simard and L'Ecuyer 2011. Called by `ks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from scipy.stats import kstwo

Floats = npt.NDArray[np.float64]

#: Smaller samples have methods of their own, which scipy chooses among.
_SMALL = 140
#: From this n D^2 on the two one-sided tails do not overlap by a float's precision.
_SEPARATE = 2.2
#: The expansion holds where n D^1.5 is above this, or n above that.
_EXPANSION, _EXPANSION_ALWAYS = 1.4, 100_000
#: The sum's terms are a smooth function that vanishes with all its derivatives at both ends, so that so many of
#: them, evenly spaced, give it to the last digits (trapezoidal rule).
_TERMS = 1024
#: log k! - its Stirling formula, exact where the series is not yet.
_FEW = np.arange(16.0)
_FEW_REMAINDERS = gammaln(_FEW + 1) - (_FEW + 0.5) * np.log(np.maximum(_FEW, 1)) + _FEW - 0.5 * math.log(2 * math.pi)
_PI2 = math.pi**2


def kolmogorov_tail(statistic: float, n: int) -> float:
    """P(D_n >= statistic), two-sided: scipy's kstwo.sf to 1e-12. n >= 1."""
    return kolmogorov_tails([statistic], n)[0]


def kolmogorov_tails(statistics: Sequence[float], n: int) -> list[float]:
    """The same of each distance at one size."""
    far = [n > _SMALL and d < 0.5 and n * d * d >= _SEPARATE for d in statistics]
    tails = iter(_one_sided_tails(np.array([d for d, is_far in zip(statistics, far, strict=True) if is_far]), n))
    return [min(1.0, 2 * next(tails)) if is_far else _near(d, n) for d, is_far in zip(statistics, far, strict=True)]


def _near(statistic: float, n: int) -> float:
    """The tail of a small sample, or of a small distance."""
    if n <= _SMALL or statistic >= 0.5 or (n <= _EXPANSION_ALWAYS and n * statistic**1.5 <= _EXPANSION):
        return float(np.clip(kstwo.sf(statistic, n), 0.0, 1.0))
    return min(1.0, max(0.0, 1.0 - _pelz_good(math.sqrt(n * statistic * statistic), n)))


def _one_sided_tails(distances: Floats, n: int) -> list[float]:
    """P(D+ >= d) of each d, by logarithms that do not cancel.

    d sum over j <= n (1 - d) of C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j)
    """
    if not len(distances):
        return []
    step = max(1, n // _TERMS)
    # The whole j up to the last with d + j/n < 1; the term of j = 0 is (1 - d)^n.
    j = np.arange(1.0, math.ceil(n * (1 - distances.min())), step)
    rest = n - j
    t, rest_share = j / n, rest / n
    d = distances[:, np.newaxis]
    # C(n, j) t^j (1-t)^(n-j) by Stirling, then the ratios (1 + d/t)^j and (1 - d/(1-t))^(n-j).
    with np.errstate(divide="ignore"):  # log 0 of a term that is 0
        logs = j * np.log1p(d / t) + rest * np.log1p(-np.minimum(d / rest_share, 1.0))
    logs += _remainder(np.array([float(n)])) - _remainder(j) - _remainder(rest)
    terms = np.exp(logs) / ((d + t) * np.sqrt(t * rest_share))
    # A larger distance has fewer terms.
    terms[j >= np.ceil(n * (1 - d))] = 0.0
    first = np.exp(n * np.log1p(-distances))
    tails: list[float] = (first + distances * step * terms.sum(axis=1) / math.sqrt(2 * math.pi * n)).tolist()
    return tails


def _remainder(k: Floats) -> Floats:
    """What Stirling lacks: log k! - ((k + 1/2) log k - k + log(2 pi) / 2).

    k : (c,) whole numbers above 0
    """
    inverse = 1.0 / (k * k)
    series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)))) / k
    few = k < len(_FEW)
    if few.any():
        series[few] = _FEW_REMAINDERS[k[few].astype(np.int64)]
    return np.asarray(series)


def _pelz_good(z: float, n: int) -> float:
    """P(D_n <= z / sqrt(n)) as K0 + K1 / n^(1/2) + K2 / n + K3 / n^(3/2), sums of powers of exp(-pi^2 / 8 z^2)."""
    z2 = z * z
    z4, z6, z8 = z2 * z2, z2 * z2 * z2, z2 * z2 * z2 * z2
    exponent = -_PI2 / 8 / z2
    k0 = k1 = k2 = k3 = 0.0
    extra2 = extra3 = 0.0
    for k in range(math.ceil(16 * z / math.pi), 0, -1):
        a = _PI2 * (2 * k - 1) ** 2
        q = math.exp(exponent * (2 * k - 1) ** 2)
        k0 += q
        k1 += q * (a / 4 - z2)
        k2 += q * (6 * z6 + 2 * z4 + (2 * z4 - 5 * z2) * a / 4 + (1 - 2 * z2) * a**2 / 16)
        k3 += q * (
            -30 * z6 - 90 * z8 + (135 * z4 - 96 * z6) * a / 4 + (212 * z4 - 60 * z2) * a**2 / 16
            + (5 - 30 * z2) * a**3 / 64
        )  # fmt: skip
        even = k * k * math.exp(4 * exponent * k * k)
        extra2 += even
        extra3 += (3 * z2 - _PI2 * k * k) * even
    root = math.sqrt(2 * math.pi)
    order2 = k2 / (72 * z**7) - _PI2 * extra2 / (36 * z**3)
    order3 = k3 / (6480 * z**10) + _PI2 * extra3 / (216 * z6)
    series: float = k0 / z + k1 / (6 * z4) / math.sqrt(n) + order2 / n + order3 / n**1.5
    return root * series
