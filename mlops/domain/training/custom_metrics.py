"""A strategy's own metrics: functions `(dates, y, p, returns) -> float` that its `training.metrics` names.

Imported on use, not when the strategies file is read: a worker that only checks drift needs no such package.
A metric that cannot be had is left out with a note and never stops a training; a gate on it then fails as
"not measured". Called wherever a version is scored.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import ConfigurationError
from mlops.domain.training.metrics import Evaluation

Metric = Callable[..., float]


def load_metric(name: str, function: str) -> Metric:
    """The function. Raises ConfigurationError."""
    module_name, _, attribute = function.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as exc:  # a module may raise anything while it is imported
        message = f"metric {name}: {function} cannot be imported ({type(exc).__name__}: {exc}); install it, or mend it"
        raise ConfigurationError(message) from exc
    if not callable(found):
        message = f"metric {name}: {function} is no function but {type(found).__name__}; name a callable"
        raise ConfigurationError(message)
    return found  # type: ignore[no-any-return]  # checked to be callable


def evaluate_custom(
    metrics: Mapping[str, str],
    *,
    dates: npt.NDArray[np.datetime64],
    y: npt.NDArray[np.integer],
    probability: npt.NDArray[np.floating],
    returns: npt.NDArray[np.floating] | None,
) -> Evaluation:
    """Each metric of these rows, or a note why it is left out.

    metrics : name → `package.module:function`      returns : (n,) target_return, all nan where there is none
    The functions get copies, so none can change what the others see.
    """
    values: dict[str, float] = {}
    notes: list[str] = []
    for name, function in metrics.items():
        given = (dates, y, probability, np.full(len(y), np.nan) if returns is None else returns)
        try:
            value = _number(load_metric(name, function)(*(np.array(part) for part in given)))
        except ConfigurationError as exc:
            notes.append(f"{name} is left out: {exc}")
        except Exception as exc:  # noqa: BLE001 -- a strategy's own code may raise anything; the training goes on
            notes.append(f"{name} is left out: {function} raised {type(exc).__name__}: {exc}")
        else:
            if value is None:
                notes.append(f"{name} is left out: {function} gave no finite number for {len(y)} rows")
            else:
                values[name] = value
    return Evaluation(metrics=values, notes=tuple(notes))


def _number(value: Any) -> float | None:  # noqa: ANN401 -- whatever a strategy's function returns
    number = float(value)
    return number if math.isfinite(number) else None
