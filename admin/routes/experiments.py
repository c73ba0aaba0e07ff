"""Experiments: two versions that answer side by side, what has been shown, and what a person does about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Form, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from admin import policy_values
from admin.listing import shown_strategies
from admin.model_versions import in_registry
from admin.pages import Pages
from admin.pictures.experiment import sequence_picture
from admin.pictures.live_performance import version_number
from admin.request_context import Context, RequestContext
from admin.responses import NotThere, NotValid, Refusal, RefusedForm, TooOften, status_of
from admin.routes.model import ask_registry
from admin.wording import experiment_state
from mlops.domain.errors import AcisError, LedgerUnavailable
from mlops.reporting import experiments as wording
from mlops.runs import experiments
from mlops.runs.experiment_options import options_of

if TYPE_CHECKING:
    from mlops.domain.experiments.records import Experiment
    from mlops.ledger.auditing import AuditLine
    from mlops.runs.experiments import Preview

pages = Pages()

Show = Literal["", "running", "held", "paused", "promote", "keep", "undecided", "abort"]
Steering = Literal["advance", "hold", "release", "abort"]
MOST, LOOKS, AUDITED, EARLIER = 500, 60, 100, 20
"""Experiments of the list; looks, lines of the audit and earlier experiments on a strategy's page: the newest."""
MOST_KEYS = 50
"""Of which one asks at a time which version answers them."""
_BASE = "/admin/experiments"
_ONE_AT_A_TIME, _WAIT_S = Lock(), 10.0
_DONE: Mapping[Steering, str] = {
    "advance": "The canary is on its next step.",
    "hold": "It stays where it is, and promotes nothing, until it is released.",
    "release": "It goes on by its rules.",
    "abort": "It has ended, and the champion answers every key.",
}


# ---- All strategies


@dataclass(frozen=True, kw_only=True)
class ExperimentRow:
    """An experiment in the list."""

    experiment: Experiment

    @property
    def strategy(self) -> str:
        """Its strategy."""
        return self.experiment.strategy

    @property
    def state(self) -> str:
        """In a word: running, held, paused, or how it ended."""
        return experiment_state(self.experiment)


SORTS: Mapping[str, Callable[[ExperimentRow], Any]] = {
    "started": lambda row: row.experiment.started_at,
    "strategy": lambda row: row.strategy,
    "ended": lambda row: row.experiment.ended_at,
}
SHOWS: tuple[Show, ...] = ("running", "held", "paused", "promote", "keep", "undecided", "abort")


@pages.get("/experiments", action="experiments.read")
def every_experiment(
    context: Context, q: str = "", sort: str = "", page: int = 1, show: Show = "", tag: str = ""
) -> Response:
    """All strategies' experiments, the newest first."""
    rows = [ExperimentRow(experiment=one) for one in context.ledger.experiments(limit=MOST)]
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
        newest=context.ledger.newest_looks([row.experiment.id for row in listed.rows]),
        show=show,
        shows=SHOWS,
        tag=tag,
        strategies=list(context.services.strategies),
        totals={
            "running": sum(row.experiment.is_running for row in rows),
            "held": sum(row.state == "held" for row in rows),
            "paused": sum(row.state == "paused" for row in rows),
            "promoted": sum(row.state == "promote" for row in rows),
            "ended": sum(not row.experiment.is_running for row in rows),
        },
    )


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

    @property
    def asked(self) -> dict[str, str]:
        """By name of the option."""
        return self.model_dump(exclude={"version", "reason"})


class StartOrder(StartForm):
    """The same, with the reason."""

    reason: str = Field("", max_length=500)


@dataclass(frozen=True, kw_only=True)
class _Begin:
    """The part of a strategy's page that starts an experiment."""

    form: StartForm = field(default_factory=StartForm)
    preview: Preview | None = None
    reason: str | None = None
    """As it was typed where the start was refused"""
    fault: str = ""


