"""Views of the features on the page, the one that moved most first; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops.reporting.page import shapes
from mlops.reporting.page.shapes import HEIGHT, Scale

# ---- Parts of a report beside its features: targets, predictions, sampling, the reference's choice; pure
#
# A part that has a target's form gets a row of the same table; any other is shown as it stands, key by key, so
# that nothing in a report is hidden because the page was written before it.

#: Shown elsewhere on the page, or so long that nobody would read them.
_SHOWN = frozenset(
    {
        "timestamp", "n_features", "n_samples_reference", "n_samples_current", "drift_threshold", "summary", "ks_test",
        "psi", "distances", "verdict", "calibration", "findings", "feature_statistics", "distributions", "windows",
        "targets", "run_id", "as_of", "data", "label_watch", "episode",
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
        if key in _SHOWN or part in (None, {}, []) or (key == "predictions" and has_rows):
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
        reference=shapes.window(windows["reference"]) if windows.get("reference") else shapes.NOTHING,
        current=shapes.window(windows["current"]) if windows.get("current") else shapes.NOTHING,
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
        return shapes.count(value)
    return shapes.figure(value) if isinstance(value, float) or value is None else str(value)


#: A quantile that moved by less looks small, however small the largest movement is; in standard deviations.
_LEAST_SHIFT = 0.5
#: A window of fewer values is drawn with half as many bins, which else hold three or four each.
_FEW = 500


@dataclass(frozen=True, kw_only=True)
class Movement:
    """Movement of each quantile."""

    outline: str
    zero: float
    """Height of the line of no movement"""
    low: str
    high: str


@dataclass(frozen=True, kw_only=True)
class NumberPicture:
    """Both windows' histograms over one axis, and the movement of the quantiles."""

    reference: str
    current: str
    low: str
    high: str
    movement: Movement | None


@dataclass(frozen=True, kw_only=True)
class CategoryBar:
    """Shares of one category."""

    name: str
    reference: float
    current: float


@dataclass(frozen=True, kw_only=True)
class FeatureView:
    """View of one feature. None: undefined, and then a finding says why."""

    name: str
    kind: str
    psi: float | None
    band: str
    ks: float | None
    p: float | None
    drifted: bool
    """Whether it drifted by PSI, or by a finding on its data"""
    drifted_ks: bool
    wasserstein: float | None
    jensen_shannon: float | None
    distance: float | None
    """Distance that enters the calibrated statistic, in spreads"""
    missing_reference: float | None
    missing_current: float | None
    reference: Mapping[str, Any]
    current: Mapping[str, Any]
    picture: NumberPicture | None
    categories: tuple[CategoryBar, ...]

    @property
    def in_words(self) -> str:
        """Describe the picture, for those who do not see it, and beside it for those who do."""
        if self.categories:
            moved = max(self.categories, key=lambda bar: abs(bar.current - bar.reference))
            return f"{moved.name}: {shapes.percent(moved.reference)} before, {shapes.percent(moved.current)} now"
        before, now = _median(self.reference), _median(self.current)
        if before is None or now is None:
            return "no value to compare in one of the windows"
        spread = self.reference.get("std")
        shift = f" ({shapes.signed((now - before) / spread)} sd)" if spread else ""
        return f"median {shapes.figure(before)} → {shapes.figure(now)}{shift}"

    @property
    def verdict(self) -> str:
        """Verdict on the feature in a word, another than a check's."""
        if self.psi is None:
            return "moved" if self.drifted else "undefined"
        if self.drifted:
            return "moved"
        return "moderate" if self.band == "moderate" else "steady"


def feature_views(document: Mapping[str, Any]) -> list[FeatureView]:
    """Make the views of a report's features by PSI; those without one that drifted for a finding come first."""
    views = [_view(document, name) for name in document.get("psi", {})]
    return sorted(
        views, key=lambda view: (-(view.psi if view.psi is not None else 1e9 if view.drifted else -1.0), view.name)
    )


