"""What the form of the training page asks to start; the question before it asks the same of a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from admin.responses import NothingChosen, NotValid
from admin.trainable import Show, open_trainings, trainable
from admin.training_estimates import OFFERS, Offer
from mlops.domain.errors import ConfigurationError
from mlops.domain.records import Kind
from mlops.runs.options import RunOptions

if TYPE_CHECKING:
    from admin.request_context import Visit

MOST_AT_ONCE = 5000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the form means."""

    offer: Offer
    strategies: tuple[str, ...]
    n_trials: int
    options: RunOptions
    promotes: bool

    @property
    def kind(self) -> Kind:
        """Of the runs. Auto-retrain always decides: no such run trains alone."""
        return self.offer.kind if self.promotes or self.offer.name == "auto" else Kind.TRAIN


class TrainingForm(BaseModel):
    """Its fields; what else a browser sends is left alone."""

    what: Literal["train", "incremental", "auto", "tune"] = "train"
    strategies: list[str] = Field(default_factory=list)
    """Those that are ticked."""
    everything: bool = False
    """All that the search finds, on whatever page."""
    q: str = Field("", max_length=100)
    show: Show = ""
    tag: str = Field("", max_length=32)
    trials: int = 30
    promote: bool = False
    reason: str = Field("", max_length=500)

    def asked(self, visit: Visit) -> Asked:
        """What to start. Raises NotValid where it is nothing, UnknownStrategy."""
        found = self.considered(visit)
        if not found.strategies:
            raise NothingChosen("no strategy is ticked; tick those to train, or the box for all of them")
        return found

    def considered(self, visit: Visit) -> Asked:
        """The same, which may be nothing yet. Raises NotValid, UnknownStrategy."""
        try:
            options = RunOptions(
                incremental=self.what == "incremental", tune=self.trials if self.what == "tune" else None
            )
        except ConfigurationError as exc:
            raise NotValid(str(exc)) from exc
        names = list(dict.fromkeys(self.strategies))
        if self.everything:
            found = trainable(visit, open_trainings(visit), q=self.q, show=self.show, tag=self.tag, n_rows=MOST_AT_ONCE)
            names = [line.strategy for line in found.rows]
        for name in names:
            _ = visit.services.strategies[name]
        return Asked(
            offer=OFFERS[self.what],
            strategies=tuple(names),
            n_trials=self.trials,
            options=options,
            promotes=self.promote,
        )
