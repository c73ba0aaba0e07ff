"""Trainers that do to their process what a training can do to it; strategies of the chaos suite name them."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np

from mlops.domain.ports import TrainingData
from mlops.domain.training.trainer import XGBoostTrainer


class Killed(XGBoostTrainer):
    """As the kernel does when memory runs out."""

    def fit(self, data: TrainingData, **how: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Gone(XGBoostTrainer):
    """As native code does that gives up."""

    def fit(self, data: TrainingData, **how: Any) -> Any:
        os._exit(7)


class Greedy(XGBoostTrainer):
    """Asks for more memory than any machine has: numpy's MemoryError."""

    def fit(self, data: TrainingData, **how: Any) -> Any:
        return np.ones((1 << 24, 1 << 24))


class Hung(XGBoostTrainer):
    """Stays in native code for hours and holds the interpreter's lock: no signal handler and no renewal runs."""

    def fit(self, data: TrainingData, **how: Any) -> Any:
        return sum(range(10**13))
