"""The drift profile of a training: what its rows looked like, read again as drift checks read them.

The training's own matrix will not do: it has no infinities, half the digits, and no earlier dates. Called by the
train stage when the model is fitted; the profile is logged with the version.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from mlops.domain.drift.training_profile import DriftProfile, make_profile
from mlops.domain.frame import feature_frame
from mlops.domain.panel import counted_dates
from mlops.domain.ports import FeatureSource, Window
from mlops.stages.drift_windows import read_rows, read_thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops.domain.policies import Strategy

#: Of more trained rows a sample is profiled: 45 features of it are 90 MB, and by Dvoretzky, Kiefer and Wolfowitz a
#: share is off by more than sqrt(ln(2 / .05) / (2 x 250,000)) = .0027 in one sample of twenty.
PROFILE_ROWS = 250_000


def read_training_profile(
    source: FeatureSource,
    strategy: Strategy,
    *,
    features: Sequence[str],
    first: date,
    last: date,
    as_of: date,
) -> DriftProfile:
    """The profile of the dates from `first` to `last`, with the calibration history before and the days up to `as_of`.

    Raises what reading raises.
    """
    trained = Window(start=first - timedelta(days=1), end=last)
    history = Window(start=trained.start - timedelta(days=strategy.drift.calibration_days), end=trained.start)
    columns = ["ticker", "date", *features]
    counted = counted_dates(
        source, strategy.name, Window(start=history.start, end=as_of), min_share=strategy.data.min_date_share
    )
    most = min(strategy.data.max_reference_rows or PROFILE_ROWS, PROFILE_ROWS)
    rows = read_rows(
        counted, strategy.name, columns, history=history, reference=trained, current=Window(start=last, end=last),
        limit=most,
    )  # fmt: skip
    after = read_thinned(counted, strategy.name, Window(start=last, end=as_of), columns)
    return make_profile(
        *(feature_frame(table, features) for table in (rows.history, rows.reference, after)),
        strategy=strategy.name,
        as_of=as_of,
        trained_window=trained,
        bins=strategy.drift.bins,
    )
