"""Counts what a file of prices gives: rows that have all features, and why the others have not; pure.

Each row of the file is counted once: kept, or lost to one cause.

    repeated, not_traded, no_price, not_positive    see `prices.LEFT_OUT`
    warm_up                                         among the first 252 prices of its name
    after_gap                                       among the first 252 prices after a gap that is not bridged

Called by the commands that take `--prices`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from mlops.domain.errors import InsufficientData
from mlops.domain.promotion.findings import Finding
from mlops.features.gaps import BRIDGED_DATES, Stretches, find_stretches, in_one_stretch
from mlops.features.prices import LEFT_OUT, PriceTable
from mlops.features.sample_features import HORIZON, WARM_UP

LEAST_SHARE = 0.65
"""Least share of the rows after a name's first year; with fewer kept, the finding `few_rows_kept` says what to do.
Stocks keep 0.69 (252 of 365) where a file has a row for each day"""
MEMBERS_WITHOUT_PRICES, STRATEGIES_WITHOUT_ROWS = "members_without_prices", "strategies_without_rows"
_LEFT_OUT_WORDS = {
    MEMBERS_WITHOUT_PRICES: "tickers of the members file that have no prices are left out",
    STRATEGIES_WITHOUT_ROWS: "strategies are left out of which no member has a row with all features while it is one",
}
_PRICED = ("warm_up", "after_gap")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Dates of the panel between two prices of a name."""

    last_before: date
    first_after: date
    n_dates: int


@dataclass(frozen=True, kw_only=True)
class NameCoverage:
    """Rows of one name."""

    ticker: str
    first: date | None
    """Date of its first price; None without any"""
    last: date | None
    n_rows: int
    n_kept: int
    lost: Mapping[str, int]
    """Rows by cause"""
    n_bridged: int
    """Gaps that its indicators bridge"""
    restarts: tuple[Gap, ...]
    """Gaps after which they begin anew"""


@dataclass(frozen=True, kw_only=True)
class PriceCoverage:
    """Rows of a file of prices."""

    n_rows: int
    n_kept: int
    """Rows with all features"""
    share_kept: float | None
    """Share kept of the rows after each name's first year; None where no name has so many rows"""
    lost: Mapping[str, int]
    """Rows by cause"""
    n_without_label: int
    """Kept rows whose label is unknown for want of a price, the newest 20 dates left out"""
    names: tuple[NameCoverage, ...]
    findings: tuple[Finding, ...]

    def with_left_out(self, code: str, names: Sequence[str]) -> PriceCoverage:
        """Add a finding about names that are left out. code : `MEMBERS_WITHOUT_PRICES` or `STRATEGIES_WITHOUT_ROWS`"""
        if not names:
            return self
        words = f"{_LEFT_OUT_WORDS[code]}: {', '.join(names[:_SHOWN])}"
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return replace(self, findings=(*self.findings, Finding(code=code, words=words + more)))

    @property
    def words(self) -> str:
        """Say what is kept, in a sentence."""
        causes = {
            "warm_up": f"among the first {WARM_UP} prices of a name",
            "after_gap": f"among those after a gap of more than {BRIDGED_DATES} dates",
            "no_price": "without a price",
            "not_positive": "with a price of 0, less or infinite",
            "not_traded": "before a name's first price or after its last",
            "repeated": "that repeat another one",
        }
        lost = ", ".join(f"{self.lost[cause]:,} {words}" for cause, words in causes.items() if self.lost[cause])
        names = f"{len(self.names)} name{'s' if len(self.names) > 1 else ''}"
        return f"{self.n_kept:,} of {self.n_rows:,} rows, of {names}, have all features; the others: {lost}"

    @property
    def lines(self) -> list[str]:
        """Give the sentence and the findings, for a person."""
        return [f"Prices: {self.words}", *(f"  Finding: {one.words} [{one.code}]" for one in self.findings)]


def measure_coverage(table: PriceTable) -> PriceCoverage:
    """Count the rows of a file by what becomes of them. Raises InsufficientData where none has all features."""
    close, stretches = table.close, find_stretches(table.close)
    is_kept = stretches.place >= WARM_UP
    is_first = stretches.number == pd.Series(stretches.number).groupby(stretches.column).transform("min").to_numpy()
    is_bridged = (stretches.gap > 0) & ~stretches.is_restart
    kept, warm_up, after_gap, bridged = (
        np.bincount(stretches.column[on], minlength=close.shape[1]).tolist()
        for on in (is_kept, ~is_kept & is_first, ~is_kept & ~is_first, is_bridged)
    )
    restarts, left_out = _restarts(close, stretches), table.left_out[list(LEFT_OUT)].to_numpy().tolist()
    names = []
    for i, ticker in enumerate(close.columns):
        unusable = dict(zip(LEFT_OUT, left_out[i], strict=True))
        lost = {**unusable, "warm_up": warm_up[i], "after_gap": after_gap[i]}
        names.append(
            NameCoverage(
                ticker=ticker,
                first=_day(close[ticker].first_valid_index()),
                last=_day(close[ticker].last_valid_index()),
                n_rows=kept[i] + sum(lost.values()),
                n_kept=kept[i],
                lost=lost,
                n_bridged=bridged[i],
                restarts=tuple(restarts.get(i, ())),
            )
        )
    is_labelled = in_one_stretch(close, HORIZON).to_numpy()[stretches.row, stretches.column]
    is_old = stretches.row < len(close) - HORIZON
    found = _summed(names, n_without_label=int((is_kept & is_old & ~is_labelled).sum()))
    if not found.n_kept:
        raise InsufficientData(f"{table.path} gives no row with all features: {_longest(table, stretches)}")
    return found


