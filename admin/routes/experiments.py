"""Experiments: two versions that answer side by side, what has been shown, and what a person does about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Form, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from admin.listing import shown_strategies
from admin.pages import Pages
from admin.pictures.experiment import sequence_picture
from admin.request_context import Context, RequestContext
from admin.responses import NotThere, NotValid, Refusal, RefusedForm
from mlops.domain.errors import AcisError, TemporaryError
from mlops.domain.experiments.decision import Mode
from mlops.reporting import experiments as wording
from mlops.runs import experiments
from mlops.runs.experiments import ExperimentOptions, ExperimentPreview

if TYPE_CHECKING:
    from datetime import datetime

    from mlops.domain.experiments.records import Experiment, Look

pages = Pages()

Show = Literal["", "running", "held", "promote", "keep", "undecided", "abort"]
Steering = Literal["advance", "hold", "release", "abort"]
MOST, LOOKS, AUDITED = 500, 60, 20
"""Experiments of the list, looks of the table, and lines of the audit on an experiment's page; the newest."""
MOST_KEYS = 50
"""Of which one asks at a time which version answers them."""
_BASE = "/admin/experiments"
_DONE: Mapping[Steering, str] = {
    "advance": "The canary is on its next step.",
    "hold": "It stays on its step until it is released.",
    "release": "It goes on by its rules.",
    "abort": "It has ended, and the champion answers every key.",
}


# ---- All strategies


@dataclass(frozen=True, kw_only=True)
class ExperimentRow:
    """An experiment in the list."""

    experiment: Experiment
    newest: Look | None

    @property
    def strategy(self) -> str:
        """Its strategy."""
        return self.experiment.strategy

    @property
    def state(self) -> str:
        """In a word: running, held, or how it ended."""
        if self.experiment.end is not None:
            return self.experiment.end.value
        return "held" if self.experiment.held else "running"


SORTS: Mapping[str, Callable[[ExperimentRow], Any]] = {
    "started": lambda row: row.experiment.started_at,
    "strategy": lambda row: row.strategy,
    "days": lambda row: row.newest.n_days if row.newest else None,
    "ended": lambda row: row.experiment.ended_at,
}


@pages.get("/experiments", action="experiments.read")
def every_experiment(
    context: Context, q: str = "", sort: str = "", page: int = 1, show: Show = "", tag: str = ""
) -> Response:
    """All strategies' experiments, the newest first."""
    found = context.ledger.experiments(limit=MOST)
    rows = [ExperimentRow(experiment=one, newest=None) for one in found]
    listed = shown_strategies(
        context,
        rows,
        keep=lambda row: show in ("", row.state) or (show == "running" and row.experiment.is_running),
        tag=tag,
        q=q,
        sort=sort or "-started",
        page=page,
        sorts=SORTS,
    )
    return context.show(
        "experiments.html",
        title="Experiments",
        list=listed,
        newest={row.experiment.id: _newest(context, row.experiment) for row in listed.rows},
        show=show,
        shows=["running", "held", "promote", "keep", "undecided", "abort"],
        tag=tag,
        strategies=list(context.services.strategies),
        totals={
            "running": sum(row.experiment.is_running for row in rows),
            "held": sum(row.state == "held" for row in rows),
            "promoted": sum(row.state == "promote" for row in rows),
            "ended": sum(not row.experiment.is_running for row in rows),
        },
        wording=wording,
    )


def _newest(context: RequestContext, experiment: Experiment) -> Look | None:
    looks = context.ledger.looks(experiment.id)
    return looks[-1] if looks else None


# ---- One strategy's: the form before it starts, the sequence while it runs, what became of it


class StartForm(BaseModel):
    """What is typed before an experiment starts; texts, so that a wrong one is shown again as it was typed."""

    version: str = Field("", max_length=63)
    mode: str = Field("", max_length=16)
    share: str = Field("", max_length=32)
    steps: str = Field("", max_length=200)
    keys: str = Field("", max_length=20_000)
    alpha: str = Field("", max_length=32)
    sharpe: str = Field("", max_length=32)
    deadline_days: str = Field("", max_length=32)
    reason: str = Field("", max_length=500)

    def options(self) -> ExperimentOptions:
        """Raises NotValid for a text that is no value of its field; empty ones are the strategy's policy."""
        return ExperimentOptions(
            mode=_mode(self.mode),
            share=_share(self.share, "the share") if self.share.strip() else None,
            steps=_steps(self.steps),
            keys=tuple(dict.fromkeys(_words(self.keys))),
            alpha=_number(self.alpha, "alpha"),
            sharpe=_number(self.sharpe, "the Sharpe ratio"),
            deadline_days=_whole(self.deadline_days, "the deadline"),
        )
