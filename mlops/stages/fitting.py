"""The fit of a train stage: on the device that is there, with what the plan says. Called by the train stage."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog
import xgboost as xgb

from mlops.domain.errors import ConfigurationError
from mlops.domain.training.feature_names import encoded_names, feature_names
from mlops.domain.training.plan import FitPlan, fit_plan
from mlops.domain.training.trainer import CPU, CUDA, load_trainer, usable_device
from mlops.stages.resumption import BoundControl

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.policies import TrainingPolicy
    from mlops.domain.ports import TrainingControl
    from mlops.domain.training.splits import Split
    from mlops.stages.labelled_rows import LabelledRows

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A classifier and how it was fitted."""

    model: Any
    """An XGBClassifier."""
    plan: FitPlan
    device: str
    fit_s: float
    warnings: tuple[str, ...] = ()
    """What a person should know of the fit: a GPU that was not there."""
    resumed_from: str | None = None
    """The checkpoint of an earlier attempt that it went on from, e.g. `rounds-50`."""

    @property
    def best_iteration(self) -> int | None:
        """Rounds before the best one, as XGBoost counts them; None without early stopping."""
        if self.plan.data.validation is None:
            return None
        found: str | None = self.model.get_booster().attr("best_iteration")
        return None if found is None else int(found)


def fit(
    policy: TrainingPolicy,
    rows: LabelledRows,
    split: Split,
    *,
    settings: Settings,
    control: TrainingControl,
    base: bytes | None = None,
    resumes: bool = False,
) -> Fitted:
    """`base`: a model to continue. `resumes`: the control's checkpoints are of this fit, and not of one beside it.

    Raises what the trainer and the plan raise, and ConfigurationError where a strategy's own trainer returns no
    XGBClassifier of these features; a GPU that is not there is a warning, not an error.
    """
    plan = fit_plan(policy, split, x=rows.x, y=rows.y, dates=rows.dates, features=rows.features)
    if base is not None:
        plan = replace(plan, data=replace(plan.data, base=base))
    began = time.monotonic()
    chosen = usable_device(CUDA if os.environ.get("WORKER_ROLE") == "train.gpu" else CPU)
    if chosen.warning:
        log.warning(
            "train.no_gpu", error=chosen.warning, action="check the driver, or stop the worker of queue train.gpu"
        )
    determined = {
        "trainer": policy.trainer,
        "params": dict(plan.params),
        "seed": policy.seed,
        "segment_rounds": policy.segment_rounds,
    }
    bound = BoundControl(control, plan.data, determined) if resumes else None
    model = load_trainer(policy.trainer).fit(
        plan.data,
        params=plan.params,
        seed=policy.seed,
        device=chosen.device,
        n_jobs=settings.train_n_jobs or max(1, (os.cpu_count() or 1) // settings.train_concurrency),
        segment_rounds=policy.segment_rounds,
        control=bound or control,
    )
    return Fitted(
        model=_checked(model, policy.trainer, plan.data.features),
        plan=plan,
        device=chosen.device,
        fit_s=time.monotonic() - began,
        warnings=(chosen.warning,) if chosen.warning else (),
        resumed_from=bound.resumed_from if bound else None,
    )


def _checked(model: Any, trainer: str, features: tuple[str, ...]) -> xgb.XGBClassifier:  # noqa: ANN401 -- of a strategy's own trainer
    """The trainer's model, which says the names of its features. Raises ConfigurationError."""
    if not isinstance(model, xgb.XGBClassifier):
        message = f"trainer {trainer} returned a {type(model).__name__}; it must return a fitted XGBClassifier"
        raise ConfigurationError(message)
    booster = model.get_booster()
    if booster.feature_names is None:  # fitted on a plain array
        booster.feature_names = encoded_names(features)
    elif feature_names(booster) != features:
        message = f"trainer {trainer} returned a model of other features than it was given, or of another order"
        raise ConfigurationError(message)
    return model
