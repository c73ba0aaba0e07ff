"""Slices: in which part of the rows a model is worse than in the others, with the number of looks corrected; pure.

Called by the score stage. A slice is compared with the other rows of the same days, so that a turbulent month is no
difference; days are resampled in blocks, since labels overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.domain.promotion.bootstrap import (
    MIN_BLOCKS,
    automatic_block_length,
    excess_p_value,
    missed_by_blocks,
    stationary_counts,
)
from mlops.domain.training.metrics import THRESHOLD, Floats, Labels

MAX_SLICES = 50
"""Most slices of a column, its largest; a column with more values is no category to break down by."""
_TERCILES = ("low", "middle", "high")
_RESAMPLES, _SEED = 1_000, 42


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One part of the rows against all others."""

    column: str
    value: str
    """A category, or a tercile with its bounds"""
    n: int
    n_days: int
    """Days on which rows of the slice and others are there"""
    accuracy: float
    log_loss: float
    excess_log_loss: float | None
    """Mean over those days of the slice's log loss minus the others'; above 0: worse. None without such a day"""
    p_value: float
    """One-sided, of being no worse; 1 with fewer days than two horizons"""
    adjusted_p_value: float
    """After Holm's correction for all slices of all columns"""
    is_worse: bool
    """Whether the adjusted p-value is at most the level"""


def compare_slices(
    columns: Mapping[str, npt.NDArray[Any]],
    *,
    dates: npt.NDArray[np.datetime64],
    y: Labels,
    probability: Floats,
    horizon_dates: int,
    alpha: float = 0.05,
) -> tuple[Slice, ...]:
    """Compare each slice with the other rows of the same days, the smallest p-value first.

    columns : name → (n,) categories as text or object, or numbers, which are cut into terciles; a missing value belongs
    to no slice      dates : (n,)      y : (n,) of 0 and 1, known      probability : (n,)
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), 1e-15, 1 - 1e-15)
    positive = np.asarray(y) == 1
    loss = -np.where(positive, np.log(p), np.log1p(-p))
    hits = (p >= THRESHOLD) == positive
    _, of_day = np.unique(dates, return_inverse=True)
    # Slices that are there on as many days are resampled alike.
    draw = cache(partial(stationary_counts, resamples=_RESAMPLES, seed=_SEED))
    found = []
    for column, values in columns.items():
        for value, inside in _parts(np.asarray(values)):
            excess = _daily_excess(loss, inside, of_day)
            found.append(
                Slice(
                    column=column,
                    value=value,
                    n=int(inside.sum()),
                    n_days=len(excess),
                    accuracy=float(hits[inside].mean()),
                    log_loss=float(loss[inside].mean()),
                    excess_log_loss=float(excess.mean()) if len(excess) else None,
                    p_value=_p_value(excess, max(1, horizon_dates), draw),
                    adjusted_p_value=1.0,
                    is_worse=False,
                )
            )
    found.sort(key=lambda one: (one.p_value, -(one.excess_log_loss or 0.0)))
    adjusted = holm([one.p_value for one in found])
    return tuple(
        replace(one, adjusted_p_value=value, is_worse=value <= alpha)
        for one, value in zip(found, adjusted, strict=True)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that a level bounds the chance of any false one, however they depend (Holm 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(np.asarray(p_values, dtype=np.float64), kind="stable")
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _parts(values: npt.NDArray[Any]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Cut a column into its categories, the largest first, or its terciles; none with a single part."""
    if values.dtype.kind not in "fiu":
        missing = {"", "None", "nan", "<NA>", "NaT"}
        texts = np.array(["" if str(one) in missing else str(one) for one in values.tolist()], dtype=object)
        names, counts = np.unique(texts[texts != ""].astype(str), return_counts=True)
        largest = names[np.argsort(-counts, kind="stable")][:MAX_SLICES]
        return [(str(name), texts == name) for name in largest] if len(names) > 1 else []
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        return []
    lower, upper = np.quantile(numbers[finite], [1 / 3, 2 / 3])
    inside = (finite & (numbers <= lower), finite & (numbers > lower) & (numbers <= upper), finite & (numbers > upper))
    bounds = (f"to {lower:.4g}", f"to {upper:.4g}", f"above {upper:.4g}")
    parts = [(f"{name}, {bound}", mask) for name, bound, mask in zip(_TERCILES, bounds, inside, strict=True)]
    parts = [(name, mask) for name, mask in parts if mask.any()]
    return parts if len(parts) > 1 else []


def _daily_excess(
    loss: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_], of_day: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """(d,) mean loss inside minus outside, of the days that have both, in their order."""
    n_days = int(of_day.max()) + 1 if len(of_day) else 0
    n_in, n_out = (np.bincount(of_day[mask], minlength=n_days) for mask in (inside, ~inside))
    sum_in, sum_out = (np.bincount(of_day[mask], loss[mask], minlength=n_days) for mask in (inside, ~inside))
    both = (n_in > 0) & (n_out > 0)
    return np.asarray(sum_in[both] / n_in[both] - sum_out[both] / n_out[both])


def _p_value(excess: npt.NDArray[np.float64], horizon: int, draw: Callable[..., npt.NDArray[np.float64]]) -> float:
    n = len(excess)
    if n < max(2, MIN_BLOCKS * horizon):
        return 1.0
    block = min(max(float(horizon), round(automatic_block_length(excess), 2)), n / MIN_BLOCKS)

    def deviation(block_dates: float) -> float:
        return float(np.std(draw(n, block_dates=block_dates) @ excess / n))

    widened = deviation(block) * missed_by_blocks(horizon, block)
    return excess_p_value(float(excess.mean()), widened, deviation(1.0), blocks=n / block)
