"""The verdict in a sentence, and what other rules and thresholds would have said; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ALERT_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
ALPHAS = (0.01, 0.05, 0.1)


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
    shares = sorted({*ALERT_SHARES, own_share})
    alphas = tuple(sorted({*ALPHAS, own_alpha} - {None}))
    rows = []
    for share in shares:
        raw = raw_at(document, share)
        cells = [Alternative(verdict=raw, is_in_force=rule == "raw" and share == own_share)]
        cells += [
            Alternative(
                verdict=calibrated_at(document, share, alpha),
                is_in_force=rule == "calibrated" and share == own_share and alpha == own_alpha,
            )
            for alpha in alphas
        ]
        rows.append((share, tuple(cells)))
    return Alternatives(alphas=alphas, rows=tuple(rows))


def raw_at(document: Mapping[str, Any], alert_share: float) -> str:
    """The documented rule; too few current rows stay too few."""
    raw = document["verdict"]["raw"]
    if raw["verdict"] == "insufficient":
        return "insufficient"
    return "drifted" if raw["share"] >= alert_share else "stable"


def calibrated_at(document: Mapping[str, Any], alert_share: float, alpha: float) -> str:
    """The calibrated rule; a level finer than the history's number of placements needs more history."""
    raw, calibrated = document["verdict"]["raw"], document["verdict"]["calibrated"]
    calibration = document.get("calibration") or {}
    p = calibration.get("p_value")
    if raw["verdict"] == "insufficient" or p is None or calibration["n_placements"] < math.ceil(1 / alpha) - 1:
        return "insufficient"
    # Reports that have no share of its own counted all features alike in both rules.
    return "drifted" if calibrated.get("share", raw["share"]) >= alert_share and p <= alpha else "stable"
