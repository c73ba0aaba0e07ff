"""What one window of one feature looks like; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.ordered import OrderedBlock, OrderedColumn, block_of

Floats = npt.NDArray[np.float64]

#: Fourth powers of 2**200 times a million rows, and of 2**-200 times a relative spread of 1e-16, are floats.
_MODERATE = 200
#: Values whose powers are summed together: they and two buffers of theirs stay in a core's cache.
_BLOCK = 32_768
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_LEVELS = np.array(QUANTILES)


@dataclass(frozen=True, kw_only=True)
class Description:
    """Moments and quantiles of the finite values, and counts of what is not one. None: undefined."""

    n: int
    n_missing: int
    n_infinite: int
    mean: float | None
    std: float | None
    """Sample standard deviation, n - 1; None too where it is beyond the largest float."""
    skew: float | None
    """Bias-corrected (Fisher-Pearson), as pandas has it."""
    kurtosis: float | None
    """Bias-corrected excess, as pandas has it."""
    minimum: float | None
    maximum: float | None
    quantiles: tuple[float, ...]
    """At QUANTILES, linear interpolation; empty where there is no finite value."""

    @property
    def is_constant(self) -> bool:
        """All finite values are one."""
        return self.minimum is not None and self.minimum == self.maximum


def describe(column: OrderedColumn) -> Description:
    """Description of a sorted column."""
    return describe_block(block_of(column))[0]


def describe_block(block: OrderedBlock) -> list[Description]:
    """Description of each feature of a block, in one pass over it."""
    inside = block.finite
    f, n = inside.shape
    counted = {"n": block.n_rows, "n_missing": block.n_missing, "n_infinite": block.values.shape[1] - n}
    if n == 0:
        return [
            Description(
                **counted, mean=None, std=None, skew=None, kurtosis=None, minimum=None, maximum=None, quantiles=()
            )
        ] * f
    lowest, highest = inside[:, 0], inside[:, -1]
    # Scaled by a power of two, which is exact: squares of 1e200 would overflow, those of 1e-200 vanish.
    exponents = np.frexp(np.maximum(np.abs(lowest), np.abs(highest)))[1]
    exponents[np.abs(exponents) < _MODERATE] = 0
    scaled = np.ldexp(inside, -exponents[:, np.newaxis]) if exponents.any() else inside
    quantiles = np.ldexp(_quantiles(scaled), exponents[:, np.newaxis]).tolist()
    rows = zip(*_central_moments(scaled), exponents.tolist(), lowest.tolist(), highest.tolist(), quantiles, strict=True)
    return [
        Description(
            **counted,
            mean=math.ldexp(mean, exponent),
            std=_unscaled(math.sqrt(second * n / (n - 1)), exponent) if n > 1 else None,
            skew=None if low == high or n < 3 else _skew(third, second, n),
            kurtosis=None if low == high or n < 4 else _kurtosis(fourth, second, n),
            minimum=low,
            maximum=high,
            quantiles=tuple(levels),
        )
        for mean, second, third, fourth, exponent, low, high, levels in rows
    ]


def _central_moments(values: Floats) -> Iterator[list[float]]:
    """Mean and the second to fourth central moments of each row, without a temporary as long as a row.

    values : (f, n) ascending. Powers are taken from the median, which is within a standard deviation of the mean:
    moving them there afterwards cancels hardly a digit.
    """
    f, n = values.shape
    centre = values[:, n // 2]
    sums = np.zeros((4, f))
    # Many short rows go together, a long one goes in pieces.
    width = min(n, _BLOCK)
    height = _BLOCK // width
    centred, squared = np.empty((height, width)), np.empty((height, width))
    for top in range(0, f, height):
        rows = slice(top, top + height)
        for start in range(0, n, width):
            block = values[rows, start : start + width]
            x, xx = (buffer[: block.shape[0], : block.shape[1]] for buffer in (centred, squared))
            np.subtract(block, centre[rows, np.newaxis], out=x)
            np.multiply(x, x, out=xx)
            sums[:, rows] += (np.add.reduce(x, axis=1), np.vecdot(x, x), np.vecdot(xx, x), np.vecdot(xx, xx))
    shift, second, third, fourth = sums / n
    yield (centre + shift).tolist()
    yield np.maximum(second - shift**2, 0.0).tolist()
    yield (third - 3 * shift * second + 2 * shift**3).tolist()
    yield (fourth - 4 * shift * third + 6 * shift**2 * second - 3 * shift**4).tolist()


def _unscaled(deviation: float, exponent: int) -> float | None:
    """None where it is beyond the largest float."""
    try:
        return math.ldexp(deviation, exponent)
    except OverflowError:
        return None


def _skew(third: float, second: float, n: int) -> float:
    return math.sqrt(n * (n - 1)) / (n - 2) * third / (second * math.sqrt(second))


def _kurtosis(fourth: float, second: float, n: int) -> float:
    excess = fourth / second**2 - 3
    return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * excess + 6)


def _quantiles(finite: Floats) -> Floats:
    """(f, levels) Linear interpolation between order statistics; the rows are sorted already."""
    last = finite.shape[1] - 1
    position = _LEVELS * last
    below = position.astype(np.int64)
    lower, upper = finite[:, below], finite[:, np.minimum(below + 1, last)]
    return np.asarray(lower + (upper - lower) * (position - below))
