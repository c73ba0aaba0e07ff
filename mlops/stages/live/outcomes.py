"""What came of a strategy's dates: labels as training reads them, and the return of the next date.

Called by the score stage, and by the reconciler's watch, which compares digests; neither loads a model for it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops.domain.errors import MissingColumn
from mlops.domain.experiments.measures import day_part
from mlops.domain.labels import impossible, label_numbers, parse_label
from mlops.domain.panel import counted_dates
from mlops.domain.ports import Window
from mlops.domain.training.splits import labelled_dates
from mlops.stages.labelled_rows import rows_once

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource

SCORED_DAYS = 400
"""Calendar days of predictions that are compared with their outcomes each time: a year, and what waits for its labels.
An outcome that is restated later than that is not seen."""
#: Decimals of a return in the digest.
_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Rows by date and ticker, one of each."""

    tickers: pa.Array
    """(n,) text, null where the row has none"""
    dates: npt.NDArray[np.datetime64]
    """(n,) datetime64[D], ascending"""
    y: npt.NDArray[np.int8]
    """(n,); 0 where not known"""
    known: npt.NDArray[np.bool_]
    """(n,) the label has a value and its horizon has passed by the last date"""
    next_return: npt.NDArray[np.float64] | None
    """(n,) from the row's date to the next date of the panel, nan where not known; None: no such column"""
    increment: npt.NDArray[np.float64] | None
    """(n,) the next date's own part of the label, larger where the label is likelier (`day_part`), nan where not known;
    None: the label has none, or there is no such column"""
    panel_dates: npt.NDArray[np.datetime64]
    """Dates that count, ascending"""
    ripe_to: date | None
    """Last date whose horizon has passed by the last date; None: none has"""
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of all that is known; the same rows give the same one."""
        found = hashlib.sha256()
        found.update("\x00".join(str(one) for one in self.tickers.to_pylist()).encode())
        found.update(self.dates.astype("<i8").tobytes())
        found.update(np.where(self.known, self.y, np.int8(-1)).astype("<i1").tobytes())
        if self.next_return is not None:
            rounded = np.round(self.next_return, _DIGITS) + 0.0  # -0.0 + 0.0 is 0.0
            rounded[np.isnan(rounded)] = np.nan
            found.update(rounded.astype("<f8").tobytes())
        return found.hexdigest()


def read_outcomes(source: FeatureSource, strategy: Strategy, *, first: date, last: date) -> Outcomes:
    """What is known as of `last` of the dates from `first` to `last`, both included.

    A label is known where it has a value and `training.horizon_dates` dates that count come after it, as in training.
    Raises MissingColumn where the label's column is not there, UnusableFeatures where a ticker and date repeat.
    """
    label = parse_label(strategy.training.label)
    names = {column.name for column in source.columns()}
    lacking = [name for name in label.columns if name not in names]
    if lacking:
        message = (
            f"the feature view lacks {', '.join(lacking)}, so that no outcome of {strategy.training.label!r} is known; "
            "put it back, or correct training.label"
        )
        raise MissingColumn(message)
    priced = strategy.live.return_column
    window = Window(start=first - timedelta(days=1), end=last)
    columns = list(dict.fromkeys(["ticker", "date", *label.columns, *([priced] if priced in names else [])]))
    panel = counted_dates(source, strategy.name, window, min_share=strategy.data.min_date_share).panel
    rows = rows_once(source.read(strategy.name, window, columns), strategy)
    dates = np.asarray(rows.column("date").to_numpy(zero_copy_only=False), dtype="datetime64[D]")
    panel_dates = np.array(list(panel.rows), dtype="datetime64[D]")
    y, has_value = label.evaluate(rows)
    for name in label.columns:
        has_value &= ~impossible(name, label_numbers(rows, name), bounds=strategy.data.return_bounds)
    ripe = labelled_dates(panel_dates, as_of=last, horizon_dates=strategy.training.horizon_dates)
    known = has_value & (dates <= ripe[-1]) if len(ripe) else np.zeros(len(dates), dtype=np.bool_)
    notes = () if priced in names else (f"live.return_column: the feature view has no column {priced!r}",)
    tickers = rows.column("ticker").combine_chunks()
    next_return = _next_returns(rows, tickers, dates, panel_dates, strategy) if priced in names else None
    part = day_part(strategy.training.label)
    return Outcomes(
        tickers=tickers,
        dates=dates,
        y=np.where(known, y, np.int8(0)).astype(np.int8),
        known=known,
        next_return=next_return,
        increment=None if part is None or next_return is None else part.of(next_return, rows),
        panel_dates=panel_dates,
        ripe_to=ripe[-1].item() if len(ripe) else None,
        notes=notes,
    )


def _next_returns(
    rows: pa.Table,
    tickers: pa.Array,
    dates: npt.NDArray[np.datetime64],
    panel_dates: npt.NDArray[np.datetime64],
    strategy: Strategy,
) -> npt.NDArray[np.float64]:
    """(n,) the ticker's return column on the panel's next date; nan where it is none, or outside `return_bounds`."""
    values = label_numbers(rows, strategy.live.return_column).copy()
    low, high = strategy.data.return_bounds
    values[~np.isfinite(values) | (values < low) | (values > high)] = np.nan
    codes = tickers.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    place = np.searchsorted(panel_dates, dates)
    on_panel = (place < len(panel_dates)) & (panel_dates[np.minimum(place, len(panel_dates) - 1)] == dates)
    after = np.where(on_panel, place + 1, place)  # a date that does not count is followed by the next that does
    width = len(panel_dates) + 1
    here = codes * width + place
    order = np.flatnonzero(on_panel & (codes >= 0))
    order = order[np.argsort(here[order], kind="stable")]
    wanted = codes * width + after
    found = np.searchsorted(here[order], wanted)
    inside = found < len(order)
    result = np.full(len(dates), np.nan)
    hit = inside & (codes >= 0)
    hit[hit] &= here[order[found[hit]]] == wanted[hit]
    result[hit] = values[order[found[hit]]]
    return result
