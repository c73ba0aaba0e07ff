"""Who answers a key now: the champion, or the challenger of a running experiment; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops.domain.experiments.decision import Mode

if TYPE_CHECKING:
    from mlops.domain.experiments.assignment import Assignment
    from mlops.domain.experiments.records import Experiment
    from mlops.serving.model import ServedModel

_REMEMBERED = 100_000
"""Keys whose version is remembered: a lookup takes a thirtieth of a hash."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """A version that is asked, and by whom."""

    variant: str
    """`champion` or `challenger`"""
    version: str
    sha256: str
    share: float
    """Of all keys that it answers, 0 to 1; 0 for the challenger of a shadow"""
    keys: tuple[str, ...] = ()
    """That it answers whatever its share"""
    experiment: int | None = None
    """Id of the experiment that runs"""
    mode: str | None = None
    """`shadow`, `ab` or `canary`"""


@dataclass(frozen=True, kw_only=True)
class ExplainedRoute:
    """The version that answers a key, and why."""

    key: str | None
    variant: str
    """`champion` or `challenger`"""
    version: str
    sha256: str
    reason: str
    """In a sentence"""
    is_split: bool
    """Whether other keys are answered by another version now"""
    share: float
    """Of the keys that the challenger answers"""
    experiment: int | None


@dataclass(frozen=True)
class Answering:
    """The versions that answer at one instant; another instant has another one."""

    champion: ServedModel
    challenger: ServedModel | None = None
    """None: no experiment runs, or its challenger is not loaded"""
    experiment: Experiment | None = None
    """That runs against this champion"""
    split: Assignment | None = None
    """Which keys are the challenger's, who answers them once it is loaded; None: none"""
    shadow: ServedModel | None = None
    """The challenger that is asked and never returned"""
    reads_the_same: bool = False
    """Whether rows that were read for the champion are the challenger's too"""
    _known: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, champion: ServedModel, challenger: ServedModel | None, experiment: Experiment | None) -> Answering:
        """Give who answers; each of two versions accepts the columns of the other in a caller's rows."""
        if experiment is None:
            return cls(champion)
        is_shadow, assignment = experiment.plan.mode is Mode.SHADOW, experiment.assignment
        split = assignment if not is_shadow and (assignment.share > 0 or assignment.keys) else None
        if challenger is None:
            return cls(champion, None, experiment, split)
        both = frozenset({*champion.features, *challenger.features})
        challenger = replace(challenger, beside=challenger.beside | both, variant="challenger")
        return cls(
            replace(champion, beside=champion.beside | both),
            challenger,
            experiment,
            split,
            challenger if is_shadow else None,
            challenger.features == champion.features,
        )

    @property
    def share(self) -> float:
        """Of the keys that the challenger answers now."""
        return 0.0 if self.split is None or self.challenger is None else self.split.share

    def is_challengers(self, key: str | None) -> bool:
        """Tell whether a key is the challenger's; never where there is none."""
        if self.split is None or not key:
            return False
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[key] = self.split.is_challengers(key)
        return found

    def of_challenger(self, keys: Sequence[str | None] | None) -> npt.NDArray[np.bool_] | None:
        """(n,) the same of n keys; None where all are the champion's."""
        if self.split is None or keys is None:
            return None
        found = np.fromiter(map(self.is_challengers, keys), dtype=np.bool_, count=len(keys))
        return found if found.any() else None

    def explain(self, key: str | None, problem: str | None) -> ExplainedRoute:
        """Say which version answers a key and why; problem: what keeps the challenger from answering."""
        model = self.challenger if self.challenger is not None and self.is_challengers(key) else self.champion
        return ExplainedRoute(
            key=key,
            variant=model.variant,
            version=model.version,
            sha256=model.sha256,
            reason=self._reason(key, problem),
            is_split=self.split is not None and self.challenger is not None,
            share=self.share,
            experiment=self.experiment.id if self.experiment else None,
        )

    def _reason(self, key: str | None, problem: str | None) -> str:
        if self.experiment is None:
            return "no experiment runs: the champion answers every key"
        if self.challenger is None:
            return f"the challenger of experiment {self.experiment.id} is not loaded: {problem or 'it is on its way'}"
        if self.shadow is not None:
            return "the challenger is a shadow: it is asked and recorded, and the champion answers every key"
        if self.split is None or not key:
            why = "its challenger has no key now" if self.split is None else "without a key the champion answers"
            return f"experiment {self.experiment.id} runs, and {why}"
        return self.split.reason(key)

    def routes(self) -> tuple[Route, ...]:
        """Give each version that is asked, the champion first."""
        keys = () if self.split is None else tuple(sorted(self.split.keys))
        mode, experiment = (self.experiment.plan.mode.value, self.experiment.id) if self.experiment else (None, None)
        champion = Route(
            variant=self.champion.variant,
            version=self.champion.version,
            sha256=self.champion.sha256,
            share=1.0 - self.share,
            experiment=experiment,
            mode=mode,
        )
        if self.challenger is None:
            return (champion,)
        other = self.challenger
        return champion, replace(
            champion, variant=other.variant, version=other.version, sha256=other.sha256, share=self.share, keys=keys
        )
