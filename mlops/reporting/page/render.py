"""A stored report as one self-contained HTML page; pure: a document in, a text out.

Nothing is fetched: style and script are inline, pictures are SVG, and the page's own policy forbids the rest.
It can be read without the script, which only sorts and filters the table. A report of an earlier version is
rendered with what it has. Called by the drift stage, `acis check --html`, `acis report` and the registry's
projection.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mlops.reporting.page import shapes
from mlops.reporting.page.features import feature_views, other_parts, outcomes
from mlops.reporting.page.shapes import LEVELS, Scale, history

# ---- Reports of the first version lacked parts that the page cannot do without; pure


def completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The report with `windows` and `verdict`, which follow from its documented keys where it lacks them."""
    summary = document["summary"]
    said = "drifted" if summary["drift_detected"] else "stable"
    share, alert_share = summary["drift_ratio"], summary["alert_threshold"]
    reason = f"{share:.0%} of the features moved by PSI; the alert threshold is {alert_share:.0%}"
    verdict = {
        "verdict": said,
        "reason": reason,
        "rule": "raw",
        "raw": {"verdict": said, "reason": reason, "share": share, "alert_share": alert_share},
        "calibrated": {},
        "difference": None,
    }
    as_of = document.get("as_of") or document["timestamp"][:10]
    return {
        **document,
        "verdict": document.get("verdict") or verdict,
        "windows": document.get("windows") or {"as_of": as_of},
    }


# ---- The verdict in a sentence, and what other rules and thresholds would have said; pure

_ALERT_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
_ALPHAS = (0.01, 0.05, 0.1)


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Result of one rule at one alert share."""

    verdict: str
    is_in_force: bool


@dataclass(frozen=True, kw_only=True)
class Alternatives:
    """Verdicts by alert share: of the raw rule, then of the calibrated one at each level."""

    alphas: tuple[float, ...]
    rows: tuple[tuple[float, tuple[Alternative, ...]], ...]


def sentence(document: Mapping[str, Any], strategy: str) -> str:
    """The verdict with its reason."""
    verdict = document["verdict"]
    said = {
        "drifted": f"{strategy} has drifted",
        "stable": f"{strategy} has not drifted",
        "insufficient": f"There is no verdict on {strategy}",
    }[verdict["verdict"]]
    return f"{said}: {verdict['reason'].rstrip('.')}."


def alternatives(document: Mapping[str, Any]) -> Alternatives:
    """The policy's own alert share and level are among them, and marked."""
    verdict = document["verdict"]
    rule, own_share = verdict["rule"], verdict["raw"]["alert_share"]
    own_alpha = verdict["calibrated"].get("alpha")
    shares = sorted({*_ALERT_SHARES, own_share})
    alphas = tuple(sorted({*_ALPHAS, own_alpha} - {None}))
    rows = []
    for share in shares:
        raw = _raw_at(document, share)
        cells = [Alternative(verdict=raw, is_in_force=rule == "raw" and share == own_share)]
        cells += [
            Alternative(
                verdict=_calibrated_at(document, share, alpha),
                is_in_force=rule == "calibrated" and share == own_share and alpha == own_alpha,
            )
            for alpha in alphas
        ]
        rows.append((share, tuple(cells)))
    return Alternatives(alphas=alphas, rows=tuple(rows))


def _raw_at(document: Mapping[str, Any], alert_share: float) -> str:
    """The documented rule; too few current rows stay too few."""
    raw = document["verdict"]["raw"]
    if raw["verdict"] == "insufficient":
        return "insufficient"
    return "drifted" if raw["share"] >= alert_share else "stable"


