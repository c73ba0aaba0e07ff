"""Starts an experiment of a challenger beside the champion, and says beforehand how long it will take.

Called by `acis experiment`, the page and HTTP. What a day's look does with it is `mlops.stages.live.look`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Protocol, Self

import numpy as np
import numpy.typing as npt
import structlog
from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from mlops.domain.errors import (
    ConfigurationError,
    ExperimentRunning,
    InsufficientData,
    InvalidTransition,
    NoChampion,
    UnrecordedModelFile,
)
from mlops.domain.experiments.decision import Mode
from mlops.domain.experiments.duration import Duration, expected_duration, planned_days
from mlops.domain.experiments.records import Experiment, ExperimentPlan, Measure, NewExperiment
from mlops.domain.experiments.sequence import alpha_of_repeat, mixture_variance
from mlops.domain.records import LIVE
from mlops.domain.training.trading import TRADING_DAYS
from mlops.domain.windows import newest_complete_date
from mlops.registry.adoption import as_recorded, identity_by_bytes, trained_as_of
from mlops.runs.services import RunServices

if TYPE_CHECKING:
    from mlops.domain.experiments.policy import ExperimentPolicy
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource, Ledger, ModelVersion
    from mlops.domain.promotion.records import Champion, ModelIdentity

log = structlog.get_logger(__name__)

_LEAST_REASON = 3
"""Characters"""
_LEAST_DIFFERENCES = 5
"""Days by which the spread of a measure is told."""
_EARLIER = 200
"""Newest experiments of a strategy, among which those of the same two versions are counted."""
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Step = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class ExperimentOptions(BaseModel):
    """What a caller may ask for with an experiment; what is left out is as the strategy's policy has it.

    Raises ConfigurationError for a value that cannot be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = Mode.SHADOW
    share: Annotated[_Share | None, Field(description="Share of the keys that the challenger answers; of A/B.")] = None
    steps: Annotated[tuple[_Step, ...] | None, Field(description="Shares of a canary, ascending.")] = None
    keys: Annotated[tuple[str, ...], Field(description="Keys that the challenger answers whatever its share.")] = ()
    alpha: Annotated[float | None, Field(gt=0, le=0.5, description="Probability of a false decision.")] = None
    sharpe: Annotated[
        float | None, Field(gt=0, le=100, description="Annual Sharpe ratio of the difference that is looked for.")
    ] = None
    deadline_days: Annotated[int | None, Field(ge=5, le=2_520, description="Trading days until it ends.")] = None
    min_days_on_step: Annotated[int | None, Field(ge=1, le=252, description="Scored days on each step.")] = None
    measure: Annotated[Measure | None, Field(description="Daily number; left out, the label decides.")] = None

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, given: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return validate(given)
        except ValidationError as exc:
            raise ConfigurationError(_refusal(exc)) from exc


def _refusal(exc: ValidationError) -> str:
    error = exc.errors(include_url=False)[0]
    name, asked = str(error["loc"][0]) if error["loc"] else "", error["input"]
    if name not in ExperimentOptions.model_fields:
        return f"an experiment has no option {name!r}; its options are {', '.join(ExperimentOptions.model_fields)}"
    return f"an experiment's {name} cannot be {asked!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


@dataclass(frozen=True, kw_only=True)
class DailyDifferences:
    """What two versions' predictions of the same dates differed by, day by day: the shape that a plan is made of."""

    measure: Measure
    dates: tuple[date, ...]
    values: npt.NDArray[np.float64]
    """(n,) challenger less champion, in order"""
    origin: str
    """Where they are from, in words"""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What an experiment would be, before it starts."""

    strategy: str
    champion_version: str
    challenger_version: str
    plan: ExperimentPlan
    duration: Duration
    n_differences: int
    """Days by which the duration was told"""
    origin: str
    """Which days, in words"""
    words: tuple[str, ...]
    """Sentences for a person: how long, why this measure and by how much it shortens the wait, what is safe"""


class ExperimentServices(RunServices, Protocol):
    """What starting an experiment works with: both versions as models, on dates that neither knows."""

    @property
    def source(self) -> FeatureSource:
        """The feature view."""
        ...

    def feature_day(self) -> date:
        """The day that it is in the features' time zone."""
        ...

    def daily_differences(
        self, strategy: Strategy, champion: Champion, challenger: ModelVersion, identity: ModelIdentity
    ) -> Mapping[Measure, DailyDifferences]:
        """Differences of two versions by each measure that the label and the panel allow, the one to take first first.

        identity : of the challenger
        Raises DataError, RegistryError, RegistryUnavailable.
        """
        ...


