"""Panels of dates, and profiles of them, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise

import numpy as np

from mlops.domain.drift.references.training_profile import DriftProfile, make_profile
from mlops.domain.frame import FeatureFrame
from mlops.domain.ports import Window

FIRST = date(2018, 1, 1)
#: Dates of history, trained dates, later dates.
SPANS = (120, 40, 20)


def day(index: int) -> date:
    return FIRST + timedelta(days=index)


def frame(start: int, columns: Mapping[str, np.ndarray]) -> FeatureFrame:
    """Rows of consecutive days. columns : (dates, rows) each, of numbers or of texts."""
    n_dates, n_rows = next(iter(columns.values())).shape
    flat = {name: np.ascontiguousarray(values.ravel()) for name, values in columns.items()}
    return FeatureFrame(
        n_rows=n_dates * n_rows,
        numbers={name: values for name, values in flat.items() if values.dtype != object},
        categories={name: values for name, values in flat.items() if values.dtype == object},
        newest_date=day(start + n_dates - 1),
        dates=np.repeat(np.datetime64(FIRST, "D") + np.arange(start, start + n_dates), n_rows),
    )


def profile_of(
    columns: Mapping[str, np.ndarray], *, spans: tuple[int, int, int] = SPANS, bins: int = 10
) -> DriftProfile:
    """The profile of a training as of the last of the dates. columns : (sum of spans, rows) each."""
    history, trained, later = spans
    bounds = [0, history, history + trained, history + trained + later]
    parts = [
        frame(start, {name: values[start:end] for name, values in columns.items()}) for start, end in pairwise(bounds)
    ]
    return make_profile(
        *parts,
        strategy="growth",
        as_of=day(bounds[3] - 1),
        trained_window=Window(start=day(history - 1), end=day(history + trained - 1)),
        bins=bins,
    )
