"""Leak checks of one strategy and label over several as-of dates, as one line of a table; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lab.leak_check import LeakCheck

HEADINGS = (
    "strategy",
    "dates",
    "random split",
    "AUC",
    "same model later",
    "AUC",
    "honest split",
    "AUC",
    "majority",
    "naive promotes",
    "promoted",
)


@dataclass(frozen=True, kw_only=True)
class LeakSummary:
    """Means over the as-of dates; AUC over those on which it is defined, None where it never is."""

    strategy: str
    label: str
    n_dates: int
    random_accuracy: float
    random_roc_auc: float | None
    later_accuracy: float
    """Of the random split's model on the dates that came next."""
    later_roc_auc: float | None
    honest_accuracy: float
    honest_roc_auc: float | None
    lowest_honest_roc_auc: float | None
    majority_accuracy: float
    n_naive_promotes: int
    """Dates on which the random split's accuracy reaches the documented gate."""
    n_promoted: int
    """Dates on which the strategy's policy would promote the honest split's version."""

    def row(self) -> tuple[str, ...]:
        """Return the row of a table under HEADINGS."""
        areas = (self.random_roc_auc, self.later_roc_auc, self.honest_roc_auc)
        shown = ["-" if area is None else f"{area:.3f}" for area in areas]
        return (
            self.strategy,
            str(self.n_dates),
            f"{self.random_accuracy:.3f}",
            shown[0],
            f"{self.later_accuracy:.3f}",
            shown[1],
            f"{self.honest_accuracy:.3f}",
            shown[2],
            f"{self.majority_accuracy:.3f}",
            f"{self.n_naive_promotes} of {self.n_dates}",
            f"{self.n_promoted} of {self.n_dates}",
        )


def summarise_checks(checks: Sequence[LeakCheck]) -> LeakSummary:
    """Summarise the checks of one strategy and one label; at least one check."""
    splits = [check.random_split for check in checks]
    honest = [split.honest_roc_auc for split in splits]
    return LeakSummary(
        strategy=checks[0].strategy,
        label=checks[0].label,
        n_dates=len(checks),
        random_accuracy=float(np.mean([split.accuracy for split in splits])),
        random_roc_auc=_mean(split.roc_auc for split in splits),
        later_accuracy=float(np.mean([split.later_accuracy for split in splits])),
        later_roc_auc=_mean(split.later_roc_auc for split in splits),
        honest_accuracy=float(np.mean([split.honest_accuracy for split in splits])),
        honest_roc_auc=_mean(honest),
        lowest_honest_roc_auc=min((area for area in honest if area is not None), default=None),
        majority_accuracy=float(np.mean([split.majority_accuracy for split in splits])),
        n_naive_promotes=sum(check.naive_promotes for check in checks),
        n_promoted=sum(check.decision == "promote" for check in checks),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
