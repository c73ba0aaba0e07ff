"""What one window of one feature looks like; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlops.drift_detection.presort import sort_into
from mlops.drift_detection.psi import sorted_values

Floats = npt.NDArray[np.float64]

#: Fourth powers of 2**200 times a million rows, and of 2**-200 times a relative spread of 1e-16, are floats.
_MODERATE = 200
#: Values whose powers are summed together: they and two buffers of theirs stay in a core's cache.
_BLOCK = 16_384
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


@dataclass(frozen=True, kw_only=True)
class OrderedColumn:
    """One window of one feature after its only sort."""

    values: Floats
    """(n,) ascending, infinities included, without nan"""
    n_missing: int

    @property
    def n_rows(self) -> int:
        """Rows of the window."""
        return len(self.values) + self.n_missing


def ordered_column(values: Floats) -> OrderedColumn:
    """Sort once; everything else reads the result."""
    ordered, n_missing = sorted_values(values)
    return OrderedColumn(values=ordered, n_missing=n_missing)


def ordered_columns(columns: Sequence[Floats]) -> list[OrderedColumn]:
    """The same for columns of one length."""
    if len(columns) == 1:
        return [ordered_column(columns[0])]
    table = np.empty((len(columns), len(columns[0])))
    for column, row in zip(columns, table, strict=True):
        sort_into(column, row)
    n_values = [int(row.searchsorted(np.nan, side="left")) for row in table]
    return [OrderedColumn(values=row[:n], n_missing=len(row) - n) for row, n in zip(table, n_values, strict=True)]


def finite(column: OrderedColumn) -> Floats:
    """The finite values, ascending; a view."""
    values = column.values
    if len(values) and math.isfinite(values[0]) and math.isfinite(values[-1]):
        return values
    return values[values.searchsorted(-np.inf, side="right") : values.searchsorted(np.inf, side="left")]


def describe(column: OrderedColumn) -> Description:
    """Description of a sorted column, in one pass over it."""
    inside = finite(column)
    n = len(inside)
    n_infinite = len(column.values) - n
    if n == 0:
        return Description(
            n=column.n_rows, n_missing=column.n_missing, n_infinite=n_infinite, mean=None, std=None, skew=None,
            kurtosis=None, minimum=None, maximum=None, quantiles=(),
        )  # fmt: skip
    # Scaled by a power of two, which is exact: squares of 1e200 would overflow, those of 1e-200 vanish.
    exponent = int(np.frexp(max(abs(inside[0]), abs(inside[-1])))[1])
    exponent = 0 if abs(exponent) < _MODERATE else exponent
    scaled = np.ldexp(inside, -exponent) if exponent else inside
    constant = inside[0] == inside[-1]
    mean, second, third, fourth = _central_moments(scaled)
    return Description(
        n=column.n_rows,
        n_missing=column.n_missing,
        n_infinite=n_infinite,
        mean=math.ldexp(mean, exponent),
        std=_unscaled(math.sqrt(second * n / (n - 1)), exponent) if n > 1 else None,
        skew=None if constant or n < 3 else _skew(third, second, n),
        kurtosis=None if constant or n < 4 else _kurtosis(fourth, second, n),
        minimum=float(inside[0]),
        maximum=float(inside[-1]),
        quantiles=tuple(np.ldexp(_quantiles(scaled), exponent).tolist()),
    )


def _central_moments(values: Floats) -> tuple[float, float, float, float]:
    """Mean and the second to fourth central moments, in one pass without a temporary as long as the column.

    values : (n,) ascending. Powers are taken from the median, which is within a standard deviation of the mean:
    moving them there afterwards cancels hardly a digit.
    """
    n = len(values)
    centre = values[n // 2]
    centred, squared = np.empty(min(n, _BLOCK)), np.empty(min(n, _BLOCK))
    first = second = third = fourth = 0.0
    for start in range(0, n, _BLOCK):
        block = values[start : start + _BLOCK]
        x, xx = centred[: len(block)], squared[: len(block)]
        np.subtract(block, centre, out=x)
        np.multiply(x, x, out=xx)
        first += float(np.add.reduce(x))
        second += float(np.add.reduce(xx))
        third += float(xx.dot(x))
        fourth += float(xx.dot(xx))
    shift, second, third, fourth = first / n, second / n, third / n, fourth / n
    return (
        float(centre) + shift,
        max(second - shift**2, 0.0),
        third - 3 * shift * second + 2 * shift**3,
        fourth - 4 * shift * third + 6 * shift**2 * second - 3 * shift**4,
    )


def _unscaled(deviation: float, exponent: int) -> float | None:
    """None where it is beyond the largest float."""
    try:
        return math.ldexp(deviation, exponent)
    except OverflowError:
        return None


def _skew(third: float, second: float, n: int) -> float:
    return float(np.sqrt(n * (n - 1)) / (n - 2) * third / second**1.5)


def _kurtosis(fourth: float, second: float, n: int) -> float:
    excess = fourth / second**2 - 3
    return float((n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * excess + 6))


def _quantiles(finite: Floats) -> Floats:
    """Linear interpolation between order statistics; the column is sorted already."""
    position = _LEVELS * (len(finite) - 1)
    below = position.astype(np.int64)
    above = np.minimum(below + 1, len(finite) - 1)
    return np.asarray(finite[below] + (finite[above] - finite[below]) * (position - below))