def preview(
    services: ExperimentServices, strategy: str, challenger_version: str, options: ExperimentOptions | None = None
) -> Preview:
    """Say what an experiment would be and how long it would take; nothing is written.

    Raises as `start` does, except that a running experiment is no hindrance.
    """
    return _prepared(services, strategy, challenger_version, options or ExperimentOptions())[0]


def start(
    services: ExperimentServices,
    strategy: str,
    challenger_version: str,
    options: ExperimentOptions | None = None,
    *,
    by: str,
    reason: str,
) -> Experiment:
    """Start an experiment of a version beside the champion; its plan is written once.

    Raises UnknownStrategy, ConfigurationError for options that cannot be, NoChampion, VersionNotFound,
    UnusableModelFile, InvalidTransition (it is the champion, missed a gate, or was trained after the newest date),
    DataError where the label has no daily number, ExperimentRunning, ChampionMoved, and what registry and features
    raise.
    """
    if len(reason.strip()) < _LEAST_REASON:
        raise ConfigurationError(
            f"an experiment is kept with its reason, of {_LEAST_REASON} characters at least (found {reason.strip()!r})"
        )
    running = services.ledger.running_experiment(strategy)
    champion = services.ledger.champion(strategy)
    if running is not None and running.champion_seq == champion.seq:
        raise ExperimentRunning(
            f"version {challenger_version} was to be tried beside champion {champion.version} of {strategy!r}, and "
            f"experiment {running.id} with version {running.challenger_version} runs since {running.started_as_of}; "
            "let it end, or abort it"
        )
    found, new = _prepared(services, strategy, challenger_version, options or ExperimentOptions())
    made = services.ledger.start_experiment(replace(new, started_by=by, reason=reason.strip()))
    log.info(
        "experiment.started",
        strategy=strategy,
        experiment=made.id,
        challenger=made.challenger_version,
        mode=made.plan.mode.value,
        expected=found.duration.words,
    )
    return made


def _prepared(
    services: ExperimentServices, name: str, challenger_version: str, options: ExperimentOptions
) -> tuple[Preview, NewExperiment]:
    ledger, strategy = services.ledger, services.policies.settled(name).strategy
    champion = ledger.champion(name)
    if champion.version is None:
        raise NoChampion(
            f"version {challenger_version} was to be tried beside the champion of {name!r}, which has none; "
            f"`acis promote {name} --version {challenger_version}` judges it"
        )
    if champion.identity.sha256 is None:
        raise UnrecordedModelFile(
            f"champion {champion.version} of {name!r} has no digest in the ledger; say what its file is with "
            f"`acis registry record {name} {champion.version} --reason …`"
        )
    version = as_recorded(ledger, services.registry.version(strategy.model_name, challenger_version))
    identity = identity_by_bytes(ledger, services.registry, version)
    if champion.is_version(version.version, identity) or identity.sha256 == champion.identity.sha256:
        raise InvalidTransition(
            f"version {version.version} was to be tried beside champion {champion.version} of {name!r}, and is the "
            "same model; name another version"
        )
    for why in why_not_promotable(ledger, strategy, version.version, identity):
        raise InvalidTransition(why)
    newest = newest_complete_date(strategy, services.source, today=services.feature_day())
    trained = trained_as_of(version)
    if trained is not None and trained > newest:
        raise InvalidTransition(
            f"version {version.version} of {name!r} was trained as of {trained}, and the newest complete date is "
            f"{newest}: it may know what an experiment would ask it; start it when {trained} is there"
        )
    of_measure = services.daily_differences(strategy, champion, version, identity)
    chosen = _chosen(strategy, of_measure, options.measure)
    two = {champion.identity.sha256, identity.sha256}  # whichever is the champion
    earlier = [
        one for one in ledger.experiments(name, limit=_EARLIER) if {one.champion.sha256, one.challenger.sha256} == two
    ]
    # One that ended before a day was scored could decide nothing falsely.
    looks = ledger.newest_looks([one.id for one in earlier])
    n_earlier = sum(one.n_days > 0 for one in looks.values())
    salt = f"{name}/{champion.seq}/{version.version}/{newest}"
    plan, duration = _plan(strategy, chosen, options, salt=salt, n_earlier=n_earlier)
    found = Preview(
        strategy=name,
        champion_version=champion.version,
        challenger_version=version.version,
        plan=plan,
        duration=duration,
        n_differences=len(chosen.values),
        origin=chosen.origin,
        words=(*_words(duration, chosen, of_measure, plan, n_earlier), *_without_predictions(strategy)),
    )
    return found, NewExperiment(
        namespace=LIVE,
        strategy=name,
        plan=plan,
        champion_version=champion.version,
        champion_seq=champion.seq,
        champion=champion.identity,
        challenger_version=version.version,
        challenger=identity,
        started_as_of=newest,
        started_by="",
        reason="",
    )


