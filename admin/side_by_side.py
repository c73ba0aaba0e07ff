"""Two versions beside each other as rows: metrics, parameters, importance; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops.domain.training.metric_names import COUNTS

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "max_drawdown"})
FIRST_METRICS = ("accuracy", "f1_score", "roc_auc", "precision", "recall", "log_loss", "holdout_majority_accuracy")
"""Shown first; the others by name."""
DIRECTED = LOWER_IS_BETTER | {
    "accuracy",
    "f1_score",
    "roc_auc",
    "precision",
    "recall",
    "lift_over_majority",
    "sharpe_ratio",
    "win_rate",
}
"""Metrics of which more, or less, is better whatever the strategy."""
MOST_FEATURES = 25


@dataclass(frozen=True, kw_only=True)
class NumberRow:
    """A number of both."""

    name: str
    first: float | None
    second: float | None
    better: str = ""
    """`first`, `second`, or empty where they are equal, or one lacks it, or no direction is better."""

    digits: int = 4

    @property
    def difference(self) -> float | None:
        """Of the second from the first."""
        return None if self.first is None or self.second is None else self.second - self.first


@dataclass(frozen=True, kw_only=True)
class ParamRow:
    """A parameter of both, as it was logged."""

    name: str
    first: str | None
    second: str | None


def metric_rows(first: Mapping[str, float], second: Mapping[str, float]) -> list[NumberRow]:
    """All metrics that either has."""
    names = sorted(first.keys() | second.keys(), key=_place)
    return [
        NumberRow(
            name=name,
            first=first.get(name),
            second=second.get(name),
            better=_better(name, first.get(name), second.get(name)),
            digits=0 if name in COUNTS else 4,
        )
        for name in names
    ]


def param_rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[list[ParamRow], list[ParamRow]]:
    """Those that differ, and those that are equal."""
    rows = [
        ParamRow(name=name, first=_text(first.get(name)), second=_text(second.get(name)))
        for name in sorted(first.keys() | second.keys())
    ]
    return [row for row in rows if row.first != row.second], [row for row in rows if row.first == row.second]


def importance_rows(first: Mapping[str, float], second: Mapping[str, float]) -> list[NumberRow]:
    """The features that matter most to either, by the larger of the two shares."""
    names = sorted(
        first.keys() | second.keys(), key=lambda name: (-max(first.get(name, 0.0), second.get(name, 0.0)), name)
    )
    return [NumberRow(name=name, first=first.get(name), second=second.get(name)) for name in names[:MOST_FEATURES]]


def _place(name: str) -> tuple[int, str]:
    """The usual ones first, counts last."""
    if name in FIRST_METRICS:
        return FIRST_METRICS.index(name), name
    return len(FIRST_METRICS) + (name in COUNTS), name


def _better(name: str, first: float | None, second: float | None) -> str:
    if first is None or second is None or first == second or name not in DIRECTED:
        return ""
    is_second = second < first if name in LOWER_IS_BETTER else second > first
    return "second" if is_second else "first"


def _text(value: object) -> str | None:
    return None if value is None else str(value)