def _calibrated_at(document: Mapping[str, Any], alert_share: float, alpha: float) -> str:
    """The calibrated rule; a level finer than the history's number of placements needs more history."""
    raw, calibrated = document["verdict"]["raw"], document["verdict"]["calibrated"]
    calibration = document.get("calibration") or {}
    p = calibrated.get("p_value", calibration.get("p_value"))
    n_placements = calibration.get("n_placements", 0)
    if raw["verdict"] == "insufficient" or p is None or n_placements < math.ceil(1 / alpha) - 1:
        return "insufficient"
    # Reports that have no share of its own counted all features alike in both rules.
    return "drifted" if calibrated.get("share", raw["share"]) >= alert_share and p <= alpha else "stable"


# ---- Rank of today's shift among all earlier ones: over time, and as a histogram; pure

_LEAST_DRAWN = 2
"""Points of a line."""
#: Bars of the histogram.
_BARS = 40
_TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A label at its place along an axis."""

    at: str
    label: str


@dataclass(frozen=True, kw_only=True)
class ShiftRank:
    """Today's statistic among its placements. Places are CSS percentages along the axes."""

    over_time: str
    """Outline of the placements' line"""
    histogram: str
    days: tuple[Tick, ...]
    heights: tuple[Tick, ...]
    """Ticks of the statistic; the histogram has it along its horizontal axis"""
    today: str
    """Place of today's statistic along its axis"""
    critical: str
    statistic: float
    critical_value: float
    p: float
    alpha: float
    n_placements: int
    n_blocks: int
    n_at_or_above: int
    first: str
    last: str


def standing(document: Mapping[str, Any]) -> ShiftRank | None:
    """Rank the check's shift; None where it was not compared with earlier ones."""
    calibration = document.get("calibration") or {}
    placements = calibration.get("placements") or {}
    earlier: Sequence[float] = placements.get("statistics") or ()
    days = [date.fromisoformat(text) for text in placements.get("last_dates") or ()]
    statistic, critical = calibration.get("statistic"), calibration.get("critical")
    if not earlier or statistic is None or critical is None:
        return None
    as_of = date.fromisoformat(document["windows"]["as_of"])
    upward = Scale(low=0.0, high=1.08 * max(*earlier, statistic, critical) or 1.0)
    along = Scale(low=float(days[0].toordinal()), high=float(as_of.toordinal()))
    points = [(along.x(day.toordinal()), upward.y(value)) for day, value in zip(days, earlier, strict=True)]
    bars = [0] * _BARS
    for value in earlier:
        bars[min(_BARS - 1, int(_BARS * upward.share(value)))] += 1
    return ShiftRank(
        over_time=shapes.line(points),
        histogram=shapes.steps(bars, top=max(bars)),
        days=tuple(_day_ticks(along)),
        heights=tuple(Tick(at=upward.percent(value), label=shapes.figure(value)) for value in upward.ticks()),
        today=upward.percent(statistic),
        critical=upward.percent(critical),
        statistic=statistic,
        critical_value=critical,
        p=calibration["p_value"],
        alpha=calibration["alpha"],
        n_placements=len(earlier),
        n_blocks=calibration["n_blocks"],
        n_at_or_above=round(calibration["p_value"] * (1 + len(earlier))) - 1,
        first=shapes.day(days[0]),
        last=shapes.day(days[-1]),
    )


# ---- What newly known labels say of the champion; pure


@dataclass(frozen=True, kw_only=True)
class LabelPath:
    """The watch's statistic over the days on which labels became known, in pictures' coordinates."""

    line: str
    days: tuple[Tick, ...]
    heights: tuple[Tick, ...]
    bound: str
    """Place of the bound along the axis of heights"""
    change: str | None
    """Place of the day on which the change was found, along the days"""
    statistic: float
    bound_value: float