def why_not_promotable(
    ledger: Ledger, strategy: Strategy, version: str, identity: ModelIdentity, *, namespace: str = LIVE
) -> tuple[str, ...]:
    """Reasons why a version may not become the champion by an experiment; empty where it may.

    It has to have been judged, to have missed no gate, and not to have been refused for another reason.
    """
    name = strategy.name
    if ledger.is_quarantined("version", f"{strategy.model_name}/{version}"):
        return (f"version {version} of {name!r} is in quarantine, see `acis quarantine`",)
    judged = ledger.newest_decision(name, version, identity, judged=True, namespace=namespace)
    if judged is None:
        return (f"version {version} of {name!r} was never judged; `acis promote {name} --version {version}` does",)
    missed = [str(gate["words"]) for gate in judged.evidence.get("gates") or () if not gate["passed"]]
    if missed:
        return (f"version {version} of {name!r} missed a gate when it was judged: {'; '.join(missed)}; train another",)
    if judged.decision == "refuse":
        why = "; ".join(judged.reasons)
        return (
            f"version {version} of {name!r} was refused: {why}; `acis promote {name} --version {version}` asks again",
        )
    return ()


# ---- The plan


def _chosen(
    strategy: Strategy, of_measure: Mapping[Measure, DailyDifferences], asked: Measure | None
) -> DailyDifferences:
    """The differences by the measure that was asked for, else by the first. Raises InsufficientData."""
    label = strategy.training.label
    if not of_measure:
        raise InsufficientData(
            f"the label {label!r} has no number that is a single day's: {strategy.live.return_column!r} is not there, "
            "or the label's column is no return and no volatility; compare the two with the held-out test "
            "(`acis compare`)"
        )
    if asked is not None and asked not in of_measure:
        raise InsufficientData(
            f"the two were to be compared by {asked}, and the label {label!r} with this panel allows "
            f"{', '.join(of_measure)}"
        )
    found = of_measure[asked] if asked is not None else next(iter(of_measure.values()))
    known = f"how the two differ from day to day is known of {len(found.values)} days ({found.origin}), and"
    if len(found.values) < _LEAST_DIFFERENCES:
        raise InsufficientData(
            f"{known} {_LEAST_DIFFERENCES} are needed to say how long it takes; compare them with `acis compare`"
        )
    if float(np.std(found.values)) <= 0.0:
        raise InsufficientData(
            f"{known} they are all alike: nothing would ever be decided; compare them with `acis compare`"
        )
    return found


