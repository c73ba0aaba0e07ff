"""Quality of a feature's data: what one window looks like, and findings on what is wrong with it; pure.

A finding is reported, never dropped in silence. Whether the share of missing values changed is a two-proportion z-test
with pooled variance:

    z = (p_c - p_r) / sqrt(p (1 - p) (1/n + 1/m)),   p = pooled share;   p-value two-sided, normal
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from mlops.domain.drift.ordered import OrderedBlock, OrderedColumn, block_of

Floats = npt.NDArray[np.float64]

#: Fourth powers of 2**200 times a million rows, and of 2**-200 times a relative spread of 1e-16, are floats.
_MODERATE = 200
#: Values whose powers are summed together: they and two buffers of theirs stay in a core's cache.
_BLOCK = 32_768
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_LEVELS = np.array(QUANTILES)
Code = Literal[
    "all_missing",
    "missing_share_changed",
    "infinite_values",
    "constant_reference",
    "started_to_vary",
    "stopped_varying",
    "vanished_column",
    "new_column",
    "unseen_categories",
    "kind_changed",
    "duplicate_rows",
    "stale",
    "feature_jumped",
    "correlation_changed",
    "left_out",
    "dates_left_out",
    "future_dates",
    "missing_dates",
    "undated_rows",
    "not_midnight",
    "predictions_not_compared",
    "targets_not_compared",
    "equal_weights",
    "reference_unavailable",
]


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
    """Values at QUANTILES, linear interpolation; empty where there is no finite value."""

    @property
    def is_constant(self) -> bool:
        """Whether all finite values are equal."""
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
    """Scale a deviation back; None where it is beyond the largest float."""
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


@dataclass(frozen=True, kw_only=True)
class DataFinding:
    """A fact about the data that a person should know."""

    code: Code
    column: str | None
    message: str
    is_drift: bool
    """The feature counts as drifted for it, whatever its statistics say."""


def numeric_findings(name: str, reference: Description, current: Description, *, alpha: float) -> list[DataFinding]:
    """Findings of one numeric feature. `alpha`: level of the test of the missing share."""
    found: list[DataFinding] = []

    def note(code: Code, message: str, *, is_drift: bool = False) -> None:
        found.append(DataFinding(code=code, column=name, message=message, is_drift=is_drift))

    for window, description in (("reference", reference), ("current", current)):
        if description.n_infinite:
            note("infinite_values", f"{name}: {description.n_infinite} infinite values in the {window} window")
    found += _missing_findings(name, reference.n_missing, reference.n, current.n_missing, current.n, alpha=alpha)
    if reference.n_missing == reference.n or current.n_missing == current.n:
        return found
    if reference.is_constant and not current.is_constant:
        note("started_to_vary", f"{name}: constant at {reference.minimum} in the reference, varies now", is_drift=True)
    elif reference.is_constant and reference.minimum != current.minimum:
        note("constant_reference", f"{name}: constant at {reference.minimum}, now at {current.minimum}", is_drift=True)
    elif reference.is_constant:
        note("constant_reference", f"{name}: constant at {reference.minimum} in both windows")
    elif current.is_constant and current.n - current.n_missing > 1:
        # Not drift by itself: a flag that is up in 1 % of the rows is down in a third of all windows of 100.
        note("stopped_varying", f"{name}: varied in the reference, constant at {current.minimum} now")
    return found


def is_without_information(findings: Iterable[DataFinding]) -> bool:
    """Whether a feature's findings say that it holds one value, or none, in both windows, as often in each: it cannot
    drift, so that counting it would only dilute the share of those that did.
    """
    codes = {found.code for found in findings if not found.is_drift}
    return bool(codes & {"all_missing", "constant_reference"}) and "missing_share_changed" not in codes


def category_findings(
    name: str, reference: Counter[str | None], current: Counter[str | None], *, unseen: tuple[str, ...], alpha: float
) -> list[DataFinding]:
    """Findings of one categorical feature, from rows per category: missing values, and categories that are new."""
    found = _missing_findings(name, reference[None], reference.total(), current[None], current.total(), alpha=alpha)
    kinds = (reference.keys() | current.keys()) - {None}
    if len(kinds) == 1 and kinds <= reference.keys() and kinds <= current.keys():
        message = f"{name}: constant at {next(iter(kinds))} in both windows"
        found.append(DataFinding(code="constant_reference", column=name, message=message, is_drift=False))
    if unseen:
        shown = ", ".join(unseen[:5]) + (" …" if len(unseen) > 5 else "")
        message = f"{name}: not in the reference: {shown}"
        found.append(DataFinding(code="unseen_categories", column=name, message=message, is_drift=False))
    return found


def _missing_findings(
    name: str, n_missing_reference: int, n_reference: int, n_missing_current: int, n_current: int, *, alpha: float
) -> list[DataFinding]:
    """Findings on a feature's missing values: there is no value at all, or their share has changed."""
    empty_reference, empty_current = n_missing_reference == n_reference, n_missing_current == n_current
    if empty_reference or empty_current:
        both = empty_reference and empty_current
        where = "both windows" if both else "the reference window" if empty_reference else "the current window"
        message = f"{name}: no value at all in {where}"
        return [DataFinding(code="all_missing", column=name, message=message, is_drift=not both)]
    p = missing_share_test(n_missing_reference, n_reference, n_missing_current, n_current)
    if p >= alpha:
        return []
    before, now = n_missing_reference / n_reference, n_missing_current / n_current
    message = f"{name}: {before:.1%} of the rows have no value in the reference, {now:.1%} now (p {p:.2g})"
    return [DataFinding(code="missing_share_changed", column=name, message=message, is_drift=False)]


def missing_share_test(n_missing_reference: int, n_reference: int, n_missing_current: int, n_current: int) -> float:
    """Two-sided p-value that both windows miss values at the same rate; 1 where none or all are missing in both."""
    if not n_reference or not n_current:
        return float("nan")
    pooled = (n_missing_reference + n_missing_current) / (n_reference + n_current)
    if pooled in (0.0, 1.0):
        return 1.0
    difference = n_missing_current / n_current - n_missing_reference / n_reference
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / n_reference + 1 / n_current))
    return float(2 * norm.sf(abs(difference) / deviation))