def _restarts(close: pd.DataFrame, stretches: Stretches) -> dict[int, list[Gap]]:
    """Find the gaps that are not bridged, by the name's column."""
    found: dict[int, list[Gap]] = {}
    for at in np.flatnonzero(stretches.is_restart).tolist():
        before, after = (_day(close.index[stretches.row[place]]) for place in (at - 1, at))
        gap = Gap(last_before=before, first_after=after, n_dates=int(stretches.gap[at]))
        found.setdefault(int(stretches.column[at]), []).append(gap)
    return found


def _day(moment: Any) -> Any:  # noqa: ANN401 -- pandas' own: a Timestamp, or None
    return None if moment is None else moment.date()


def _longest(table: PriceTable, stretches: Stretches) -> str:
    needed = f"a name needs {WARM_UP + 1} prices without a gap of more than {BRIDGED_DATES} dates"
    if not len(stretches.row):
        return f"{needed}, and no row has a price above 0; check the column of closes"
    best = int(stretches.place.argmax())
    ticker = table.close.columns[stretches.column[best]]
    return f"{needed}, and the most are {ticker}'s {stretches.place[best] + 1}; give a longer history, or fill the gaps"


def _summed(names: Sequence[NameCoverage], *, n_without_label: int) -> PriceCoverage:
    n_rows, n_kept = sum(one.n_rows for one in names), sum(one.n_kept for one in names)
    possible = sum(_n_possible(one) for one in names)
    found = PriceCoverage(
        n_rows=n_rows,
        n_kept=n_kept,
        share_kept=n_kept / possible if possible else None,
        lost={cause: sum(one.lost[cause] for one in names) for cause in (*LEFT_OUT, *_PRICED)},
        n_without_label=n_without_label,
        names=tuple(names),
        findings=(),
    )
    return replace(found, findings=tuple(_findings(found)))


def _findings(found: PriceCoverage) -> Iterator[Finding]:
    names = found.names
    if found.share_kept is not None and found.share_kept < LEAST_SHARE:
        shares = {one.ticker: one.n_kept / _n_possible(one) for one in names if _n_possible(one)}
        worst = {ticker: f"{shares[ticker]:.0%}" for ticker in sorted(shares, key=shares.__getitem__)}
        yield Finding(
            code="few_rows_kept",
            words=f"of the rows after each name's first year only {found.share_kept:.0%} have all features, fewer than "
            f"{LEAST_SHARE:.0%}: {_listed(worst)}; fill in the closes that are missing, or leave these names out",
        )
    for cause, words in {
        "no_price": "rows without a price are skipped",
        "not_positive": "prices of 0, less or infinite are skipped",
        "repeated": "rows that repeat another one count once",
    }.items():
        counts = {one.ticker: one.lost[cause] for one in names}
        if any(counts.values()):
            yield Finding(code=cause, words=f"{words}: {_counted(counts)}")
    bridged = {one.ticker: one.n_bridged for one in names}
    if any(bridged.values()):
        words = f"gaps of at most {BRIDGED_DATES} dates are bridged, by skipping the dates: {_counted(bridged)}"
        yield Finding(code="gaps_bridged", words=words)
    restarted = sorted((one for one in names if one.restarts), key=lambda one: -one.lost["after_gap"])
    if restarted:
        yield Finding(
            code="history_restarted",
            words=f"after a gap of more than {BRIDGED_DATES} dates a name's indicators begin anew, and the next "
            f"{WARM_UP} prices give no row: {_listed({one.ticker: _restarted(one) for one in restarted})}",
        )
    short = {one.ticker: f"{sum(one.lost[cause] for cause in _PRICED):,} prices" for one in names if not one.n_kept}
    if short:
        yield Finding(
            code="names_without_rows",
            words=f"no row has all features, which need {WARM_UP + 1} prices without a longer gap: {_listed(short)}",
        )
    if found.n_without_label:
        yield Finding(
            code="labels_unknown",
            words=f"{found.n_without_label:,} of {found.n_kept:,} rows have no label: no price of their name {HORIZON} "
            f"dates later, or a longer gap before",
        )


def _n_possible(one: NameCoverage) -> int:
    """Count the rows that would have all features if each had a price."""
    return max(0, one.n_rows - one.lost["repeated"] - one.lost["not_traded"] - WARM_UP)


def _restarted(one: NameCoverage) -> str:
    last = one.restarts[-1]
    times = f"{len(one.restarts)} times, last " if len(one.restarts) > 1 else ""
    return f"{times}{last.first_after} after {last.n_dates:,} dates without a price"


def _counted(counts: Mapping[str, int]) -> str:
    """List the names that have any, those with the most first."""
    most_first = sorted((ticker for ticker in counts if counts[ticker]), key=counts.__getitem__, reverse=True)
    return _listed({ticker: f"{counts[ticker]:,}" for ticker in most_first})


def _listed(names: Mapping[str, str]) -> str:
    shown = ", ".join(f"{ticker} ({words})" for ticker, words in list(names.items())[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
