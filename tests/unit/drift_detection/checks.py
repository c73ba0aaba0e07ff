"""Drift checks of a few columns, for the tests of this folder."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt

from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.report import DriftReport
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window

AS_OF = date(2020, 3, 20)
BORDER = AS_OF - timedelta(days=7)
REFERENCE = Window(start=BORDER - timedelta(days=90), end=BORDER)
CURRENT = Window(start=BORDER, end=AS_OF)
N_REFERENCE, N_CURRENT = 1_000, 200


def noise(n: int, seed: int = 0, shift: float = 0.0) -> npt.NDArray[np.float64]:
    """Standard normal values around `shift`."""
    return np.random.default_rng(seed).normal(shift, 1.0, n)


def frame(duplicates: int = 0, **columns: npt.ArrayLike) -> FeatureFrame:
    """Columns of text are categories, all others numbers."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    return FeatureFrame(
        n_rows=len(next(iter(arrays.values()), [])),
        numbers={name: values.astype(np.float64) for name, values in arrays.items() if values.dtype != object},
        categories={name: values for name, values in arrays.items() if values.dtype == object},
        n_duplicate_rows=duplicates,
    )


def check(
    reference: FeatureFrame, current: FeatureFrame, policy: DriftPolicy | None = None, *, min_current_rows: int = 100
) -> DriftReport:
    """The report of a check on fixed dates."""
    return detect_drift(
        reference,
        current,
        policy or DriftPolicy(rule="raw"),
        strategy="growth",
        as_of=AS_OF,
        reference_window=REFERENCE,
        current_window=CURRENT,
        timestamp=datetime(2020, 3, 20, 3, tzinfo=UTC),
        min_current_rows=min_current_rows,
    )


def check_one(reference: npt.ArrayLike, current: npt.ArrayLike, *, min_current_rows: int = 100) -> DriftReport:
    """The report of a check of the one feature `x`."""
    return check(frame(x=reference), frame(x=current), min_current_rows=min_current_rows)


def codes(report: DriftReport) -> list[str]:
    """What was found, in order."""
    return [finding.code for finding in report.findings]
