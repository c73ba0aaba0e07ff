"""Changes of known size in a window of features; pure. What does not vary in the reference stays as it is.

    moved      x + shift
    stretched  mean + (x - mean) · factor,   mean: of the window's own finite values

Missing and infinite values stay what they are. Called by `selftest`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from mlops.features.frame import FeatureFrame


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
    """Each named feature by its shift."""
    return frame.with_numbers({name: frame.numbers[name] + shift for name, shift in by.items()})


def stretched(frame: FeatureFrame, names: Iterable[str], factor: float) -> FeatureFrame:
    """Each named feature around its mean."""
    changed = {}
    for name in names:
        values = frame.numbers[name]
        finite = np.isfinite(values)
        if finite.any():
            middle = float(np.mean(values[finite]))
            changed[name] = np.where(finite, middle + (values - middle) * factor, values)
    return frame.with_numbers(changed)
