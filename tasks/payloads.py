"""What the messages carry: ids and small JSON, checked on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mlops.domain.errors import ConfigurationError
from mlops.domain.records import Kind, RunRequest
from mlops.runs.options import AsOf, DriftThreshold, Incremental, MinAccuracy, RunId, RunOptions, Tune, Version
from mlops.runs.request import Policies, prediction_request, run_request

if TYPE_CHECKING:
    from mlops.ledger.ledger import SqlLedger


class InvalidMessage(ConfigurationError):
    """The message does not say what its task needs."""


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("a text with a NUL character cannot be kept")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]


class _Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @classmethod
    def read(cls, task: str, arguments: Mapping[str, Any]) -> Self:
        """Check the arguments of a task. Raises InvalidMessage, naming the first that is wrong."""
        try:
            return cls.model_validate(dict(arguments))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"]) or "arguments"
            allowed = ", ".join(cls.model_fields)
            message = f"{task}: {name}: {first['msg']}; its arguments are {allowed}"
            raise InvalidMessage(message) from exc


class StageMessage(_Payload):
    """The message of one stage of a run that the ledger has accepted."""

    run_id: RunId
    publish_no: int = Field(ge=0, lt=2**31)


class LostMessage(_Payload):
    """The message of a worker whose child died over a stage."""

    run_id: RunId
    task: Literal["drift.check", "model.train", "model.promote", "predict.batch", "live.score"]
    """Of the stage, as `tasks.publish` names it."""
    task_id: RunId
    cause: Text = Field(max_length=2000)


class StartMessage(_Payload):
    """A request by name: the task opens its own run, whose id is the task's."""

    strategy: Text = Field(max_length=63)
    as_of: AsOf = None
    reason: Text = Field("requested by a task", max_length=500)
    requested_by: Text = Field("celery", max_length=200)

    @property
    def kind(self) -> Kind:
        """Kind of the run that it opens."""
        raise NotImplementedError

    def request(self, policies: Policies, *, run_id: str | None) -> RunRequest:
        """The run's request. Raises as `run_request` does."""
        options = self.model_dump(include={"reason", "requested_by", *RunOptions.model_fields})
        return run_request(policies, self.strategy, self.kind, run_id=run_id, **options)


class StartCheck(StartMessage):
    """Start of `drift.check`."""

    check_only: bool = False
    """True: report the drift and stop; False: the whole loop, drift leads to training and promotion."""
    drift_threshold: DriftThreshold = None
    min_accuracy: MinAccuracy = None

    @property
    def kind(self) -> Kind:
        """A check, or the whole loop."""
        return Kind.CHECK if self.check_only else Kind.PIPELINE


class StartTraining(StartMessage):
    """Start of `model.train`."""

    promote: bool = True
    """False: register the version and leave it in Staging."""
    tune: Tune = None
    incremental: Incremental = False
    min_accuracy: MinAccuracy = None

    @property
    def kind(self) -> Kind:
        """A training, with or without a promotion."""
        return Kind.RETRAIN if self.promote else Kind.TRAIN


class StartPromotion(StartMessage):
    """Start of `model.promote`."""

    version: Version = None
    min_accuracy: MinAccuracy = None

    @property
    def kind(self) -> Kind:
        """A decision about a version."""
        return Kind.PROMOTE


class StartPrediction(StartMessage):
    """Start of `predict.batch`."""

    @property
    def kind(self) -> Kind:
        """The predictions of one date."""
        return Kind.PREDICT

    def of_date(self, policies: Policies, ledger: SqlLedger, *, run_id: str | None) -> RunRequest:
        """The run's request; the date's run where it has one. Raises as `run_request` does."""
        return prediction_request(
            policies,
            ledger,
            self.strategy,
            self.as_of,
            reason=self.reason,
            requested_by=self.requested_by,
            run_id=run_id,
        )


class StartScoring(StartMessage):
    """Start of `live.score`."""

    @property
    def kind(self) -> Kind:
        """Predictions against their outcomes."""
        return Kind.SCORE
