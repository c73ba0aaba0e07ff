"""Slices: in which part of the rows a model is worse than in the others, with the number of looks corrected; pure.

Called by the score stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.domain.training.metrics import Floats, Labels


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One part of the rows against all others."""

    column: str
    value: str
    """A category, or the bounds of a tercile in words"""
    n: int
    n_days: int
    """On which rows of the slice and others are there"""
    accuracy: float
    log_loss: float
    excess_log_loss: float
    """Mean over days of the slice's log loss minus the others'; above 0: worse"""
    p_value: float
    """One-sided, of being no worse; 1 where there are too few days"""
    adjusted_p_value: float
    """After Holm's correction for all slices of all columns"""
    is_worse: bool
    """Whether the adjusted p-value is at most the level"""


def compare_slices(
    columns: dict[str, npt.NDArray[Any]],
    *,
    dates: npt.NDArray[np.datetime64],
    y: Labels,
    probability: Floats,
    horizon_dates: int,
    alpha: float = 0.05,
) -> tuple[Slice, ...]:
    """Compare each slice with the other rows of the same days, the worst first.

    columns : name → (n,) categories as text or object, or numbers, which are cut into terciles      dates : (n,)
    y : (n,) of 0 and 1, known      probability : (n,)
    """
    raise NotImplementedError
