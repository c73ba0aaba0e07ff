"""A checkpoint is continued by the training that it is of, and by no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlops.domain.ports import TrainingData, Validation
from mlops.stages.fitting import BoundControl, training_fingerprint
from tests.support.models import RecordingControl, training_data

SETTINGS: Mapping[str, Any] = {"trainer": "xgboost", "params": {"max_depth": 3}, "seed": 42, "segment_rounds": 10}


def moved(data: TrainingData) -> TrainingData:
    x = np.array(np.asarray(data.x))
    x[0, 0] += 1
    return replace(data, x=x)


def relabelled(data: TrainingData) -> TrainingData:
    return replace(data, y=1 - data.y)


def validated(data: TrainingData) -> TrainingData:
    return replace(data, validation=Validation(x=data.x, y=data.y, patience_rounds=5))


def test_the_same_training_goes_on() -> None:
    kept = RecordingControl()
    BoundControl(kept, training_data(), SETTINGS).save_checkpoint("rounds-10", b"ten")
    control = BoundControl(kept, training_data(), SETTINGS)
    assert control.load_checkpoint() == ("rounds-10", b"ten")
    assert control.resumed_from == "rounds-10"


@pytest.mark.parametrize("changed", [moved, relabelled, validated, lambda data: replace(data, base=b"trees")])
def test_other_rows_begin_anew(changed: Any) -> None:
    kept = RecordingControl()
    BoundControl(kept, training_data(), SETTINGS).save_checkpoint("rounds-10", b"ten")
    control = BoundControl(kept, changed(training_data()), SETTINGS)
    assert control.load_checkpoint() is None
    assert control.resumed_from is None


@pytest.mark.parametrize(
    "changed", [{"seed": 43}, {"params": {"max_depth": 4}}, {"segment_rounds": 5}, {"trainer": "x:Y"}]
)
def test_other_settings_begin_anew(changed: dict[str, Any]) -> None:
    data = training_data()
    assert training_fingerprint(data, SETTINGS) != training_fingerprint(data, {**SETTINGS, **changed})


def test_another_xgboost_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    data = training_data()
    ours = training_fingerprint(data, SETTINGS)
    monkeypatch.setattr("xgboost.__version__", "0.0")
    assert training_fingerprint(data, SETTINGS) != ours