def _plan(
    strategy: Strategy, differences: DailyDifferences, options: ExperimentOptions, *, salt: str, n_earlier: int
) -> tuple[ExperimentPlan, Duration]:
    policy = strategy.experiments
    alpha = alpha_of_repeat(policy.alpha if options.alpha is None else options.alpha, n_earlier)
    sharpe = policy.sharpe if options.sharpe is None else options.sharpe
    duration = expected_duration(differences.values, sharpe=sharpe, alpha=alpha)
    spread = float(np.std(differences.values))
    plan = ExperimentPlan(
        mode=options.mode,
        steps=_steps(policy, options),
        measure=differences.measure,
        alpha=alpha,
        sharpe=sharpe,
        r=mixture_variance(spread=spread, days=planned_days(sharpe, alpha=alpha), alpha=alpha),
        deadline_days=options.deadline_days or policy.deadline_days,
        min_days_on_step=options.min_days_on_step or policy.min_days_on_step,
        horizon_dates=strategy.training.horizon_dates,
        guardrails=strategy.guardrails,
        salt=salt,
        keys=options.keys,
        expected=asdict(duration),
        label=strategy.training.label,
        return_column=strategy.live.return_column,
    )
    return plan, duration


def _steps(policy: ExperimentPolicy, options: ExperimentOptions) -> tuple[float, ...]:
    """Raises ConfigurationError for shares that the mode does not have."""
    share, steps, mode = options.share, options.steps, options.mode
    if steps is not None and mode is not Mode.CANARY:
        raise ConfigurationError(f"steps were given to an experiment of mode {mode}; a canary alone has them")
    if share is not None and mode is not Mode.AB:
        raise ConfigurationError(f"a share was given to an experiment of mode {mode}; A/B alone has one (mode ab)")
    if mode is Mode.SHADOW:
        if options.keys:
            raise ConfigurationError(
                f"{len(options.keys)} keys were named for a shadow, which answers nobody; use mode ab or canary"
            )
        return (0.0,)
    if mode is Mode.AB:
        if not share and not options.keys:
            raise ConfigurationError(
                "an A/B experiment has a share of the keys above 0, a list of them, or both; give one"
            )
        return (share or 0.0,)
    chosen = policy.steps if steps is None else steps
    if not chosen or any(a >= b for a, b in pairwise(chosen)):
        raise ConfigurationError(f"steps are ascending shares, one at least (found {list(chosen)})")
    return tuple(chosen)


def _words(
    duration: Duration,
    chosen: DailyDifferences,
    of_measure: Mapping[Measure, DailyDifferences],
    plan: ExperimentPlan,
    n_earlier: int,
) -> tuple[str, ...]:
    """Sentences for a person."""
    seen = {measure: _annual_sharpe(one.values) for measure, one in of_measure.items()}
    words = [f"{duration.words[0].upper()}{duration.words[1:]}; told by {len(chosen.values)} days: {chosen.origin}"]
    words += [
        f"On those days the difference of the two has an annual Sharpe ratio of {ratio:.2g} by the {measure}"
        for measure, ratio in seen.items()
    ]
    others = [measure for measure in seen if measure is not chosen.measure]
    if others and seen[others[0]] and seen[chosen.measure]:
        times = (seen[others[0]] / seen[chosen.measure]) ** 2
        words.append(
            f"By the {chosen.measure} it waits for about {times:.2g} times the days that the {others[0]} would take, "
            "as far as these days tell"
        )
    median = duration.median
    if median is not None and median > plan.deadline_days:
        words.append(f"Its deadline of {plan.deadline_days} days is sooner: it would most likely end undecided")
    if n_earlier:
        words.append(
            f"Experiments of the same two before this one: {n_earlier}; it has half of the last one's probability of a "
            "false decision"
        )
    words.append(
        "It may be looked at each day, stopped, and extended: between equally good versions it decides for either with "
        f"probability {plan.alpha:g} at most, over its whole life, where each day's difference is as likely above its "
        "mean as below (docs/statistics.md#the-sequence says where it is not)"
    )
    return tuple(words)


def _without_predictions(strategy: Strategy) -> tuple[str, ...]:
    if strategy.live.predict:
        return ()
    by_hand = f"`acis predict {strategy.name}`"
    return (f"live.predict is off for {strategy.name!r}: no day is predicted by itself, and counts, but by {by_hand}",)


def _annual_sharpe(values: npt.NDArray[np.float64]) -> float:
    spread = float(np.std(values))
    return float(np.mean(values)) / spread * math.sqrt(TRADING_DAYS) if spread > 0.0 else 0.0
