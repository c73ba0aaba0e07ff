"""What the messages carry: ids and small JSON, checked on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops.domain.errors import ConfigurationError
from mlops.domain.policies import MAX_TRIALS
from mlops.domain.records import RUN_ID_LENGTH


class InvalidMessage(ConfigurationError):
    """The message does not say what its task needs."""


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
    """The bell of one stage of a run that the ledger has accepted."""

    run_id: str = Field(min_length=1, max_length=RUN_ID_LENGTH)
    publish_no: int = Field(ge=0)


class StartMessage(_Payload):
    """A request by name: the task opens its own run, whose id is the task's."""

    strategy: str
    as_of: date | None = None
    reason: str = Field("requested by a task", max_length=500)
    requested_by: str = Field("celery", max_length=200)


class StartCheck(StartMessage):
    """Start of `drift.check`."""

    check_only: bool = False
    """True: report the drift and stop; False: the whole loop, drift leads to training and promotion."""
    drift_threshold: float | None = Field(None, gt=0, le=1)
    min_accuracy: float | None = Field(None, ge=0, le=1)


class StartTraining(StartMessage):
    """Start of `model.train`."""

    promote: bool = True
    """False: register the version and leave it in Staging."""
    tune: int | None = Field(None, ge=1, le=MAX_TRIALS)
    """Search parameters in so many trials first."""
    incremental: bool = False
    """True: continue the champion on recent days; in full where there is none."""
    min_accuracy: float | None = Field(None, ge=0, le=1)


class StartPromotion(StartMessage):
    """Start of `model.promote`."""

    version: str | None = None
    """None: the newest version in Staging."""
    min_accuracy: float | None = Field(None, ge=0, le=1)
