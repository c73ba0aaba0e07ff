"""Multiple testing: the deflation of one decision's probability, and the error budget of a year of decisions.

Called by `paired` and `evidence` of this package. A decision that compares a challenger with the
champion is a test, and each may replace a champion that is as good. The chance that any of them does is at most the sum
of their levels, however much they depend on each other (Boole), so the levels of any 365 days sum to no more than the
budget: each decision gets a fixed share of what the 365 days before it have left. Early tests get more than late ones,
and the budget never ends.

Source: Lan & DeMets 1983, Discrete sequential boundaries for clinical trials, Biometrika 70 (a spending function);
Foster & Stine 2008, Alpha-investing, JRSS B 70 (a share of the wealth that is left).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LOOKBACK_DAYS = 90
"""Earlier challengers of a champion count for so many days: after that the held-out dates are others."""

_LEAST, _MOST = 2_000, 20_000
YEAR_DAYS = 365
_SHARE = 1 / 16
"""Of what is left. Weekly decisions spend 96 % of the budget within a year, half of it on the first eleven."""
_GATES_PART = 0.2
"""Of a decision's level, for the champion's own gates; the paired test has the rest."""


def deflated(probability: float, looks: int) -> float:
    """Probability that none of `looks` equal challengers would have come so far by luck: P^k.

    Šidák's correction of the p-value 1 - P: 1 - (1 - p)^k. Exact for independent looks. Weekly challengers share
    most of their held-out dates, so it is on the safe side. 1 look leaves P as it is.

    >>> deflated(0.95, looks=1)
    0.95
    >>> round(deflated(0.95, looks=10), 2)
    0.6

    Source: Šidák 1967, JASA 62; for tried strategies Bailey & López de Prado 2014, The Deflated Sharpe Ratio.
    """
    return probability ** max(1, looks)


def resamples_for(looks: int, confidence: float) -> int:
    """Number of resamples that puts the deflated threshold 20 of them away from a unanimous answer; 2,000 to 20,000."""
    return min(_MOST, max(_LEAST, math.ceil(20 * max(1, looks) / (1.0 - confidence))))


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """The level of one decision."""

    level: float
    """Probability with which it may replace a champion that is as good."""
    test: float
    """The part of the paired test."""
    gates: float
    """The part of the champion's gates; 0 where none can be tested."""
    spends: float
    """Level that counts against the year: nothing for a look that was paid for already."""
    paid_by: str | None = None
    """The version whose look it is as well."""


def allowance(yearly: float, spent: float, *, has_gates: bool, paid: tuple[float, str] | None = None) -> Allowance:
    """Allow a share of what is left; for the same look as before, its level again."""
    fresh = _rounded(max(0.0, yearly - spent) * _SHARE)
    level, spends, paid_by = (fresh, fresh, None) if paid is None else (paid[0], 0.0, paid[1])
    gates = _rounded(level * _GATES_PART) if has_gates else 0.0
    return Allowance(level=level, test=_rounded(level - gates), gates=gates, spends=spends, paid_by=paid_by)


def _is_same_look(earlier: Mapping[str, Any], *, model: str | None, rows: str | None, predictions: str | None) -> bool:
    """Whether an earlier decision was about this model: the same bytes, or the same predictions of the same rows."""
    if model is not None and earlier.get("model_sha256") == model:
        return True
    return rows is not None and predictions is not None and _seen(earlier) == (rows, predictions)


def other_looks(
    earlier: Sequence[Mapping[str, Any]], *, version: str, model: str | None, rows: str | None, predictions: str | None
) -> tuple[str, ...]:
    """Versions among earlier challengers that were looks of their own, each model once; oldest first."""
    kept: list[Mapping[str, Any]] = []
    for one in earlier:
        if one["version"] == version or _is_same_look(one, model=model, rows=rows, predictions=predictions):
            continue
        known = {"model": one.get("model_sha256"), "rows": _seen(one)[0], "predictions": _seen(one)[1]}
        if not any(other["version"] == one["version"] or _is_same_look(other, **known) for other in kept):
            kept.append(one)
    return tuple(str(one["version"]) for one in kept)


def paid_already(
    earlier: Sequence[Mapping[str, Any]],
    *,
    model: str | None,
    rows: str | None,
    predictions: str | None,
    metric: str,
    margin: float,
) -> tuple[float, str] | None:
    """Level and version of an earlier decision that put the same question about the same model on the same rows."""
    for one in earlier:
        same = _is_same_look(one, model=model, rows=rows, predictions=predictions) and _seen(one)[0] == rows
        if same and one.get("level") is not None and (one.get("metric"), one.get("margin")) == (metric, margin):
            return float(one["level"]), str(one["version"])
    return None


def _seen(decision: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return decision.get("rows"), decision.get("predictions")


def _rounded(level: float) -> float:
    """Round a level: the last bits of a sum depend on its order."""
    return round(level, 9)
