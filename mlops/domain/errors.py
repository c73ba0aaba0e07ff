"""Every error the project raises on purpose, in one tree.

    AcisError
    ├── TemporaryError             try again after `delay_s`; the run waits, nothing is lost
    │   ├── LedgerUnavailable          PostgreSQL does not answer
    │   ├── RegistryUnavailable        MLflow does not answer, or answers 5xx
    │   │   ├── ForeignRegistry            it is another ledger's: nothing is read or written there
    │   │   └── RegistryForbidden          it does not know this process's name and password, or does not let it do this
    │   ├── SourceUnavailable          the feature source does not answer
    │   ├── CheckpointsUnavailable     the place of the checkpoints cannot be read or written
    │   ├── VolumeFull                 a file could not be written: there is no room
    │   └── PredictionLogFull          answers would be lost: neither ledger nor spool takes them
    └── PermanentError             asking again changes nothing
        ├── ConfigurationError         settings or strategies file
        │   ├── NothingConfigured          no server named, none running
        │   ├── AlreadyRunning             a stack of servers uses this var folder now
        │   ├── ServerFailed               a server or role that we started does not come up
        │   ├── UnknownStrategy
        │   └── InvalidStrategyFile
        │       └── InvalidPolicyEdit      an edit of a policy does not fit, or no longer
        ├── DataError                  the data cannot answer the question
        │   ├── UnreadableData             a file or table does not hold what it should
        │   ├── EmptyWindow
        │   ├── MissingColumn
        │   ├── InsufficientData
        │   ├── SingleClass
        │   ├── UnusableFeatures
        │   └── InvalidRows                rows do not fit the model that is asked
        ├── LedgerError
        │   ├── RunNotFound
        │   ├── ReportNotFound             the run has no drift report
        │   ├── InvalidTransition          the state machine does not allow it
        │   ├── LeaseLost                  another worker holds the stage now: write nothing
        │   ├── StageCancelled             somebody asked the run to stop
        │   ├── ChampionMoved              the champion is not the one that was compared with
        │   ├── NoChampion                 the strategy has no version in production
        │   ├── ExperimentNotFound
        │   ├── ExperimentRunning          the strategy has an experiment already
        │   └── ExperimentEnded            nothing of it can be changed
        └── RegistryError
            ├── ModelNotFound
            ├── VersionNotFound
            ├── UnusableModelFile          it is gone, was changed, or is torn
            │   └── UnrecordedModelFile        it is not what the ledger recorded, or that recorded nothing
            ├── VersionQuarantined         the ledger was set back, and does not know the run that made it
            ├── UnusableProfile            the version has no drift profile, or it was changed or is torn
            └── InvalidStage

A message says what was asked, what was found and what to do. `except AcisError` is an expected failure
and is shown to the user as its message; anything else is a defect and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self


class AcisError(Exception):
    """Something went wrong that the project knows how to name."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.default_message())

    @classmethod
    def default_message(cls) -> str:
        """First line of the class's docstring, so that every error says something."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0]


class TemporaryError(AcisError):
    """It may work later."""

    def __init__(self, message: str | None = None, *, delay_s: float = 15.0) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class LedgerUnavailable(TemporaryError):
    """PostgreSQL does not answer; check DATABASE_URL and that the server runs."""


class RegistryUnavailable(TemporaryError):
    """MLflow does not answer; check MLFLOW_TRACKING_URI and that the server runs."""


class ForeignRegistry(RegistryUnavailable):
    """MLflow belongs to another ledger; check MLFLOW_TRACKING_URI and DATABASE_URL."""


class RegistryForbidden(RegistryUnavailable):
    """MLflow refuses this process; check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""


class SourceUnavailable(TemporaryError):
    """The feature source does not answer; check DATABASE_URL and that the server runs."""


