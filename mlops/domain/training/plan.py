"""Plan of a fit: the rows, the rows to stop early on, and the parameters that follow from the data.

Pure; called by the train stage between the split and the fit.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import ConfigurationError
from mlops.domain.ports import TrainingData, Validation
from mlops.domain.training.splits import split_by_date

if TYPE_CHECKING:
    from mlops.domain.policies import TrainingPolicy
    from mlops.domain.training.matrix import FeatureMatrix
    from mlops.domain.training.splits import Split

_Params = Mapping[str, float | int | str | bool]


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """Arguments of `Trainer.fit`."""

    data: TrainingData
    params: _Params
    """The policy's, with what class weight and monotone constraints add."""
    n_fitted: int
    n_validation: int
    last_fitted: date
    """Newest date of the rows that trees are grown on."""


def fit_plan(
    policy: TrainingPolicy,
    split: Split,
    *,
    x: FeatureMatrix,
    y: npt.NDArray[np.int8],
    dates: npt.NDArray[np.datetime64],
    features: tuple[str, ...],
) -> FitPlan:
    """Choose rows and parameters of one fit; the held-out rows are in neither part.

    With `early_stopping_rounds`, the newest `validation_dates` of the training dates are kept back, and the label's
    horizon before them is purged. Raises ConfigurationError, InsufficientData where no date is left to fit.
    """
    fitted, validation, last = split.train, np.zeros_like(split.train), split.last_train
    if policy.early_stopping_rounds is not None:
        inner = split_by_date(
            dates,
            split.train,
            horizon_dates=policy.horizon_dates,
            holdout_dates=policy.validation_dates,
            embargo_dates=policy.embargo_dates,
            panel_dates=dates,
        )
        fitted, validation, last = inner.train, inner.holdout, inner.last_train
    weight = positive_weight(y[fitted]) if policy.class_weight == "balanced" else None
    added = {
        "scale_pos_weight": weight,
        "monotone_constraints": constraints(policy.monotone, features) if policy.monotone else None,
    }
    given = {name: value for name, value in added.items() if value is not None}
    twice = sorted(set(given) & set(policy.params))
    if twice:
        message = f"{', '.join(twice)} is set by training.params and by class_weight or monotone; take one out"
        raise ConfigurationError(message)
    stop_on = None
    if policy.early_stopping_rounds is not None:
        stop_on = Validation(
            x=x.where(validation),
            y=y[validation],
            patience_rounds=policy.early_stopping_rounds,
            positive_weight=weight or 1.0,
        )
    return FitPlan(
        data=TrainingData(
            x=x.where(fitted), y=y[fitted], dates=_selected(dates, fitted), features=features, validation=stop_on
        ),
        params={**policy.params, **given},
        n_fitted=int(np.count_nonzero(fitted)),
        n_validation=int(np.count_nonzero(validation)),
        last_fitted=last,
    )


def _selected(dates: npt.NDArray[np.datetime64], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.datetime64]:
    """Dates of a mask, not to be written to; where they are one run, which they mostly are, no copy of 8 bytes each."""
    first = int(mask.argmax())
    run = slice(first, first + int(np.count_nonzero(mask)))
    found = dates[run] if mask[run].all() else dates[mask]
    found.flags.writeable = False
    return found


def positive_weight(y: npt.NDArray[np.int8]) -> float | None:
    """Negative rows over positive ones, so that both classes weigh the same; None where one is missing."""
    positive = int(np.count_nonzero(y == 1))
    return (len(y) - positive) / positive if 0 < positive < len(y) else None


def constraints(monotone: Mapping[str, int], features: tuple[str, ...]) -> str:
    """XGBoost's `(1,0,-1)` in the order of the features. Raises ConfigurationError for a name that is none."""
    unknown = [name for name in monotone if name not in features]
    if unknown:
        near = difflib.get_close_matches(unknown[0], features, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the features are {', '.join(features)}"
        message = f"training.monotone names {', '.join(map(repr, unknown))}, which is not among the features; {hint}"
        raise ConfigurationError(message)
    return f"({','.join(str(monotone.get(name, 0)) for name in features)})"
