"""Profiles that a regular retraining would have left, for an evaluation over a history; pure."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from mlops.domain.drift.training_profile import DriftProfile, make_profile
from mlops.domain.ports import Window
from mlops.domain.training.splits import known_labels, split_by_date

if TYPE_CHECKING:
    from lab.drift_evaluation import DatedRows
    from mlops.domain.policies import DriftPolicy, TrainingPolicy

#: A quarter.
RETRAINED_EVERY_DAYS = 91


class PastChampions:
    """The champion of each day: trained as of the newest multiple of `every_days` since the first date, if promoted."""

    def __init__(
        self,
        strategy: str,
        rows: DatedRows,
        *,
        training: TrainingPolicy,
        drift: DriftPolicy,
        every_days: int = RETRAINED_EVERY_DAYS,
    ) -> None:
        self._strategy, self._rows, self._training, self._drift = strategy, rows, training, drift
        self._every_days = every_days
        self._newest: DriftProfile | None = None

    @property
    def days_needed(self) -> int:
        """Days of data before a check whose champion has a training window and the least calibration history."""
        return self._training.training_days + self._drift.min_calibration_days + self._every_days

    def of(self, day: date) -> DriftProfile:
        """Profile of the day's champion. Raises InsufficientData where there is too little to train on."""
        first: date = self._rows.dates[0].astype(object)
        trained_as_of = day - timedelta(days=(day - first).days % self._every_days)
        if self._newest is None or self._newest.as_of != trained_as_of:
            self._newest = self._trained(trained_as_of)
        return self._newest

    def _trained(self, as_of: date) -> DriftProfile:
        training, one = self._training, timedelta(days=1)
        start, end = np.searchsorted(
            self._rows.dates,
            np.array([as_of - timedelta(days=training.training_days), as_of], dtype="datetime64[D]"),
            side="right",
        )
        dates = self._rows.dates[start:end]
        split = split_by_date(
            dates,
            known_labels(dates, dates, as_of=as_of, horizon_dates=training.horizon_dates),
            horizon_dates=training.horizon_dates,
            holdout_dates=training.holdout_dates,
            embargo_dates=training.embargo_dates,
        )
        trained = Window(start=split.first_train - one, end=split.last_train)
        history = Window(start=trained.start - timedelta(days=self._drift.calibration_days), end=trained.start)
        return make_profile(
            *(self._rows.between(window) for window in (history, trained, Window(start=trained.end, end=as_of))),
            strategy=self._strategy,
            as_of=as_of,
            trained_window=trained,
            bins=self._drift.bins,
        )