def _view(document: Mapping[str, Any], name: str) -> FeatureView:
    psi = document["psi"][name]
    ks = document.get("ks_test", {}).get(name, {})
    distances = document.get("distances", {}).get(name) or {}
    statistics = document.get("feature_statistics", {}).get(name) or {}
    reference, current = statistics.get("reference") or {}, statistics.get("current") or {}
    shape = (document.get("distributions") or {}).get("features", {}).get(name)
    is_category = bool(shape and "categories" in shape) or (not reference and not current)
    bars = _bars(shape) if shape and "categories" in shape else ()
    return FeatureView(
        name=name,
        kind="category" if is_category else "number",
        psi=psi.get("psi_value"),
        band=psi.get("band", ""),
        ks=ks.get("statistic"),
        p=ks.get("p_value"),
        drifted=bool(psi.get("drifted")),
        drifted_ks=bool(ks.get("drifted")),
        wasserstein=distances.get("wasserstein"),
        jensen_shannon=distances.get("jensen_shannon"),
        distance=((document.get("calibration") or {}).get("distances") or {}).get(name),
        missing_reference=_missing(reference, shape, 0),
        missing_current=_missing(current, shape, 1),
        reference=reference,
        current=current,
        picture=_picture(shape, (document.get("distributions") or {}).get("quantiles", ())) if not bars else None,
        categories=bars,
    )


def _median(statistics: Mapping[str, Any]) -> float | None:
    value: float | None = (statistics.get("quantiles") or {}).get("0.5")
    return value


def _missing(statistics: Mapping[str, Any], shape: Mapping[str, Any] | None, window: int) -> float | None:
    if statistics.get("n"):
        return float(statistics["n_missing"] / statistics["n"])
    if shape and "categories" in shape:
        total = _totals(shape)[window]
        return shape["missing"][window] / total if total else None
    return None


def _picture(shape: Mapping[str, Any] | None, levels: Sequence[float]) -> NumberPicture | None:
    if not shape or "low" not in shape:
        return None
    merged = 2 if min(sum(shape["reference"]), sum(shape["current"])) < _FEW else 1
    before, now = _shares(shape["reference"], merged), _shares(shape["current"], merged)
    top = max([*before, *now], default=0.0)
    return NumberPicture(
        reference=shapes.steps(before, top=top),
        current=shapes.steps(now, top=top),
        low=shapes.figure(shape["low"]),
        high=shapes.figure(shape["high"]),
        movement=_movement(shape.get("quantile_shift"), levels),
    )


def _shares(counts: Sequence[int], merged: int) -> list[float]:
    """Shares of the bins between the two tails, so many taken together, among all values."""
    total = sum(counts) or 1
    inside = counts[1:-1]
    return [sum(inside[start : start + merged]) / total for start in range(0, len(inside), merged)]


def _movement(moved: Sequence[float] | None, levels: Sequence[float]) -> Movement | None:
    if not moved or len(moved) != len(levels):
        return None
    scale = Scale(low=min(*moved, -_LEAST_SHIFT), high=max(*moved, _LEAST_SHIFT))
    if min(moved) >= 0:
        scale = Scale(low=0.0, high=scale.high)
    elif max(moved) <= 0:
        scale = Scale(low=scale.low, high=0.0)
    across = Scale(low=levels[0], high=levels[-1])
    points = [(across.x(level), scale.y(value)) for level, value in zip(levels, moved, strict=True)]
    return Movement(
        outline=shapes.area(points, base=scale.y(0.0)),
        zero=min(scale.y(0.0), HEIGHT - 1),
        low=shapes.signed(scale.low),
        high=shapes.signed(scale.high),
    )


def _totals(shape: Mapping[str, Any]) -> tuple[int, int]:
    parts = [*((before, now) for _, before, now in shape["categories"]), shape["other"], shape["missing"]]
    return sum(part[0] for part in parts), sum(part[1] for part in parts)


def _bars(shape: Mapping[str, Any]) -> tuple[CategoryBar, ...]:
    n_reference, n_current = (max(1, total) for total in _totals(shape))
    rows = [*shape["categories"]]
    rows += [["(other)", *shape["other"]]] if any(shape["other"]) else []
    rows += [["(missing)", *shape["missing"]]] if any(shape["missing"]) else []
    return tuple(
        CategoryBar(name=name, reference=before / n_reference, current=now / n_current) for name, before, now in rows
    )