@pages.get("/experiments/{strategy}", action="experiments.strategy.read")
def of_strategy(
    context: Context, strategy: str, experiment: Annotated[int | None, Query(alias="id")] = None
) -> Response:
    """The strategy's running experiment, its newest one, or the one of that id. Raises UnknownStrategy."""
    return _shown(context, strategy, experiment_id=experiment)


@pages.get("/experiments/{strategy}/preview", action="experiments.preview.read", role="operator")
def preview(context: Context, strategy: str, form: Annotated[StartForm, Query()]) -> Response:
    """How long an experiment would take, before it starts; nothing is written. Raises UnknownStrategy, TooOften.

    An operator's, since it loads two models and reads features.
    """
    context.services.strategies[strategy]
    try:
        with _comparing(context, strategy, form) as (version, options):
            found = experiments.preview(context.services, strategy, version, options)
    except LedgerUnavailable:
        raise
    except (AcisError, Refusal) as exc:
        if context.wants_json:
            raise
        return _shown(context, strategy, begin=_Begin(form=form, fault=str(exc)))
    return _shown(context, strategy, begin=_Begin(form=form, preview=found))


@contextmanager
def _comparing(
    context: RequestContext, strategy: str, form: StartForm
) -> Iterator[tuple[str, experiments.ExperimentOptions]]:
    """The version and the options, while nobody else has two models compared here: each takes memory and seconds.

    Raises NotValid, ConfigurationError, RegistryUnavailable, TooOften.
    """
    version, options = form.version.strip(), options_of(form.asked)
    if not version:
        raise NotValid("choose the version that is tried")
    ask_registry(context, context.services.strategies[strategy].model_name, version)
    if not _ONE_AT_A_TIME.acquire(timeout=_WAIT_S):
        raise TooOften("two models are compared for somebody else; ask again in a moment", again_after_s=_WAIT_S)
    try:
        yield version, options
    finally:
        _ONE_AT_A_TIME.release()


@pages.get("/experiments/{strategy}/route", action="experiments.route.read")
def route(context: Context, strategy: str, keys: Annotated[str, Query(max_length=2_000)] = "") -> Response:
    """Which version answers each of some keys, and why. Raises UnknownStrategy, NotValid, NoChampion."""
    context.services.strategies[strategy]
    asked = options_of({"keys": keys}).keys
    if len(asked) > MOST_KEYS:
        raise NotValid(f"ask about {MOST_KEYS} keys at a time; these are {len(asked)}")
    state = context.ledger.serving_state(strategy)
    return _shown(context, strategy, keys=keys, routed=[wording.routed(state, key) for key in asked])


def _shown(
    context: RequestContext,
    strategy: str,
    *,
    experiment_id: int | None = None,
    begin: _Begin | None = None,
    keys: str = "",
    routed: Sequence[wording.Routed] = (),
    status: int = 200,
) -> Response:
    """A strategy's page. Raises UnknownStrategy, NotThere."""
    settled = policy_values.standing(context, strategy).strategy
    ledger = context.ledger
    everything = ledger.experiments(strategy, limit=EARLIER)
    running = next((one for one in everything if one.is_running), None)
    shown = running or (everything[0] if everything else None)
    if experiment_id is not None:
        shown = ledger.experiment(experiment_id)
        if shown.strategy != strategy:
            raise NotThere(f"experiment {experiment_id} is of {shown.strategy}; {strategy} has no such experiment")
    looks = ledger.looks(shown.id) if shown else []
    champion = ledger.champion(strategy).version
    return context.show(
        "experiment.html",
        status=status,
        title=f"Experiments of {strategy}",
        strategy=strategy,
        policy=settled.experiments,
        predicts=settled.live.predict,
        champion=champion,
        experiment=shown,
        running=running,
        looks=looks[-LOOKS:],
        n_looks=len(looks),
        picture=sequence_picture(shown, looks) if shown else None,
        expected=wording.expected_end(shown) if shown else None,
        next_words=wording.next_words(shown, looks) if shown else "",
        steering=_steering(shown),
        audit=_audit(context, shown) if shown else [],
        others=[one for one in everything if shown is None or one.id != shown.id],
        versions=[one for one in _versions(context, strategy) if one != champion],
        begin=begin or _Begin(),
        keys=keys,
        routed=list(routed),
    )