def label_path(watched: Mapping[str, Any]) -> LabelPath | None:
    """The statistic's way to its bound; None where labels cannot be told or too few are known to draw."""
    path = [(date.fromisoformat(day), value) for day, value in watched.get("path") or ()]
    if len(path) < _LEAST_DRAWN:
        return None
    bound, top = watched["bound"], max(value for _, value in path)
    upward = Scale(low=min(0.0, *(value for _, value in path)), high=1.08 * max(bound, top) or 1.0)
    along = Scale(low=float(path[0][0].toordinal()), high=float(path[-1][0].toordinal()))
    fired = watched["fired_on"]
    return LabelPath(
        line=shapes.line([(along.x(day.toordinal()), upward.y(value)) for day, value in path]),
        days=tuple(_day_ticks(along)),
        heights=tuple(Tick(at=upward.percent(value), label=shapes.figure(value)) for value in upward.ticks()),
        bound=upward.percent(bound),
        change=along.percent(date.fromisoformat(fired).toordinal()) if fired else None,
        statistic=watched["statistic"],
        bound_value=bound,
    )


def _day_ticks(along: Scale) -> list[Tick]:
    first, last = int(along.low), int(along.high)
    spread = max(1, (last - first) // (_TICKS - 1))
    shown = [date.fromordinal(first + spread * step) for step in range(_TICKS - 1)]
    return [Tick(at=along.percent(day.toordinal()), label=f"{day:%b %Y}") for day in shown]


# ---- Findings on the data by kind, those that count as drift first; pure


@dataclass(frozen=True, kw_only=True)
class FindingGroup:
    """Findings of one kind."""

    heading: str
    counts_as_drift: bool
    messages: tuple[str, ...]


def findings(document: Mapping[str, Any]) -> list[FindingGroup]:
    """Group a report's findings, the largest first among those that count alike."""

    def kind(finding: Mapping[str, Any]) -> tuple[bool, str]:
        return not finding.get("is_drift", False), str(finding["code"])

    groups = []
    for (counts_not, code), group in groupby(sorted(document.get("findings") or (), key=kind), key=kind):
        messages = tuple(str(finding["message"]) for finding in group)
        heading = code.replace("_", " ").capitalize()
        groups.append(FindingGroup(heading=heading, counts_as_drift=not counts_not, messages=messages))
    return sorted(groups, key=lambda group: (not group.counts_as_drift, -len(group.messages), group.heading))


#: Features with a picture in sight, and with one behind a click; all others are in the table.
PICTURES, MORE_PICTURES = 12, 36
#: Bands of PSI in reports that do not state theirs: the documented ones.
_BANDS = {"moderate": 0.1, "significant": 0.2}


def render_page(document: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]] = ()) -> str:
    """The page of one check.

    document: a report's JSON      earlier: reports of the same strategy, newest first, for the heat map; of
    these only `windows`, `psi` and `verdict` are read.
    """
    document = completed(document)
    features = feature_views(document)
    data = document.get("data") or {}
    strategy = str(data.get("strategy", "The strategy"))
    return (
        _environment()
        .get_template("report.html")
        .render(
            strategy=strategy,
            sentence=sentence(document, strategy),
            verdict=document["verdict"],
            summary=document["summary"],
            windows=document["windows"],
            document=document,
            checked_at=datetime.fromisoformat(document["timestamp"]),
            bands=data.get("psi_bands") or _BANDS,
            conventions=[data[key] for key in ("ks_convention", "psi_convention") if data.get(key)],
            features=features,
            shown=features[:PICTURES],
            more=features[PICTURES : PICTURES + MORE_PICTURES],
            alternatives=alternatives(document),
            calibration=document.get("calibration") or {},
            standing=standing(document),
            label_path=label_path(document.get("label_watch") or {}),
            history=history(document, earlier, [view.name for view in features]),
            levels=LEVELS,
            findings=findings(document),
            n_findings=len(document.get("findings") or ()),
            outcomes=outcomes(document),
            parts=other_parts(document),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=shapes.figure,
        signed=shapes.signed,
        probability=shapes.probability,
        percent=shapes.percent,
        count=shapes.count,
        day=shapes.day,
        window=shapes.window,
    )
    return environment
