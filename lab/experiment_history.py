"""A strategy's past for experiments that are replayed: rows with what came of them, and models as of any day.

A model is trained by the product's trainer on what was known then; daily differences are the product's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lab.live_evaluation import past_rows, train_both
from mlops.domain.experiments.daily_scores import increment_difference, mark_difference
from mlops.domain.experiments.measures import day_part, measures_of
from mlops.domain.experiments.records import Measure
from mlops.domain.labels import Label, parse_label
from mlops.stages.labelled_rows import read_labelled, split_rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from config.settings import Settings
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource, TrainingControl

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A training as of a day."""

    as_of: date
    judge: Any
    """Knows no held-out date"""
    registered: Any
    features: tuple[str, ...]
    held_out: npt.NDArray[np.datetime64]
    """Dates, ascending"""


@dataclass(frozen=True, kw_only=True)
class Days:
    """Rows of successive dates, and what came of them."""

    dates: npt.NDArray[np.datetime64]
    """(n,) ascending"""
    table: pd.DataFrame
    y: npt.NDArray[np.int8]
    known: npt.NDArray[np.bool_]
    part: Vector
    """(n,) of the measure"""
    move: Vector
    """(n,) the next date's absolute return"""

    def only(self, on: npt.NDArray[np.bool_]) -> Days:
        """Give some of the rows. on : (n,)"""
        return Days(
            dates=self.dates[on],
            table=self.table.loc[on],
            y=self.y[on],
            known=self.known[on],
            part=self.part[on],
            move=self.move[on],
        )


class History:
    """A strategy's past: its rows, and its models, each trained once."""

    def __init__(
        self,
        source: FeatureSource,
        strategy: Strategy,
        table: pa.Table,
        close: pd.DataFrame,
        *,
        settings: Settings,
        control: TrainingControl,
    ) -> None:
        self.strategy = strategy
        self._source, self._settings, self._control = source, settings, control
        self._models: dict[date, Model] = {}
        rows = past_rows(strategy, table, close)
        n_names = len(rows.dates) / max(1, len(np.unique(rows.dates)))
        self.measure = measures_of(strategy.training.label, n_names=n_names)[0]
        made_of = day_part(strategy.training.label)
        ordered = table.sort_by([("date", "ascending"), ("ticker", "ascending")])
        of_measure = rows.next_return
        if self.measure is Measure.INCREMENT and made_of is not None:
            of_measure = made_of.of(rows.next_return, ordered)
        self._days = Days(
            dates=rows.dates,
            table=rows.table,
            y=rows.y,
            known=rows.known,
            part=of_measure,
            move=np.abs(rows.next_return),
        )

    @property
    def label(self) -> Label:
        """What is predicted."""
        return parse_label(self.strategy.training.label)

    @property
    def horizon_dates(self) -> int:
        """Dates that the label looks ahead."""
        return self.strategy.training.horizon_dates

    def model(self, as_of: date) -> Model:
        """Train on what was known then. Raises DataError."""
        if as_of not in self._models:
            policy = self.strategy.training
            rows = read_labelled(self._source, self.strategy, as_of=as_of)
            split = split_rows(rows, policy)
            judge, registered = train_both(policy, rows, split, settings=self._settings, control=self._control)
            self._models[as_of] = Model(
                as_of=as_of,
                judge=judge,
                registered=registered,
                features=rows.features,
                held_out=np.unique(rows.dates[split.holdout]),
            )
        return self._models[as_of]

    def after(self, as_of: date, n_dates: int) -> Days:
        """Rows of so many dates after that day."""
        later = np.unique(self._days.dates[self._days.dates > np.datetime64(as_of)])[:n_dates]
        return self._days.only(np.isin(self._days.dates, later))

    def held_out(self, model: Model) -> Days:
        """Rows of the dates on which the model was judged."""
        return self._days.only(np.isin(self._days.dates, model.held_out))

    def differences(self, days: Days, one: Vector, other: Vector) -> tuple[npt.NDArray[np.datetime64], Vector]:
        """Give the dates with a difference, and the differences: all at once as the product does one by one."""
        dates, first, n = np.unique(days.dates, return_index=True, return_counts=True)
        place = np.arange(len(days.dates)) - np.repeat(first, n)
        of = np.full((3, len(dates), int(n.max(initial=1))), np.nan)
        of[:, np.repeat(np.arange(len(dates)), n), place] = one, other, days.part
        if self.measure is Measure.MARK:
            found = mark_difference(*of)
        else:
            found = increment_difference(*of, horizon_dates=self.horizon_dates)
        known = np.isfinite(found)
        return dates[known], found[known]
