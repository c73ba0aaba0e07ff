"""Features of daily adjusted closes; pure. No value looks ahead, save the columns named `target_*`.

All inputs and outputs are frames of dates (rows) by tickers (columns). Prices may be missing; what then holds is in
`mlops.features.gaps`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlops.features.gaps import in_one_stretch, on_own_dates

#: Dates of the panel that the targets look ahead.
HORIZON = 20
WARM_UP = 252
"""Prices before the first that has all features, in each stretch of a name's prices"""
_LEAST_RETURNS = HORIZON // 2
"""Least number of returns among the dates that a volatility target looks ahead to"""


def compute_features(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Features by name, each ticker's on the dates on which it has a price.

    Columns `*_rank` compare the tickers that have the value on the date; no other one depends on other tickers.

    close : (dates, tickers) of positive prices, NaN where there is none; ascending dates
    """
    features = on_own_dates(close, _indicators)
    for name in ("return_20d", "momentum_12_1", "volatility_20d"):
        features[f"{name}_rank"] = features[name].rank(axis=1, pct=True)
    return features


def _indicators(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    daily = close.pct_change(fill_method=None)
    ema_12, ema_26, ema_50, ema_200 = (_ema(close, span) for span in (12, 26, 50, 200))
    macd = (ema_12 - ema_26) / close
    return {
        **{f"return_{days}d": close.pct_change(days, fill_method=None) for days in (1, 5, 20, 60)},
        "momentum_50d": close.pct_change(50, fill_method=None),
        "momentum_12_1": momentum(close),
        "volatility_20d": volatility(daily, 20),
        "volatility_60d": volatility(daily, 60),
        **{f"price_vs_sma{days}": close / close.rolling(days).mean() - 1 for days in (20, 50, 200)},
        "price_vs_ema50": close / ema_50 - 1,
        "price_vs_ema200": close / ema_200 - 1,
        "macd": macd,
        "macd_histogram": macd - macd.ewm(span=9, adjust=False, min_periods=9).mean(),
        "rsi_14": relative_strength(daily, 14),
        "drawdown_252d": close / close.rolling(252).max() - 1,
        "range_20d": (close.rolling(20).max() - close.rolling(20).min()) / close,
    }


def compute_targets(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Compute what happens in the next 20 dates of the panel: the return, and the realised volatility.

    The dates are the panel's, not the ticker's own, so that no target looks further than a split purges. A target is
    known where the ticker has a price on the date and on the twentieth after it and each gap between is bridged; the
    volatility where at least ten of the dates after it have a price, too. NaN elsewhere.
    """
    daily = on_own_dates(close, lambda prices: {"return": prices.pct_change(fill_method=None)})["return"]
    known = in_one_stretch(close, HORIZON)
    ahead = daily.rolling(HORIZON, min_periods=_LEAST_RETURNS).std().shift(-HORIZON)
    return {
        "target_return": (close.shift(-HORIZON) / close - 1).where(known),
        "target_volatility_20d": ahead.where(known),
    }


def momentum(close: pd.DataFrame) -> pd.DataFrame:
    """Return of the last year without its last month: 252 and 21 trading days."""
    return close.shift(21) / close.shift(WARM_UP) - 1


def volatility(daily: pd.DataFrame, days: int) -> pd.DataFrame:
    """Sample standard deviation of daily returns over the last `days`; per day, not annualised."""
    return daily.rolling(days).std()


def relative_strength(daily: pd.DataFrame, days: int) -> pd.DataFrame:
    """Wilder's RSI, 0 to 100; 50 where nothing moved. Source: Wilder 1978."""
    gain = _wilder(daily.clip(lower=0), days)
    loss = _wilder(-daily.clip(upper=0), days)
    moved = gain + loss
    return (100 * gain / moved.where(moved > 0)).where(moved != 0, 50.0).where(moved.notna())


def momentum_members(close: pd.DataFrame, *, size: int) -> pd.DataFrame:
    """(dates, tickers) of True: among the `size` best by 12-1 momentum at the end of the month before."""
    score = on_own_dates(close, lambda prices: {"momentum": momentum(prices)})["momentum"]
    month = pd.PeriodIndex(close.index, freq="M")
    last_of_month = score.groupby(month).last()
    chosen = last_of_month.rank(axis=1, ascending=False, method="first") <= size
    # A month's choice holds for the next one.
    held = chosen.shift(1, fill_value=False).reindex(month)
    held.index = close.index
    return held.astype(bool)


def _ema(close: pd.DataFrame, span: int) -> pd.DataFrame:
    return close.ewm(span=span, adjust=False, min_periods=span).mean()


def _wilder(values: pd.DataFrame, days: int) -> pd.DataFrame:
    return values.ewm(alpha=1 / days, adjust=False, min_periods=days).mean()


def long_table(frames: dict[str, pd.DataFrame], member: pd.DataFrame) -> pd.DataFrame:
    """Rows (date, ticker) of the members that have all features; columns `date`, `ticker` and the frames' names."""
    dates, tickers = member.index, member.columns
    keep = member.to_numpy().ravel()
    values = {name: frame.to_numpy(dtype=np.float64).ravel()[keep] for name, frame in frames.items()}
    table = pd.DataFrame(
        {
            "ticker": np.tile(np.asarray(tickers, dtype=object), len(dates))[keep],
            "date": np.repeat(dates.to_numpy(), len(tickers))[keep],
            **values,
        }
    )
    known = [name for name in frames if not name.startswith("target_")]
    return table.dropna(subset=known).reset_index(drop=True)
