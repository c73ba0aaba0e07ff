"""Every option of a run, declared once: its type, bounds, meaning, and the value of the policy that it replaces.

Read by `run_request`, by the messages of the tasks, by the commands and scripts for their options, and by the page.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date
from typing import Annotated, Any, Self

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from mlops.domain.errors import ConfigurationError
from mlops.domain.policies import MAX_FOLDS, MAX_TRIALS, Reference, Rule
from mlops.domain.records import ID_PATTERN, KEPT_ID_LENGTH, LIVE, RUN_ID_LENGTH, Executor, RunRequest


@dataclass(frozen=True)
class Refusal:
    """Why a value outside the option's bounds cannot be; `{}` stands for the value. What can be is added."""

    words: str


@dataclass(frozen=True)
class Replaces:
    """The value of the policy that the option replaces for this run, as in `drift.alert_share`."""

    path: str


AsOf = Annotated[
    date | None,
    Field(ge=date(1900, 1, 1), le=date(2200, 12, 31), description="Decide as of this day (default: by the policy)."),
    Refusal("{} is no day as of which anything can be decided"),
]
DriftThreshold = Annotated[
    float | None,
    Field(gt=0, le=1, description="Share of features that must have drifted, in place of the policy's."),
    Refusal("alert threshold {} is no share of features"),
    Replaces("drift.alert_share"),
]
MinAccuracy = Annotated[
    float | None,
    Field(ge=0, le=1, description="Accuracy that a model must reach, in place of the policy's."),
    Refusal("accuracy {} is no share of predictions"),
    Replaces("promotion.min_accuracy"),
]
Incremental = Annotated[bool, Field(description="Continue the champion on recent days; in full where there is none.")]
Tune = Annotated[
    int | None,
    Field(ge=1, le=MAX_TRIALS, description="Search parameters in so many trials first."),
    Refusal("{} trials cannot be made"),
]
Version = Annotated[
    str | None,
    Field(pattern=r"^[0-9]{1,16}$", description="Version to decide about (default: the newest in Staging)."),
]
RunId = Annotated[
    str,
    Field(min_length=1, max_length=KEPT_ID_LENGTH, pattern=ID_PATTERN),
]
"""Id of a run, which may be that of a caller's task."""


class RunOptions(BaseModel):
    """What a caller may ask for with a run; what is left out is as the policy has it.

    Raises ConfigurationError for a value that cannot be and for options that exclude each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=RUN_ID_LENGTH,
            pattern=ID_PATTERN,
            description="Id of the run; asked for twice, it is one run.",
        ),
        Refusal("run id of {n} characters, which begins {begin!r}, cannot be kept"),
    ] = None
    slot: Annotated[
        str | None, Field(min_length=1, max_length=64, description="Slot of a timetable; a slot is filled by one run.")
    ] = None
    namespace: Annotated[str, Field(max_length=63, description="`live`, or that of a backfill.")] = LIVE
    as_of: AsOf = None
    drift_threshold: DriftThreshold = None
    drift_rule: Annotated[
        Rule | None, Field(description="Rule of the verdict, in place of the policy's."), Replaces("drift.rule")
    ] = None
    reference: Annotated[
        Reference | None,
        Field(description="What current features are compared with, in place of the policy's."),
        Replaces("data.reference"),
    ] = None
    min_accuracy: MinAccuracy = None
    folds: Annotated[
        int | None,
        Field(ge=0, le=MAX_FOLDS, description="Walk-forward folds for a stability table; 0: none."),
        Refusal("{} folds cannot be made"),
        Replaces("training.folds"),
    ] = None
    leak_check: Annotated[
        bool | None,
        Field(description="Measure the documented random split beside the honest one."),
        Replaces("training.leak_check"),
    ] = None
    incremental: Incremental = False
    tune: Tune = None
    version: Version = None
    override: Annotated[
        str | None,
        Field(
            max_length=500,
            description="Why the named version is promoted whatever it fails; what it fails is kept and audited.",
        ),
    ] = None
    executor: Executor = Executor.CELERY

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, given: object, validate: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            asked = validate(given)
        except ValidationError as exc:
            raise ConfigurationError(_refusal(exc)) from exc
        if asked.incremental and asked.tune:
            message = "an incremental training keeps the champion's trees and tunes nothing; ask for one of the two"
            raise ConfigurationError(message)
        if asked.incremental and (asked.folds or asked.leak_check):
            message = "an incremental training makes no folds and no random split; ask for them with a full training"
            raise ConfigurationError(message)
        if asked.override is not None and (asked.version is None or len(asked.override.strip()) < 3):
            message = "a promotion whatever the gates say is kept with its reason and names its version; give both"
            raise ConfigurationError(message)
        return asked

    @property
    def of_request(self) -> dict[str, Any]:
        """Options that are fields of the request, by name."""
        return self.model_dump(include=_OF_REQUEST)

    @property
    def params(self) -> dict[str, Any]:
        """All other options, as they were given; the ledger keeps them with the run."""
        return self.model_dump(exclude=_OF_REQUEST, exclude_defaults=True)

    @property
    def replaced(self) -> dict[str, str]:
        """Path of the policy's value that each given option replaces, by name of the option."""
        return {name: one.path for name in self.params for one in _notes(name) if isinstance(one, Replaces)}


_OF_REQUEST = {field.name for field in fields(RunRequest)}


def option_help(name: str) -> str:
    """Meaning and bounds of an option, as a command's help shows them."""
    bounds = _bounds(name)
    return f"{RunOptions.model_fields[name].description}{f' ({bounds})' if bounds else ''}"


def _notes(name: str) -> list[Any]:
    return RunOptions.model_fields[name].metadata


def _bounds(name: str) -> str:
    """`0 to 20`, or empty for an option without bounds."""
    notes = {type(one): one for one in _notes(name)}
    if MinLen in notes:
        letters = " of A-Z, a-z, 0-9 and _.:-" if name == "run_id" else ""
        return f"{notes[MinLen].min_length} to {notes[MaxLen].max_length} characters{letters}"
    if Gt in notes:
        return f"more than {notes[Gt].gt} and at most {notes[Le].le}"
    return f"{notes[Ge].ge} to {notes[Le].le}" if Ge in notes else ""


def _refusal(exc: ValidationError) -> str:
    error = exc.errors(include_url=False)[0]
    name, value = str(error["loc"][0]), error["input"]
    if name not in RunOptions.model_fields:
        return f"a run has no option {name!r}; its options are {', '.join(RunOptions.model_fields)}"
    for one in _notes(name):
        if isinstance(one, Refusal):
            text = str(value)
            return f"{one.words.format(value, n=len(text), begin=text[:40])}; give {_bounds(name)}"
    return f"{name} {value!r} cannot be: {error['msg'][0].lower()}{error['msg'][1:]}"