class CheckpointsUnavailable(TemporaryError):
    """Checkpoints can neither be kept nor read; check ACIS_CHECKPOINT_URL."""

    def __init__(self, message: str | None = None, *, is_refused: bool = False) -> None:
        super().__init__(message)
        self.is_refused = is_refused
        """A person must act: the store answers and refuses, or a package is missing here."""


class VolumeFull(TemporaryError):
    """A volume is full; free some space, and what waits for it goes on by itself."""


class PredictionLogFull(TemporaryError):
    """Predictions cannot be kept now, so none are given; check the ledger and the spool's volume."""


class PermanentError(AcisError):
    """Asking again changes nothing."""


class ConfigurationError(PermanentError):
    """A setting is wrong."""


class NothingConfigured(ConfigurationError):
    """No server is named and none is running; start everything with `make run`, or set DATABASE_URL."""


class AlreadyRunning(ConfigurationError):
    """Servers run in this var folder already."""


class ServerFailed(ConfigurationError):
    """A server or role that was started does not come up."""


class UnknownStrategy(ConfigurationError):
    """The strategy is not in the strategies file."""

    @classmethod
    def named(cls, name: str, known: Iterable[str]) -> Self:
        """The error about that name. Not the constructor: errors cross the wire as their message alone."""
        return cls(f"strategy {name!r} is not known; one of: {', '.join(sorted(known)) or '(none)'}")


class InvalidStrategyFile(ConfigurationError):
    """The strategies file does not say what a strategies file must say."""


class InvalidPolicyEdit(InvalidStrategyFile):
    """An edit of a strategy's policy does not fit."""


class DataError(PermanentError):
    """The data cannot answer the question."""


class UnreadableData(DataError):
    """A file or table of data does not hold what it should."""


class EmptyWindow(DataError):
    """The window holds no rows."""


class MissingColumn(DataError):
    """The feature view lacks a column."""


class InsufficientData(DataError):
    """There are fewer rows than the question needs."""


class SingleClass(DataError):
    """All labels of the window are equal, so there is nothing to learn."""


class UnusableFeatures(DataError):
    """No feature column varies in the window."""


class InvalidRows(DataError):
    """The rows do not fit the model: a column is missing, unknown or no number, or a date is in the future."""


class LedgerError(PermanentError):
    """The ledger refuses."""


class RunNotFound(LedgerError):
    """The ledger holds no such run."""


class ReportNotFound(LedgerError):
    """The ledger holds no drift report of this run."""


class InvalidTransition(LedgerError):
    """The state of the run does not allow it."""


class LeaseLost(LedgerError):
    """Another worker holds this stage now; this one writes nothing."""


class StageCancelled(LedgerError):
    """The run was cancelled while the stage ran."""


class ChampionMoved(LedgerError):
    """The champion changed since the comparison; compare again."""


class NoChampion(LedgerError):
    """The strategy has no version in production; promote one."""


class ExperimentNotFound(LedgerError):
    """The ledger holds no such experiment."""


class ExperimentRunning(LedgerError):
    """The strategy has an experiment that runs; one at a time."""


class ExperimentEnded(LedgerError):
    """The experiment has ended; nothing of it changes any more."""


class RegistryError(PermanentError):
    """The model registry refuses."""


class ModelNotFound(RegistryError):
    """The registry holds no such model."""


class VersionNotFound(RegistryError):
    """The registry holds no such version."""


class UnusableModelFile(RegistryError):
    """The version's model file is gone, was changed after it was logged, or is torn."""


class UnrecordedModelFile(UnusableModelFile):
    """The version's model file is not what the ledger recorded, or the ledger recorded nothing of it."""


class VersionQuarantined(RegistryError):
    """The ledger does not know the run that made this version; `acis quarantine` lists and releases it."""


class UnusableProfile(RegistryError):
    """The version carries no drift profile, or it is gone, was changed after it was logged, or is torn."""


class InvalidStage(RegistryError):
    """Stages are None, Staging, Production and Archived."""
