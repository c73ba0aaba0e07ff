"""Features of daily adjusted closes; pure. No value looks ahead, save the columns named `target_*`.

All inputs and outputs are frames of dates (rows) by tickers (columns).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Trading days that the targets look ahead.
HORIZON = 20


def compute_features(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Features by name. close : (dates, tickers) of positive prices, ascending dates."""
    daily = close.pct_change(fill_method=None)
    ema_12, ema_26, ema_50, ema_200 = (_ema(close, span) for span in (12, 26, 50, 200))
    macd = (ema_12 - ema_26) / close
    features = {
        **{f"return_{days}d": close.pct_change(days, fill_method=None) for days in (1, 5, 20, 60)},
        "momentum_50d": close.pct_change(50, fill_method=None),
        # The last year without its last month: 252 and 21 trading days.
        "momentum_12_1": close.shift(21) / close.shift(252) - 1,
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
    for name in ("return_20d", "momentum_12_1", "volatility_20d"):
        features[f"{name}_rank"] = features[name].rank(axis=1, pct=True)
    return features


def compute_targets(close: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What happens in the next 20 trading days: the return, and the realised volatility."""
    daily = close.pct_change(fill_method=None)
    return {
        "target_return": close.shift(-HORIZON) / close - 1,
        "target_volatility_20d": volatility(daily, HORIZON).shift(-HORIZON),
    }


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
    momentum = close.shift(21) / close.shift(252) - 1
    month = pd.PeriodIndex(close.index, freq="M")
    last_of_month = momentum.groupby(month).last()
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
