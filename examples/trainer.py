"""A trainer of one's own: XGBoost in which older rows count less.

    [strategies.growth.training]
    trainer = "examples.trainer:RecencyTrainer"
    params = { max_depth = 3, learning_rate = 0.05, n_estimators = 60, half_life_dates = 120 }

A trainer is a class without arguments whose `fit` returns an `XGBClassifier`; `mlops.domain.ports.Trainer` is the
contract.
It takes whatever parameters it knows, and is searched over them by `--tune` like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from mlops.domain.ports import Progress, TrainingControl, TrainingData


class RecencyTrainer:
    """XGBClassifier whose rows weigh half as much for every `half_life_dates` dates of age."""

    def fit(
        self,
        data: TrainingData,
        *,
        params: Mapping[str, float | int | str | bool],
        seed: int,
        device: str,
        n_jobs: int,
        segment_rounds: int,  # noqa: ARG002 -- this one is begun anew when it is interrupted; see Trainer for the other way
        control: TrainingControl,
    ) -> xgb.XGBClassifier:
        """Fit on all rows. Raises what `control.check` raises: the run was cancelled, or its lease is lost."""
        options: dict[str, Any] = dict(params)
        weights = recency_weights(data.dates, half_life_dates=float(options.pop("half_life_dates", 120)))
        rounds = int(options.pop("n_estimators", 100))
        callbacks: list[xgb.callback.TrainingCallback] = [_Told(control, rounds)]
        watched: dict[str, Any] = {}
        if data.validation is not None:  # `early_stopping_rounds` of the policy
            callbacks.append(xgb.callback.EarlyStopping(rounds=data.validation.patience_rounds, save_best=True))
            watched = {"eval_set": [(np.asarray(data.validation.x), data.validation.y)], "verbose": False}
        model = xgb.XGBClassifier(
            n_estimators=rounds, random_state=seed, device=device, n_jobs=n_jobs, callbacks=callbacks, **options
        )
        model.fit(np.asarray(data.x), data.y, sample_weight=weights, **watched)
        return model.set_params(callbacks=None, device="cpu")


class _Told(xgb.callback.TrainingCallback):  # type: ignore[misc]  # the library's base is untyped
    """Reports each round, and lets the control end the training."""

    def __init__(self, control: TrainingControl, rounds: int) -> None:
        self._control, self._rounds = control, rounds

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ANN401, ARG002 -- the library's signature
        """False: go on."""
        self._control.report(Progress(done=epoch + 1, total=self._rounds))
        self._control.check()
        return False


def recency_weights(dates: npt.NDArray[np.datetime64], *, half_life_dates: float) -> npt.NDArray[np.float64]:
    """Weight of each row: 1 on the newest date, half as much for every `half_life_dates` dates before it.

    Dates of the panel are counted, so a weekend ages nothing.

    >>> friday, monday, tuesday = np.array(["2020-01-03", "2020-01-06", "2020-01-07"], dtype="datetime64[D]")
    >>> recency_weights(np.array([friday, monday, tuesday, tuesday]), half_life_dates=1).tolist()
    [0.25, 0.5, 1.0, 1.0]
    """
    found, place = np.unique(dates, return_inverse=True)
    age = len(found) - 1 - place
    return np.asarray(0.5 ** (age / half_life_dates))
