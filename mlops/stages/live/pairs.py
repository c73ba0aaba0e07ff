"""Two versions' predictions of the same names and dates, beside what came of them.

Called by the score stage: for the running experiment, and for the former champions that are watched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from mlops.domain.experiments.measures import differences_by_day
from mlops.domain.experiments.records import Measure

if TYPE_CHECKING:
    from datetime import date

    from mlops.stages.live.score import JoinedPredictions

CHAMPION, CHALLENGER, FORMER = "champion", "challenger", "former"
"""Variants of predictions in the log."""


RECENT_DATES = 20
"""Newest dates whose calls and missing values the guardrails compare: a month of trading. Calibration is of all."""
MIN_DATES = 5
"""With fewer the share of positive calls is the market's on those days more than a version's."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The names and dates that both versions have predicted, by date."""

    dates: npt.NDArray[np.datetime64]
    """(n,) datetime64[D], ascending"""
    champion: npt.NDArray[np.float64]
    """(n,) probabilities"""
    challenger: npt.NDArray[np.float64]
    y: npt.NDArray[np.int8]
    """(n,) 0 where not known"""
    known: npt.NDArray[np.bool_]
    next_return: npt.NDArray[np.float64] | None
    increment: npt.NDArray[np.float64] | None

    def differences(self, measure: Measure, *, horizon_dates: int) -> tuple[tuple[date, float], ...]:
        """Give each day's difference that is known, challenger less champion, in order."""
        part = self.next_return if measure is Measure.MARK else self.increment
        days, values = differences_by_day(
            measure, self.dates, self.challenger, self.champion, part, horizon_dates=horizon_dates
        )
        return tuple(zip(days.tolist(), values.tolist(), strict=True))

    def of_newest(self, n_dates: int, *, min_rows: int) -> Pairs:
        """Those of the newest so many dates, and of earlier ones until there are so many pairs."""
        days, first = np.unique(self.dates, return_index=True)
        if not len(days):
            return self
        enough = np.flatnonzero(len(self.dates) - first >= min_rows)
        place = min(max(0, len(days) - n_dates), int(enough[-1]) if len(enough) else 0)
        on = slice(int(first[place]), None)
        return Pairs(
            dates=self.dates[on],
            champion=self.champion[on],
            challenger=self.challenger[on],
            y=self.y[on],
            known=self.known[on],
            next_return=None if self.next_return is None else self.next_return[on],
            increment=None if self.increment is None else self.increment[on],
        )


def pair_predictions(
    joined: JoinedPredictions, *, champion_sha256: str, other_sha256: str, variant: str, after: date
) -> Pairs:
    """Pair the champion's predictions of dates after that one with those of a version of another variant."""
    said = joined.said
    later = joined.dates > np.datetime64(after, "D")
    of = {
        name: later
        & np.asarray(pc.equal(said.column("model_sha256"), sha256).to_numpy(), dtype=np.bool_)
        & np.asarray(pc.equal(said.column("variant"), kind).to_numpy(), dtype=np.bool_)
        for name, sha256, kind in (("champion", champion_sha256, CHAMPION), ("other", other_sha256, variant))
    }
    names = said.column("ticker").combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    keys = joined.dates.astype(np.int64) * 2**32 + names.astype(np.int64)
    rows = {name: np.flatnonzero(on) for name, on in of.items()}
    # A version that has two numbers may have predicted a name twice: the first counts.
    _, ours, theirs = np.intersect1d(keys[rows["champion"]], keys[rows["other"]], return_indices=True)
    champion, other = rows["champion"][ours], rows["other"][theirs]
    probability = joined.probability
    return Pairs(
        dates=joined.dates[champion],
        champion=probability[champion],
        challenger=probability[other],
        y=joined.y[champion],
        known=joined.known[champion],
        next_return=None if joined.next_return is None else joined.next_return[champion],
        increment=None if joined.increment is None else joined.increment[champion],
    )


def of_variant(joined: JoinedPredictions, variant: str) -> JoinedPredictions:
    """Give the predictions of one variant alone."""
    return joined.only(np.asarray(pc.equal(joined.said.column("variant"), variant).to_numpy(), dtype=np.bool_))
