"""How far a refit is from the twin that was judged in its place; pure, called by the train stage.

A refit is not scored, so that it is the judged procedure with more data is checked otherwise: on rows of the twin's
training the two must say much the same. Rows that were added with wrong labels are not seen so; they are among those
on which the twin was scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.domain.promotion.findings import REFIT_DIFFERS, Finding

_LEAST_SPREAD = 0.01
"""Deviation of a twin's probabilities that is always allowed for: beside one that says .50 ± .005 any other is far."""

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class RefitDistance:
    """How far a refit's probabilities are from its twin's, on rows that the twin was trained on."""

    value: float
    """0 for the same answers up to a shift of all of them, 1 for a refit that says the same of every row."""
    bound: float
    n_rows: int

    def findings(self) -> tuple[Finding, ...]:
        """Return the finding that blocks promotion where the bound is exceeded."""
        if self.value <= self.bound:
            return ()
        words = (
            f"the refit is not its judged twin with more data: on {self.n_rows:,} rows of the twin's training it "
            f"differs by {self.value:.2f} of the twin's spread, more than the {self.bound:.2f} of "
            f"findings.refit_distance"
        )
        return (Finding(code=REFIT_DIFFERS, words=words),)


def refit_distance(twin: Floats, refit: Floats, *, bound: float) -> RefitDistance:
    """Measure the distance of a refit from its twin: mean |d - median d| / mean |t - median t| with d = r - t.

    A shift of all probabilities is left out, since more rows bring another share of label 1.
    twin, refit : (n,) probabilities t and r of the same rows, n >= 1
    """
    differs, spread = _deviation(refit - twin), max(_LEAST_SPREAD, _deviation(twin))
    return RefitDistance(value=differs / spread, bound=bound, n_rows=len(twin))


def _deviation(values: Floats) -> float:
    """Mean absolute deviation from the median."""
    return float(np.mean(np.abs(values - np.median(values))))
