"""A strategy's drift: its checks, its rule and threshold with their origins, and a preview before they are edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Form, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from admin import policy_values
from admin.pages import Pages
from admin.request_context import Context
from admin.responses import NotValid
from admin.routes.drift import checking_runs
from mlops.domain.drift.what_if import Decided, PolicyReplay, replay_checks
from mlops.domain.policies import Rule
from mlops.ledger.queries.checks import CheckLine

if TYPE_CHECKING:
    from mlops.domain.policies import DriftPolicy, Strategy

pages = Pages()

CHECKS = 90
"""That a preview decides again."""
REPORTS = 15
"""That the page names."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What the last checks would have decided."""

    then: dict[str, int]
    """Verdicts that were given, by name"""
    now: PolicyReplay[CheckLine]
    """Under the policy as it is"""
    proposed: PolicyReplay[CheckLine]
    other_rule: PolicyReplay[CheckLine]
    """The proposed values under the other of the two rules"""
    differing: tuple[tuple[Decided[CheckLine], Decided[CheckLine]], ...]
    """Checks that the proposed values decide otherwise than the policy as it is, newest first: now, then"""


class PolicyQuestion(BaseModel):
    """The values that can be edited here, in a form, and for the preview in a query; one left out stays as it is."""

    rule: Rule | None = None
    alert_share: float | None = None
    alpha: float | None = None
    persistence_checks: int | None = None
    persistence_window: int | None = None
    cooldown_days: int | Literal["auto"] | None = None
    plan: Literal["episode", "check"] | None = None
    reason: str = Field(default="", max_length=500)

    @property
    def values(self) -> dict[str, Any]:
        """By path."""
        return {
            f"drift.{name}": value for name, value in self.model_dump(exclude={"reason"}, exclude_none=True).items()
        }


@pages.get("/drift/strategies/{name}", action="drift.strategy.read")
def strategy(context: Context, name: str) -> Response:
    """Raises UnknownStrategy."""
    standing = policy_values.standing(context, name)
    checks = _last_checks(context, name)
    return context.show(
        "drift_strategy.html",
        title=f"Drift of {name}",
        name=name,
        standing=standing,
        drift=standing.strategy.drift,
        checks=checks,
        chart=_chart(checks),
        reports=checks[-REPORTS:][::-1],
        checking=checking_runs(context).get(name),
        preview=previewed(checks, standing.strategy, standing.strategy),
        proposed=standing.strategy.drift,
        fault="",
    )


@pages.get("/drift/strategies/{name}/preview", action="drift.preview.read")
def preview(context: Context, name: str, asked: Annotated[PolicyQuestion, Query()]) -> Response:
    """The last 90 checks under other values; a part of the strategy's page. Raises UnknownStrategy."""
    now = policy_values.standing(context, name).strategy
    try:
        proposed, fault = policy_values.with_values(now, asked.values), ""
    except NotValid as exc:
        proposed, fault = now, str(exc)
    found = previewed(_last_checks(context, name), now, proposed)
    return context.part("parts/drift_preview.html", preview=found, proposed=proposed.drift, fault=fault)


@pages.post("/drift/strategies/{name}/policy", action="policy.edit")
def edit(context: Context, name: str, asked: Annotated[PolicyQuestion, Form()]) -> Response:
    """Other values from the next run on; only what differs is written. Raises NotValid, InvalidPolicyEdit."""
    values = policy_values.edit(context, name, asked.values, reason=asked.reason)
    said = ", ".join(f"{path} = {value}" for path, value in values.items())
    return context.done(f"Set for {name}, from its next run on: {said}.", to=_page(name), values=values)


@pages.post("/drift/strategies/{name}/take-back", action="policy.take_back")
def take_back(
    context: Context,
    name: str,
    path: Annotated[str, Form(max_length=127)],
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """The value of the strategies file holds again from the next run on. Raises NotValid, InvalidPolicyEdit."""
    policy_values.take_back(context, name, path, reason=reason)
    return context.done(f"{path} of {name} is as the strategies file has it, from its next run on.", to=_page(name))


def previewed(checks: Sequence[CheckLine], now: Strategy, proposed: Strategy) -> Preview:
    """The checks under both. checks : oldest first"""
    before, after = _replayed(checks, now, now.drift), _replayed(checks, proposed, proposed.drift)
    pairs = zip(before.decided, after.decided, strict=True)
    verdicts = [check.verdict for check in checks if check.verdict]
    return Preview(
        then={word: verdicts.count(word) for word in ("drifted", "stable", "insufficient")},
        now=before,
        proposed=after,
        other_rule=_replayed(checks, proposed, _other_rule(proposed.drift)),
        differing=tuple(
            (one, other) for one, other in pairs if (one.verdict, one.retrains) != (other.verdict, other.retrains)
        )[::-1],
    )


def _replayed(checks: Sequence[CheckLine], strategy: Strategy, policy: DriftPolicy) -> PolicyReplay[CheckLine]:
    return replay_checks(
        checks, policy, cooldown_days=strategy.cooldown_days, horizon_dates=strategy.training.horizon_dates
    )


def _other_rule(policy: DriftPolicy) -> DriftPolicy:
    return replace(policy, rule="raw" if policy.rule == "calibrated" else "calibrated")


def _last_checks(context: Context, name: str) -> list[CheckLine]:
    return context.ledger.recent_checks([name], limit=CHECKS).get(name, [])[-CHECKS:]


def _chart(checks: Sequence[CheckLine]) -> dict[str, Any]:
    """p, its alpha then, and the share over the days; of a day its newest check."""
    by_day = {check.as_of: check for check in checks if check.as_of}
    lines = [by_day[day] for day in sorted(by_day)]
    return {
        "x": [datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() for day in sorted(by_day)],
        "range": [0, 1],
        "series": [
            {"label": "p among earlier shifts", "values": [line.p_value for line in lines]},
            {"label": "alpha then", "values": [line.alpha for line in lines], "colour": "--accent", "dash": [4, 4]},
            {"label": "share of features that moved", "values": [line.share for line in lines], "colour": "--soft"},
            {
                "label": "threshold then",
                "values": [line.alert_share for line in lines],
                "colour": "--soft",
                "dash": [4, 4],
            },
            {
                "label": "drifted",
                "values": [line.p_value if line.verdict == "drifted" else None for line in lines],
                "colour": "--bad",
                "points": True,
            },
        ],
    }


def _page(name: str) -> str:
    return f"/admin/drift/strategies/{name}"
