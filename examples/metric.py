"""A metric of one's own: the information coefficient, logged with every version and open to a gate.

    [strategies.growth.training.metrics]
    information_coefficient = "examples.metric:information_coefficient"

    [strategies.growth.promotion.gates]
    information_coefficient = 0.02

A metric is a function of the held-out rows, `(dates, y, p, returns) -> float`. One that raises, or gives no finite
number, is left out with the reason and stops nothing; a gate on it then fails as not measured.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

MIN_NAMES = 3
"""Fewer names of a date have no order worth a correlation."""


def information_coefficient(
    dates: npt.NDArray[np.datetime64],
    y: npt.NDArray[np.integer],  # noqa: ARG001 -- every metric is given the same
    p: npt.NDArray[np.floating],
    returns: npt.NDArray[np.floating],
) -> float:
    """Mean over the dates of the rank correlation between probability and return; nan where no date has one.

    Grinold & Kahn, Active Portfolio Management, 1999. Rows without a return are left out.

    >>> dates = np.array(["2020-01-02"] * 3 + ["2020-01-03"] * 3, dtype="datetime64[D]")
    >>> p = np.array([0.2, 0.5, 0.9, 0.2, 0.5, 0.9])
    >>> returns = np.array([-0.01, 0.00, 0.02, 0.03, 0.01, 0.02])   # in order: 1; by ranks 3, 1, 2: -0.5
    >>> round(information_coefficient(dates, p > 0.5, p, returns), 4)
    0.25
    """
    found = []
    for day in np.unique(dates):
        on = (dates == day) & np.isfinite(returns)
        if on.sum() >= MIN_NAMES and np.ptp(p[on]) > 0 and np.ptp(returns[on]) > 0:
            found.append(float(spearmanr(p[on], returns[on]).statistic))
    return float(np.mean(found)) if found else float("nan")