def _audit(context: RequestContext, experiment: Experiment) -> list[AuditLine]:
    """What the ledger noted of it, the newest first."""
    lines = context.ledger.audit_lines(action="experiment", subject=experiment.strategy, limit=AUDITED)
    return [line for line in lines if line.detail.get("experiment") == experiment.id]


def _versions(context: RequestContext, strategy: str) -> list[str]:
    """Versions that were trained, decided about or registered, the newest first."""
    decided = (one.version for one in context.ledger.decisions(strategy=strategy, limit=EARLIER))
    registered = in_registry(context.registry_view.get(), context.services.strategies[strategy].model_name)
    found = {*context.ledger.version_names(strategy), *decided, *registered}
    return sorted(found, key=version_number, reverse=True)


def _steering(experiment: Experiment | None) -> list[Steering]:
    """What a person can do with it now."""
    if experiment is None or not experiment.is_running:
        return []
    can_grow = experiment.step + 1 < len(experiment.plan.steps)
    if experiment.held or experiment.paused:
        return ["release", "abort"]
    return ["advance", "hold", "abort"] if can_grow else ["hold", "abort"]


# ---- What an operator does


@pages.post("/experiments/{strategy}/start", action="experiment.start")
def start(context: Context, strategy: str, form: Annotated[StartOrder, Form()]) -> Response:
    """Start an experiment of a version beside the champion. Raises RefusedForm, UnknownStrategy, LedgerUnavailable."""
    context.services.strategies[strategy]
    context.note(subject=strategy, version=form.version.strip(), reason=form.reason.strip())
    try:
        why = _reason(form.reason, "start")
        with _comparing(context, strategy, form) as (version, options):
            begun = experiments.start(context.services, strategy, version, options, by=context.person.actor, reason=why)
    except LedgerUnavailable:
        raise
    except (AcisError, Refusal) as exc:
        if context.wants_json:
            raise
        begin = _Begin(form=form, reason=form.reason, fault=str(exc))
        shown = _shown(context, strategy, begin=begin, status=status_of(exc))
        raise RefusedForm(str(exc), shown=shown) from exc
    context.note(subject=f"{strategy}/{begun.id}", mode=begun.plan.mode.value)
    words = f"The experiment has begun: v{begun.challenger_version} beside v{begun.champion_version}."
    return context.done(words, to=_page(strategy), experiment=begun)


@pages.post("/experiments/{strategy}/{experiment_id}/{act}", action="experiment.steer")
def steer(
    context: Context,
    strategy: str,
    experiment_id: int,
    act: Steering,
    reason: Annotated[str, Form(max_length=500)] = "",
    from_step: Annotated[int | None, Form()] = None,
) -> Response:
    """Advance, hold, release or abort what runs. Raises NotThere, NotValid, ExperimentNotFound, ExperimentEnded.

    from_step : the step that was seen; on another one nothing is advanced
    """
    context.note(subject=f"{strategy}/{experiment_id}", act=act, reason=reason.strip())
    if context.ledger.experiment(experiment_id).strategy != strategy:
        raise NotThere(f"experiment {experiment_id} is not of {strategy}")
    changed = context.ledger.steer_experiment(
        experiment_id, act, by=context.person.actor, reason=_reason(reason, act), from_step=from_step
    )
    return context.done(_DONE[act], to=_page(strategy), experiment=changed)


def _reason(given: str, what: str) -> str:
    found = given.strip()
    if len(found) < 3:
        raise NotValid(f"to {what} needs a reason; it is kept with the experiment")
    return found


def _page(strategy: str) -> str:
    return f"{_BASE}/{quote(strategy)}"
