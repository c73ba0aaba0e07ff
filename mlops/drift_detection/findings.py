"""What is wrong with a feature's data: said, never dropped in silence; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlops.drift_detection.description import Description
from mlops.drift_detection.missing import missing_share_test

Code = Literal[
    "all_missing",
    "missing_share_changed",
    "infinite_values",
    "constant_reference",
    "constant_current",
    "started_to_vary",
    "stopped_varying",
    "vanished_column",
    "new_column",
    "unseen_categories",
    "duplicate_rows",
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
    empty_reference, empty_current = reference.n_missing == reference.n, current.n_missing == current.n
    if empty_reference or empty_current:
        both = empty_reference and empty_current
        where = "both windows" if both else "the reference window" if empty_reference else "the current window"
        note("all_missing", f"{name}: no value at all in {where}", is_drift=not both)
        return found
    p = missing_share_test(reference.n_missing, reference.n, current.n_missing, current.n)
    if p < alpha:
        before, now = reference.n_missing / reference.n, current.n_missing / current.n
        note(
            "missing_share_changed",
            f"{name}: {before:.1%} missing in the reference, {now:.1%} now (p {p:.2g})",
        )
    if reference.is_constant and not current.is_constant:
        note("started_to_vary", f"{name}: constant at {reference.minimum} in the reference, varies now", is_drift=True)
    elif reference.is_constant and reference.minimum != current.minimum:
        note("constant_reference", f"{name}: constant at {reference.minimum}, now at {current.minimum}", is_drift=True)
    elif reference.is_constant:
        note("constant_reference", f"{name}: constant at {reference.minimum} in both windows")
    elif current.is_constant and current.n > 1:
        note("stopped_varying", f"{name}: varied in the reference, constant at {current.minimum} now", is_drift=True)
    return found
