"""Parts of a report beside its features: targets, predictions, sampling, the reference's choice; pure.

A part that has a target's form gets a row of the same table; any other is shown as it stands, key by key, so
that nothing in a report is hidden because the page was written before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops.reporting.page import words

#: Shown elsewhere on the page, or so long that nobody would read them.
SHOWN = frozenset(
    {
        "timestamp", "n_features", "n_samples_reference", "n_samples_current", "drift_threshold", "summary", "ks_test",
        "psi", "distances", "verdict", "calibration", "findings", "feature_statistics", "distributions", "windows",
        "targets", "run_id", "as_of", "data",
    }
)  # fmt: skip
#: Entries of one part, and how deep they are followed.
_MOST, _DEPTH = 60, 4


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Drift of something that is predicted, or of the predictions."""

    name: str
    what: str
    n_reference: int | None
    n_current: int | None
    reference: str
    current: str
    psi: float | None
    ks: float | None
    p: float | None
    wasserstein: float | None
    jensen_shannon: float | None
    drifted: bool
    positive_reference: float | None
    """Share of rows that the model calls positive; of predictions alone"""
    positive_current: float | None


def outcomes(document: Mapping[str, Any]) -> list[Outcome]:
    """Targets and predictions."""
    version = (document.get("predictions") or {}).get("version")
    model = f"prediction of champion v{version}" if version is not None else "prediction"
    found = [_outcome(name, "target", part) for name, part in (document.get("targets") or {}).items()]
    predictions = document.get("predictions") or {}
    if _is_outcome(predictions):
        return [*found, _outcome("predictions", model, predictions)]
    return [*found, *(_outcome(name, model, part) for name, part in predictions.items() if _is_outcome(part))]


def other_parts(document: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every other part, flattened: heading, then key and value in words."""
    parts = []
    has_rows = any(outcome.what.startswith("prediction") for outcome in outcomes(document))
    # Of `data` only its parts: the rest is in the page's head and foot.
    nested = {key: part for key, part in (document.get("data") or {}).items() if isinstance(part, Mapping | list)}
    nested.pop("psi_bands", None)
    for key, part in {**nested, **document}.items():
        if key in SHOWN or part in (None, {}, []) or (key == "predictions" and has_rows):
            continue
        entries = list(_flat(part, ()))[:_MOST]
        if entries:
            parts.append((key.replace("_", " "), entries))
    return parts


def _is_outcome(part: Any) -> bool:  # noqa: ANN401 -- any JSON
    return isinstance(part, Mapping) and "psi" in part and not isinstance(part["psi"], Mapping)


def _outcome(name: str, what: str, part: Mapping[str, Any]) -> Outcome:
    windows = part.get("windows") or {}
    positive = part.get("positive_share") or {}
    return Outcome(
        name=name,
        what=what,
        n_reference=part.get("n_reference"),
        n_current=part.get("n_current"),
        reference=words.window(windows["reference"]) if windows.get("reference") else words.NOTHING,
        current=words.window(windows["current"]) if windows.get("current") else words.NOTHING,
        psi=part.get("psi"),
        ks=part.get("ks_statistic"),
        p=part.get("ks_p"),
        wasserstein=part.get("wasserstein"),
        jensen_shannon=part.get("jensen_shannon"),
        drifted=bool(part.get("drifted_psi")),
        positive_reference=positive.get("reference"),
        positive_current=positive.get("current"),
    )


def _flat(part: Any, path: tuple[str, ...]) -> list[tuple[str, str]]:  # noqa: ANN401 -- any JSON
    if isinstance(part, Mapping) and len(path) < _DEPTH:
        return [entry for key, value in part.items() for entry in _flat(value, (*path, str(key).replace("_", " ")))]
    if isinstance(part, list | tuple):
        shown = ", ".join(_value(item) for item in part[:_MOST])
        return [(" · ".join(path), shown + (" …" if len(part) > _MOST else ""))]
    return [(" · ".join(path), _value(part))]


def _value(value: Any) -> str:  # noqa: ANN401 -- any JSON
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return words.count(value)
    return words.figure(value) if isinstance(value, float) or value is None else str(value)
