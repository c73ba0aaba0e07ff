"""Gaps in prices: which of them indicators bridge, and where a name's history starts again; pure.

A name's indicators are computed on the dates on which it has a price. A date without one is skipped: nothing is filled
in, so that no return of 0 is invented, and the next return is that since the price before. A gap of more than
`BRIDGED_DATES` dates of the panel ends a stretch of prices; indicators begin anew with the next one, and no label looks
across it. Why so: docs/decisions/0058. Called by `mlops.features.sample_features` and `price_coverage`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

BRIDGED_DATES = 10
"""Dates of the panel without a price of the name that are bridged: as many days as the longest closures of exchanges
(China's new year of 2020: 24 January to 2 February) beside names that trade every day"""

Indicators = Callable[[pd.DataFrame], Mapping[str, pd.DataFrame]]


@dataclass(frozen=True, kw_only=True)
class Stretches:
    """The prices of a panel, name by name, each in the stretch that it belongs to. All arrays: (n_prices,)."""

    row: npt.NDArray[np.intp]
    """Place of the price's date"""
    column: npt.NDArray[np.intp]
    """Place of the price's name, ascending"""
    number: npt.NDArray[np.intp]
    """Number of its stretch, ascending from 0"""
    place: npt.NDArray[np.intp]
    """Number of prices before it in the stretch"""
    gap: npt.NDArray[np.intp]
    """Dates without a price between it and the name's price before; 0 for the first"""

    @property
    def is_restart(self) -> npt.NDArray[np.bool_]:
        """Begins a stretch that is not the name's first."""
        return self.gap > BRIDGED_DATES


def find_stretches(close: pd.DataFrame) -> Stretches:
    """Split each name's prices at its long gaps. close : (dates, tickers), NaN where there is no price."""
    column, row = np.nonzero(close.notna().to_numpy().T)
    is_first = np.diff(column, prepend=-1) != 0
    gap = np.where(is_first, 0, np.diff(row, prepend=0) - 1)
    begins = np.flatnonzero(is_first | (gap > BRIDGED_DATES))
    lengths = np.diff(np.append(begins, len(row)))
    return Stretches(
        row=row,
        column=column,
        number=np.repeat(np.arange(len(begins)), lengths),
        place=np.arange(len(row)) - np.repeat(begins, lengths),
        gap=gap,
    )


def on_own_dates(close: pd.DataFrame, indicators: Indicators) -> dict[str, pd.DataFrame]:
    """Compute indicators of each name on the dates on which it has a price; NaN on all others.

    indicators : of a frame whose columns are independent of each other. It gets stretches in place of names, each from
        its first price on, without dates: where no price is missing, the panel itself.
    """
    if close.notna().all(axis=None):
        return dict(indicators(close))
    stretches = find_stretches(close)
    if not len(stretches.row):
        return dict(indicators(close))
    # Name by name, as pandas keeps the columns of a frame.
    flat = stretches.column * len(close) + stretches.row
    prices = close.to_numpy(dtype=np.float64).T.ravel()[flat]
    lengths = np.bincount(stretches.number)
    # Stretches of like length share a frame, so that many short ones do not take the room of long ones.
    magnitude = np.frexp(lengths)[1]
    found: dict[str, npt.NDArray[np.float64]] = {}
    for each in np.unique(magnitude):
        chosen = magnitude == each
        on, height = chosen[stretches.number], int(lengths[chosen].max())
        packed = (np.cumsum(chosen) - 1)[stretches.number[on]] * height + stretches.place[on]
        dense = np.full(int(chosen.sum()) * height, np.nan)
        dense[packed] = prices[on]
        for name, frame in indicators(pd.DataFrame(dense.reshape(-1, height).T)).items():
            values = found.setdefault(name, np.full(close.size, np.nan))
            values[flat[on]] = frame.to_numpy(dtype=np.float64).T.ravel()[packed]
    return {
        name: pd.DataFrame(values.reshape(-1, len(close)).T, index=close.index, columns=close.columns)
        for name, values in found.items()
    }


def in_one_stretch(close: pd.DataFrame, dates: int) -> pd.DataFrame:
    """(dates, tickers) of True: a price on the date and on that `dates` later, and each gap between is bridged."""
    stretches = find_stretches(close)
    number = np.full(close.shape, np.nan)
    number[stretches.row, stretches.column] = stretches.number
    numbers = pd.DataFrame(number, index=close.index, columns=close.columns)
    return numbers == numbers.shift(-dates)
