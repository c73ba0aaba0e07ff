"""An experiment in words and dates, for the command line and the admin page; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np

from mlops.domain.errors import NoChampion
from mlops.domain.experiments.assignment import key_of, position
from mlops.domain.experiments.decision import Action, Guardrail, Mode
from mlops.domain.experiments.records import Experiment, Look, Measure, ServingState

OUTCOMES: Mapping[Action, str] = {
    Action.PROMOTE: "ended: the challenger was shown better",
    Action.KEEP: "ended: the champion was shown better",
    Action.UNDECIDED: "ended undecided, the champion stays",
    Action.ABORT: "ended early",
}
UNITS: Mapping[Measure, tuple[float, str]] = {
    Measure.MARK: (1e4, "bp"),
    Measure.INCREMENT: (1e3, "mnat"),
}
"""What a measure is multiplied by to be read, and the unit that it then has: basis points of return a day,
thousandths of a nat a day."""


def in_unit(value: float | None, measure: Measure) -> str:
    """Give a daily mean as `+3.2 bp`; empty where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    factor, unit = UNITS[measure]
    return f"{value * factor:+.3g} {unit}"


def interval(look: Look, measure: Measure) -> str:
    """Give a look's confidence interval as `-1.2 bp to +4.5 bp`."""
    if look.low is not None and look.high is not None and look.low > look.high:
        return "empty: the gain changed"
    low, high = in_unit(look.low, measure), in_unit(look.high, measure)
    return f"{low} to {high}" if low and high else "none yet"


def percent(share: float) -> str:
    """Give a share as `5 %`."""
    return f"{share * 100:g} %"


def standing(experiment: Experiment) -> str:
    """Say how far an experiment is: `canary at 5 %, step 2 of 4, held`."""
    if experiment.end is not None:
        return OUTCOMES[experiment.end]
    plan = experiment.plan
    if plan.mode is Mode.SHADOW:
        found = "shadow: the champion answers every key"
    elif plan.mode is Mode.AB:
        found = f"A/B: the challenger answers {percent(experiment.share)} of the keys"
    else:
        found = f"canary at {percent(experiment.share)}, step {experiment.step + 1} of {len(plan.steps)}"
    if experiment.paused:
        return f"{found}, paused since the ledger was set back"
    return f"{found}, held" if experiment.held else found


@dataclass(frozen=True, kw_only=True)
class ExpectedEnd:
    """Days about which an experiment ends. Trading days are counted as weekdays, so that holidays make it later."""

    low: date | None
    median: date | None
    high: date | None
    """By which 5, 50 and 95 % of experiments with the planned difference have decided; None: not within two years"""
    deadline: date
    """It ends undecided here"""

    @property
    def words(self) -> str:
        """All of it in a sentence."""
        until = f"at its deadline, about {self.deadline}"
        if self.median is None or self.median >= self.deadline:
            return f"probably undecided {until}"
        late = f"{self.high}" if self.high is not None and self.high < self.deadline else "its deadline"
        return f"about {self.median} ({self.low} to {late}) for the planned difference, else undecided {until}"


def expected_end(experiment: Experiment) -> ExpectedEnd:
    """Give the days about which an experiment ends, by what was said before it started."""
    said = experiment.plan.expected or {}

    def after(n_days: float) -> date:
        return date.fromisoformat(str(np.busday_offset(experiment.started_as_of, math.ceil(n_days), roll="backward")))

    low, median, high = (
        after(said[name]) if said.get(name) is not None else None for name in ("low", "median", "high")
    )
    return ExpectedEnd(low=low, median=median, high=high, deadline=after(experiment.plan.deadline_days))


def next_words(experiment: Experiment, looks: Sequence[Look]) -> str:
    """Say what happens next, in sentences. looks : oldest first"""
    if experiment.end is not None:
        return f"It has ended: {experiment.end_words or OUTCOMES[experiment.end]}."
    if not looks:
        return (
            f"No day has been looked at. The first look follows the scoring of the first date after "
            f"{experiment.started_as_of} that both versions predicted and whose next return is known."
        )
    plan = experiment.plan
    following = plan.steps[experiment.step + 1 :]
    said = f"The newest look: {looks[-1].words}."
    if experiment.paused:
        return f"{said} The ledger was set back since it started: its challenger answers nobody until it is released."
    if experiment.held:
        return f"{said} A person holds it: looks go on, and nothing is promoted or advanced until it is released."
    if plan.mode is Mode.CANARY and following:
        grows = f"the next step is {percent(following[0])}"
        needed = f"{plan.min_days_on_step} scored days on a step, guardrails that hold and a mean gain not below 0"
        return f"{said} After {needed}, {grows}."
    return f"{said} It goes on until the interval leaves 0, or to its deadline."


def guardrail_state(one: Guardrail) -> str:
    """Say whether a guardrail holds: `holds`, `broken`, `too few answers`; `not clear yet`: it may be chance."""
    if not one.is_known:
        return "too few answers"
    if one.value > one.bound:
        return "broken" if one.is_broken else "not clear yet"
    return "holds"


def bar(look: Look, *, reach: float, width: int = 25) -> str:
    """Draw a look's interval on a line from -reach to reach: `·····[==+=|==]···`, `|` at 0 and `+` at the mean."""
    cells = ["·"] * width

    def place(value: float) -> int:
        return round((min(max(value, -reach), reach) + reach) / (2 * reach) * (width - 1))

    if look.low is not None and look.high is not None and look.low <= look.high:
        low, high = place(look.low), place(look.high)
        cells[low : high + 1] = "[" + "=" * (high - low - 1) + "]" if high > low else "="
    cells[place(0.0)] = "|"
    if look.mean is not None:
        cells[place(look.mean)] = "+"
    return "".join(cells)


def reach_of(looks: Sequence[Look]) -> float:
    """Give the end of the line on which `bar` draws looks: what the newest interval, and all means, need."""
    newest = [end for end in (looks[-1].low, looks[-1].high) if end is not None] if looks else []
    found = [abs(value) for value in (*newest, *(look.mean for look in looks if look.mean is not None))]
    return max(found, default=0.0) * 1.1 or 1.0


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Which version answers a key, and why."""

    key: str
    variant: Literal["champion", "challenger"]
    version: str
    position: float | None
    """Of the key's hash, 0 to 1; None: no experiment runs"""
    reason: str


def routed(state: ServingState, key: str) -> Routed:
    """Say which version answers a key now. Raises NoChampion."""
    champion, experiment, key = state.champion, state.experiment, key_of(key)
    if champion.version is None:
        raise NoChampion(f"{champion.strategy} has no champion, so no version answers {key}; promote one")
    if experiment is None:
        reason = f"no experiment of {champion.strategy} runs: the champion answers every key"
        return Routed(key=key, variant="champion", version=champion.version, position=None, reason=reason)
    assignment = experiment.assignment
    is_challengers = assignment.is_challengers(key)
    return Routed(
        key=key,
        variant="challenger" if is_challengers else "champion",
        version=experiment.challenger_version if is_challengers else champion.version,
        position=position(key, salt=experiment.plan.salt),
        reason=assignment.reason(key),
    )
