"""Where boosting can really run: a GPU that was asked for may not be there.

Called by the train stage right before the fit. XGBoost itself goes on on the CPU in near silence, and a build
without CUDA too; a driver that is broken raises.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass

import numpy as np
import xgboost as xgb

CPU, CUDA = "cpu", "cuda"


@dataclass(frozen=True, kw_only=True)
class DeviceChoice:
    """The device to fit on."""

    device: str
    """`cpu` or `cuda`"""
    warning: str = ""
    """Why it is not the one that was asked for; empty where it is."""


def usable_device(asked: str) -> DeviceChoice:
    """The device itself where XGBoost can boost on it, else the CPU with the reason. A probe of two rows, for CUDA."""
    if asked == CPU:
        return DeviceChoice(device=CPU)
    try:
        found = probe(asked)
    except xgb.core.XGBoostError as exc:
        # The library's first line; below it is a stack trace.
        reason = str(exc).strip().splitlines()[0]
    else:
        if found.startswith(asked):
            return DeviceChoice(device=asked)
        reason = f"XGBoost {xgb.__version__} sees no GPU, or was built without CUDA"
    return DeviceChoice(device=CPU, warning=f"device {asked!r} was asked for and the CPU was used: {reason}")


def probe(device: str) -> str:
    """The device that one round of boosting ended on."""
    x = np.array([[0.0], [1.0]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is said once, in our own words
        matrix = xgb.DMatrix(x, label=[0, 1], nthread=1)
        booster = xgb.train({"device": device, "tree_method": "hist", "nthread": 1, "verbosity": 0}, matrix, 1)
    config = json.loads(booster.save_config())
    return str(config["learner"]["generic_param"]["device"])
