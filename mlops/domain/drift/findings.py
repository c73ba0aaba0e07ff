"""What is wrong with a feature's data: said, never dropped in silence; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mlops.domain.drift.description import Description
from mlops.domain.drift.missing import missing_share_test

Code = Literal[
    "all_missing",
    "missing_share_changed",
    "infinite_values",
    "constant_reference",
    "started_to_vary",
    "stopped_varying",
    "vanished_column",
    "new_column",
    "unseen_categories",
    "kind_changed",
    "duplicate_rows",
    "stale",
    "feature_jumped",
    "correlation_changed",
    "left_out",
    "dates_left_out",
    "future_dates",
    "missing_dates",
    "undated_rows",
    "not_midnight",
    "predictions_not_compared",
    "targets_not_compared",
    "equal_weights",
    "reference_unavailable",
]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact about the data that a person should know."""

    code: Code
    column: str | None
    message: str
    is_drift: bool
    """The feature counts as drifted for it, whatever its statistics say."""


def numeric_findings(name: str, reference: Description, current: Description, *, alpha: float) -> list[Finding]:
    """Findings of one numeric feature. `alpha`: level of the test of the missing share."""
    found: list[Finding] = []

    def note(code: Code, message: str, *, is_drift: bool = False) -> None:
        found.append(Finding(code=code, column=name, message=message, is_drift=is_drift))

    for window, description in (("reference", reference), ("current", current)):
        if description.n_infinite:
            note("infinite_values", f"{name}: {description.n_infinite} infinite values in the {window} window")
    found += missing_findings(name, reference.n_missing, reference.n, current.n_missing, current.n, alpha=alpha)
    if reference.n_missing == reference.n or current.n_missing == current.n:
        return found
    if reference.is_constant and not current.is_constant:
        note("started_to_vary", f"{name}: constant at {reference.minimum} in the reference, varies now", is_drift=True)
    elif reference.is_constant and reference.minimum != current.minimum:
        note("constant_reference", f"{name}: constant at {reference.minimum}, now at {current.minimum}", is_drift=True)
    elif reference.is_constant:
        note("constant_reference", f"{name}: constant at {reference.minimum} in both windows")
    elif current.is_constant and current.n - current.n_missing > 1:
        # Not drift by itself: a flag that is up in 1 % of the rows is down in a third of all windows of 100.
        note("stopped_varying", f"{name}: varied in the reference, constant at {current.minimum} now")
    return found


def is_without_information(findings: Iterable[Finding]) -> bool:
    """Whether a feature's findings say that it holds one value, or none, in both windows, as often in each: it cannot
    drift, so that counting it would only dilute the share of those that did.
    """
    codes = {found.code for found in findings if not found.is_drift}
    return bool(codes & {"all_missing", "constant_reference"}) and "missing_share_changed" not in codes


def category_findings(
    name: str, reference: Counter[str | None], current: Counter[str | None], *, unseen: tuple[str, ...], alpha: float
) -> list[Finding]:
    """Findings of one categorical feature, from rows per category: missing values, and categories that are new."""
    found = missing_findings(name, reference[None], reference.total(), current[None], current.total(), alpha=alpha)
    kinds = (reference.keys() | current.keys()) - {None}
    if len(kinds) == 1 and kinds <= reference.keys() and kinds <= current.keys():
        message = f"{name}: constant at {next(iter(kinds))} in both windows"
        found.append(Finding(code="constant_reference", column=name, message=message, is_drift=False))
    if unseen:
        shown = ", ".join(unseen[:5]) + (" …" if len(unseen) > 5 else "")
        message = f"{name}: not in the reference: {shown}"
        found.append(Finding(code="unseen_categories", column=name, message=message, is_drift=False))
    return found


def missing_findings(
    name: str, n_missing_reference: int, n_reference: int, n_missing_current: int, n_current: int, *, alpha: float
) -> list[Finding]:
    """What a feature's missing values say: none is there at all, or their share has changed."""
    empty_reference, empty_current = n_missing_reference == n_reference, n_missing_current == n_current
    if empty_reference or empty_current:
        both = empty_reference and empty_current
        where = "both windows" if both else "the reference window" if empty_reference else "the current window"
        message = f"{name}: no value at all in {where}"
        return [Finding(code="all_missing", column=name, message=message, is_drift=not both)]
    p = missing_share_test(n_missing_reference, n_reference, n_missing_current, n_current)
    if p >= alpha:
        return []
    before, now = n_missing_reference / n_reference, n_missing_current / n_current
    message = f"{name}: {before:.1%} of the rows have no value in the reference, {now:.1%} now (p {p:.2g})"
    return [Finding(code="missing_share_changed", column=name, message=message, is_drift=False)]
