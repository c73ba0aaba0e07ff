"""Changes of known size in a window of features; pure. What does not vary in the reference stays as it is.

    moved      x + shift
    coupled    the same values in another order
    widened  mean + (x - mean) · factor,   mean: of the window's own finite values

Missing and infinite values stay what they are. Called by `selftest` and `evaluation`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from mlops.domain.frame import FeatureFrame, Floats


def spreads_of(reference: FeatureFrame) -> dict[str, float]:
    """Standard deviation of each number's finite values; none where it does not vary."""
    spreads = {}
    for name, values in reference.numbers.items():
        finite = values[np.isfinite(values)]
        with np.errstate(over="ignore", invalid="ignore"):
            spread = float(np.std(finite, ddof=1)) if len(finite) > 1 and np.ptp(finite) > 0 else 0.0
        if spread > 0 and math.isfinite(spread):
            spreads[name] = spread
    return spreads


def moved(frame: FeatureFrame, by: Mapping[str, float]) -> FeatureFrame:
    """Shift each named feature."""
    return frame.with_numbers({name: frame.numbers[name] + shift for name, shift in by.items()})


def coupled(one: Floats, other: Floats, correlation: float, rng: np.random.Generator) -> Floats:
    """Reorder the other feature's own values so that they have this normal-score correlation with the first one's.

    (n,) each; both keep their values, so that neither alone has changed. A missing value of either stays in its place.
    """
    known = np.flatnonzero(~(np.isnan(one) | np.isnan(other)))
    scores = ndtri((rankdata(one[known], method="ordinal") - 0.5) / max(len(known), 1))
    mixed = correlation * scores + math.sqrt(1 - correlation**2) * rng.standard_normal(len(known))
    found = other.copy()
    found[known[np.argsort(mixed)]] = np.sort(other[known])
    return found


def widened(frame: FeatureFrame, names: Iterable[str], factor: float) -> FeatureFrame:
    """Stretch each named feature around its mean."""
    changed = {}
    for name in names:
        values = frame.numbers[name]
        finite = np.isfinite(values)
        if finite.any():
            middle = float(np.mean(values[finite]))
            changed[name] = np.where(finite, middle + (values - middle) * factor, values)
    return frame.with_numbers(changed)
