"""What an experiment does on a day: wait, advance, or end; pure.

Both versions are scored on the whole universe each day, whoever is answered by which: the share of answers that the
challenger gives bounds what it can spoil, and the evidence does not depend on it. The order of the rules:

    1. a champion that changed underneath, or a guardrail that broke, ends it at once; neither is a matter of chance
    2. a mean difference of 0 that the sequence excludes ends it: `promote` where the challenger is better, else `keep`;
       while a person holds it, nothing is promoted, and it waits beyond its deadline for that person
    3. a canary advances after so many days on a step without a broken guardrail, with enough answers, and while the
       challenger's mean so far is not below the champion's; on its last step it stays until the sequence decides
    4. at its deadline it ends `undecided`, and the champion stays
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """Who is answered by the challenger."""

    SHADOW = "shadow"
    """Nobody: it answers everything, and is recorded"""
    AB = "ab"
    """A fixed share of the keys"""
    CANARY = "canary"
    """A share that grows"""


class Action(StrEnum):
    """What happens now."""

    WAIT = "wait"
    ADVANCE = "advance"
    PROMOTE = "promote"
    KEEP = "keep"
    UNDECIDED = "undecided"
    ABORT = "abort"


ENDS = frozenset({Action.PROMOTE, Action.KEEP, Action.UNDECIDED, Action.ABORT})


@dataclass(frozen=True, kw_only=True)
class Guardrail:
    """One bound on how the challenger answers, beside the champion, apart from the test."""

    name: str
    value: float
    bound: float
    n: int
    """Answers that the value is of"""
    min_n: int
    """With fewer it says nothing yet"""
    is_clear: bool = True
    """Whether a value beyond the bound is beyond what chance does, at all looks together"""

    @property
    def is_broken(self) -> bool:
        """Whether the value is clearly beyond the bound, of enough answers."""
        return self.is_known and self.is_clear and self.value > self.bound

    @property
    def is_known(self) -> bool:
        """Whether there are enough answers."""
        return self.n >= self.min_n


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of an experiment on a day."""

    n_days: int
    """Days on which both versions were scored"""
    low: float
    high: float
    """Of the confidence sequence of the mean daily difference, challenger less champion; infinite: none yet"""
    mean: float | None = None
    """Daily difference so far; None: not known, and no gate of a step"""
    guardrails: Sequence[Guardrail] = ()
    champion_changed: str | None = None
    """What became of the champion that it was started against, in words; None: it is the same"""


@dataclass(frozen=True, kw_only=True)
class Stand:
    """How far an experiment is."""

    mode: Mode
    steps: tuple[float, ...]
    """Shares of a canary, ascending; of the others their one share"""
    step: int
    days_on_step: int
    """Days that were scored on this step"""
    min_days_on_step: int
    days_left: int
    """Trading days until the deadline"""
    held: bool = False
    """Whether a person holds it: it stays on its step, and is not promoted"""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """An action and its reason in a sentence."""

    action: Action
    words: str


def decide(stand: Stand, evidence: Evidence) -> Decision:
    """Apply the rules; the same facts give the same decision."""
    if evidence.champion_changed is not None:
        return Decision(action=Action.ABORT, words=f"ended: {evidence.champion_changed}")
    broken = [one for one in evidence.guardrails if one.is_broken]
    if broken:
        return Decision(action=Action.ABORT, words=broken_words(broken))
    interval = f"{evidence.low:.3g} to {evidence.high:.3g} a day after {evidence.n_days} days"
    if evidence.low > 0:
        better = f"the challenger is better: its gain is {interval}"
        held = Decision(action=Action.WAIT, words=f"held by a person: {better}")
        return held if stand.held else Decision(action=Action.PROMOTE, words=better)
    if evidence.high < 0:
        return Decision(action=Action.KEEP, words=f"the champion is better: the challenger's gain is {interval}")
    if stand.days_left <= 0:
        return Decision(
            action=Action.UNDECIDED, words=f"undecided at its deadline, the champion stays: the gain is {interval}"
        )
    return _next_step(stand, evidence)


def broken_words(broken: Sequence[Guardrail]) -> str:
    """Say which guardrails ended an experiment."""
    which = "; ".join(f"{one.name} is {one.value:.3g}, and may be {one.bound:.3g}" for one in broken)
    return f"ended by a guardrail: {which}"


def _next_step(stand: Stand, evidence: Evidence) -> Decision:
    if stand.mode is not Mode.CANARY or stand.step + 1 >= len(stand.steps):
        return Decision(action=Action.WAIT, words=f"not decided after {evidence.n_days} days")
    here, following = stand.steps[stand.step], stand.steps[stand.step + 1]
    if stand.held:
        return Decision(action=Action.WAIT, words=f"held at {here:.0%} by a person")
    missing = stand.min_days_on_step - stand.days_on_step
    if missing > 0:
        return Decision(action=Action.WAIT, words=f"{here:.0%} for {missing} more days")
    unknown = [
        f"{one.name} ({one.value:.3g} of {one.bound:.3g})"
        if one.is_known
        else f"{one.name} ({one.n} of {one.min_n} answers)"
        for one in evidence.guardrails
        if not one.is_known or one.value > one.bound
    ]
    if unknown:
        which = ", ".join(unknown)
        return Decision(action=Action.WAIT, words=f"{here:.0%} until its guardrails are known: {which}")
    if evidence.mean is not None and evidence.mean < 0:
        so_far = f"{evidence.mean:.3g} a day after {evidence.n_days} days"
        return Decision(action=Action.WAIT, words=f"{here:.0%} while the challenger's gain so far is below 0: {so_far}")
    return Decision(action=Action.ADVANCE, words=f"from {here:.0%} to {following:.0%}: no guardrail is broken")
