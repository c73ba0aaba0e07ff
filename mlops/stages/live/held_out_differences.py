"""How two versions' predictions differed day by day, on dates that the younger one's training held out.

Called when an experiment is planned. The judged models are asked: a refit knows those dates.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from mlops.domain.errors import InsufficientData
from mlops.domain.experiments.measures import differences_by_day, measures_of
from mlops.domain.experiments.records import Measure
from mlops.domain.training.judged_twin import judged_of
from mlops.registry.adoption import as_recorded
from mlops.runs.experiments import DailyDifferences
from mlops.stages.live.outcomes import read_outcomes
from mlops.stages.live.served_champion import judged_twin, load_version
from mlops.stages.live.universe import matrix_of, rows_between

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource, ModelVersion
    from mlops.domain.promotion.records import Champion, ModelIdentity
    from mlops.stages.table import StageServices

_UNTIL_NEXT = timedelta(days=14)
"""Calendar days after the last held-out date in which its next date lies."""


def daily_differences(
    services: StageServices, strategy: Strategy, champion: Champion, challenger: ModelVersion, identity: ModelIdentity
) -> Mapping[Measure, DailyDifferences]:
    """Give the differences by each measure that the label and the panel allow, the one to take first first.

    Loads both models, one after the other, and reads the rows of the held-out dates.
    Raises DataError where no date can be scored, UnusableModelFile, RegistryUnavailable.
    """
    beside = as_recorded(services.ledger, services.registry.version(strategy.model_name, str(champion.version)))
    held = judged_of(challenger.tags).holdout
    if held is None:
        raise InsufficientData(
            f"version {challenger.version} of {strategy.name!r} does not say which dates it held out, so that nobody "
            "knows how it differs from the champion; train it here"
        )
    # A champion that does not say what it held out is taken to be the older one.
    (first, last), younger = max(
        (judged_of(beside.tags).holdout or (date.min, date.min), beside.version), (held, challenger.version)
    )
    today = services.feature_day()
    with services.source.snapshot() as source:
        outcomes = read_outcomes(source, strategy, first=first, last=min(today, last + _UNTIL_NEXT))
        said = [
            _said(services, source, strategy, version, known_by, champion.seq, (first, last))
            for version, known_by in ((challenger.version, identity), (str(champion.version), champion.identity))
        ]
    n = len(said[0])
    dates = outcomes.dates[:n]
    n_names = n / max(1, len(np.unique(dates)))
    origin = f"{first} to {last}, which version {younger} held out"
    found: dict[Measure, DailyDifferences] = {}
    for measure in measures_of(strategy.training.label, n_names=n_names):
        part = outcomes.next_return if measure is Measure.MARK else outcomes.increment
        days, values = differences_by_day(
            measure,
            dates,
            said[0],
            said[1],
            None if part is None else part[:n],
            horizon_dates=strategy.training.horizon_dates,
        )
        if len(days):
            found[measure] = DailyDifferences(measure=measure, dates=tuple(days.tolist()), values=values, origin=origin)
    return found


def _said(
    services: StageServices,
    source: FeatureSource,
    strategy: Strategy,
    version: str,
    identity: ModelIdentity,
    seq: int,
    dates: tuple[date, date],
) -> npt.NDArray[np.float64]:
    """(n,) what the judged model of a version says of the dates' rows, by date and ticker."""
    served = load_version(services.registry, strategy, version, identity, seq=seq)
    judge = judged_twin(services.ledger, services.registry, strategy, identity, served)
    rows = rows_between(source, strategy, judge.features, *dates)
    return np.asarray(judge.predictor.probabilities(matrix_of(rows, judge.features)), dtype=np.float64)
