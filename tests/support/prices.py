"""Panels of daily prices as they are met, made by a seed: with gaps, of seven days a week, without volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


def random_walks(n_names: int, days: pd.DatetimeIndex, *, seed: int, volatility: float = 0.012) -> pd.DataFrame:
    """(dates, names) of closes whose volatility comes in waves, and moves in part together."""
    rng = np.random.default_rng(seed)
    waves = np.exp(0.5 * np.sin(np.arange(len(days)) / 60) + 0.2 * rng.normal(size=len(days)))
    common = rng.normal(size=(len(days), 1))
    steps = volatility * waves[:, None] * (0.6 * common + 0.8 * rng.normal(size=(len(days), n_names)))
    names = [f"N{i:02d}" for i in range(n_names)]
    return pd.DataFrame(100 * np.exp(np.cumsum(steps, axis=0)), index=days, columns=names)


def commodities(years: int = 6, *, seed: int = 1) -> pd.DataFrame:
    """11 names: single closes missing here and there, one halted for 40 dates, one late, one ended, one price below 0.

    Oil (N00) was sold for less than nothing on one day, and the first date has no price of N04.
    """
    days = pd.bdate_range("2015-01-01", periods=261 * years)
    close = random_walks(11, days, seed=seed, volatility=0.015)
    rng = np.random.default_rng(seed + 1)
    missing = rng.random(close.shape) < np.linspace(0.001, 0.02, 11)
    close = close.mask(missing)
    close.iloc[600, 0] = -37.63
    close.iloc[500:540, 1] = np.nan
    close.iloc[:300, 2] = np.nan
    close.iloc[-200:, 3] = np.nan
    close.iloc[0, 4] = np.nan
    return close


def coins(years: int = 5, *, seed: int = 2) -> pd.DataFrame:
    """26 names, seven days a week; every third begins later than the one before."""
    days = pd.date_range("2017-01-01", periods=365 * years)
    close = random_walks(26, days, seed=seed, volatility=0.04)
    for i in range(0, 26, 3):
        close.iloc[: 30 * i, i] = np.nan
    return close


def currencies(years: int = 6, *, seed: int = 3) -> pd.DataFrame:
    """19 names without volume; on some holidays most of them have no price."""
    days = pd.bdate_range("2004-01-01", periods=261 * years)
    close = random_walks(19, days, seed=seed, volatility=0.006)
    close.iloc[::130, 2:] = np.nan
    return close


def write_prices(close: pd.DataFrame, path: Path, *, empty_rows: bool = False) -> Path:
    """Write one row per date and ticker; dates without a price as rows without one, or not at all."""
    rows = close.rename_axis(index="date", columns="ticker").reset_index().melt(id_vars="date", value_name="close")
    (rows if empty_rows else rows.dropna()).to_csv(path, index=False)
    return path
