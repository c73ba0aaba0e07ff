"""Optuna's studies beside the ledger: which parameter sets a run has tried, so that a reclaimed stage goes on.

The one module that imports Optuna. Its tables stand in a schema of their own in the ledger's database
(docs/decisions/0020). A study is named after its run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import optuna
import structlog
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import create_engine, exc, text

from mlops.domain.errors import ConfigurationError, LeaseLost, LedgerUnavailable
from mlops.domain.ports import TrialRecord
from mlops.ledger.engine import CONNECT_TIMEOUT_S, parse_url
from mlops.sqlstates import may_pass

if TYPE_CHECKING:
    from sqlalchemy import URL

    from mlops.domain.training.parameters import Dimension

log = structlog.get_logger(__name__)

SCHEMA = "mlops_optuna"
_LOCK = 0x6F707475  # "optu" as a number: two workers that open the first study make the tables once
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_TAKEN_OVER = "the search was taken over by another worker; this trial does not count"
#: What the study keeps of the rows it searched on.
_DATA, _LIBRARY = "data_fingerprint", "library"
#: SQLSTATE of a table or a schema that does not exist.
_GONE = {"42P01", "3F000"}
#: Trials before any is pruned: a median of fewer says little.
_UNPRUNED_TRIALS = 5

Evaluate = Callable[[Mapping[str, Any], Callable[[int, float], None]], float]
"""Value of a parameter set; it tells (step, value so far) as it goes, which may raise Pruned."""


class Pruned(Exception):
    """The trial is worse than the median of those before it and is not worth finishing."""


class Studies:
    """The studies of a ledger's database. Raises LedgerUnavailable, ConfigurationError."""

    def __init__(self, ledger_url: str) -> None:
        self._url = parse_url(ledger_url)
        self._storage: optuna.storages.RDBStorage | None = None

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """The border; tables that are gone are made anew by the next call, as where the database was recreated."""
        try:
            with _border(self._url):
                yield
        except LedgerUnavailable:
            self._storage = None
            raise

    def open(self, run_id: str, *, maximise: bool, seed: int, data: str = "", library: str = "") -> Study:
        """The run's study, made where it does not exist; trials that a dead worker left running are failed.

        `data`: fingerprint of the rows; trials on other rows cannot be compared, and that study is begun anew.
        `library`: what trains, with its version; trials of another one are other models, likewise.
        """
        with self._reached():
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            study = self._made(run_id, maximise=maximise)
            known = study.user_attrs
            if known.get(_LIBRARY, library) != library:
                log.warning(
                    "study.begun_anew",
                    error=f"its trials were made with {known[_LIBRARY]}, this worker has {library}",
                    action="run the same versions on all training workers",
                )
            if known.get(_DATA, data) != data or known.get(_LIBRARY, library) != library:
                optuna.delete_study(study_name=run_id, storage=self._tables())
                study = self._made(run_id, maximise=maximise)
            study.set_user_attr(_DATA, data)
            study.set_user_attr(_LIBRARY, library)
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
                study.tell(trial.number, state=TrialState.FAIL)
        return Study(study, seed=seed, url=self._url)

    def _made(self, run_id: str, *, maximise: bool) -> optuna.Study:
        return optuna.create_study(
            storage=self._tables(),
            study_name=run_id,
            direction="maximize" if maximise else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED_TRIALS),
            load_if_exists=True,
        )

    def delete(self, run_id: str) -> None:
        """Forget the run's study; nothing where there is none."""
        with self._reached():
            try:
                optuna.delete_study(study_name=run_id, storage=self._tables())
            except KeyError:
                return

    def names(self) -> list[str]:
        """Runs whose study is kept: those that have not ended well. Nothing is made where nothing was ever tuned."""
        with self._reached():
            if self._storage is None and not _has_tables(self._url):
                return []
            return list(optuna.get_all_study_names(storage=self._tables()))

    def _tables(self) -> optuna.storages.RDBStorage:
        if self._storage is None:
            self._storage = _in_own_schema(self._url)
        return self._storage


class Study:
    """One run's search. The same seed and the same finished trials give the same next trial."""

    def __init__(self, study: optuna.Study, *, seed: int, url: URL) -> None:
        self._study = study
        self._seed = seed
        self._url = url

    @property
    def finished(self) -> tuple[TrialRecord, ...]:
        """Complete and pruned trials, in their order; numbered anew, without those that died."""
        with _border(self._url):
            trials = self._study.get_trials(deepcopy=False, states=_FINISHED)
        return tuple(_record(place, trial) for place, trial in enumerate(trials))

    def run_next(self, space: tuple[Dimension, ...], evaluate: Evaluate, *, first: Mapping[str, Any]) -> None:
        """Choose parameters, evaluate them, note what came out.

        first : values of the first trial, which sets nothing else: what it leaves out stays as the caller has it

        Raises LeaseLost where another worker has opened the study meanwhile, and what `evaluate` raises.
        """
        with _border(self._url):
            n_finished = len(self._study.get_trials(deepcopy=False, states=_FINISHED))
            # A sampler that went on drawing would choose otherwise after an interruption.
            self._study.sampler = optuna.samplers.TPESampler(seed=self._seed + n_finished)
            if n_finished == 0:
                self._study.enqueue_trial(dict(first))
            trial = self._study.ask()
            wanted = [one for one in space if n_finished or one.name in first]
            chosen = {dimension.name: _suggested(trial, dimension) for dimension in wanted}

        def told(step: int, value: float) -> None:
            with _border(self._url):
                trial.report(value, step)
                if trial.should_prune():
                    raise Pruned

        try:
            value = evaluate(chosen, told)
        except Pruned:
            self._tell(trial, None, TrialState.PRUNED)
        else:
            self._tell(trial, value, TrialState.COMPLETE)

    def _tell(self, trial: Trial, value: float | None, state: TrialState) -> None:
        with _border(self._url):
            noted = self._study.tell(trial, value, state=state, skip_if_finished=True)
        if noted.state is not state:
            raise LeaseLost(_TAKEN_OVER)


def _suggested(trial: Trial, dimension: Dimension) -> Any:  # noqa: ANN401 -- of the parameter's type
    if dimension.choices:
        return trial.suggest_categorical(dimension.name, dimension.choices)
    if dimension.is_integer:
        return trial.suggest_int(dimension.name, int(dimension.low), int(dimension.high), log=dimension.is_log)
    return trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.is_log)


def _record(place: int, trial: FrozenTrial) -> TrialRecord:
    return TrialRecord(
        number=place + 1,
        params=dict(sorted(trial.params.items())),
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        so_far=tuple(value for _, value in sorted(trial.intermediate_values.items())),
        duration_s=trial.duration.total_seconds() if trial.duration else 0.0,
    )


def _in_own_schema(url: URL) -> optuna.storages.RDBStorage:
    own = f"-c search_path={SCHEMA}"
    connect_args = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "acis-tuning", "options": own}
    engine = create_engine(url, connect_args=connect_args, isolation_level="AUTOCOMMIT", hide_parameters=True)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
            try:
                known = connection.scalar(text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA})
                if not known:
                    connection.execute(text(f'CREATE SCHEMA "{SCHEMA}"'))
                return _storage(url, {"connect_args": connect_args, "pool_pre_ping": True, "hide_parameters": True})
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
    except exc.ProgrammingError as error:
        message = (
            f"the schema {SCHEMA!r}, where tuning keeps its trials, cannot be made or used "
            f"({str(error.orig).splitlines()[0]}); as its owner: CREATE SCHEMA {SCHEMA} AUTHORIZATION {url.username}"
        )
        raise ConfigurationError(message) from error
    finally:
        engine.dispose()


def _has_tables(url: URL) -> bool:
    engine = create_engine(url, connect_args={"connect_timeout": CONNECT_TIMEOUT_S}, hide_parameters=True)
    try:
        with engine.connect() as connection:
            found = connection.scalar(text("SELECT to_regclass(:name)"), {"name": f"{SCHEMA}.studies"})
    finally:
        engine.dispose()
    return found is not None


def _storage(url: URL, engine: dict[str, Any]) -> optuna.storages.RDBStorage:
    # Optuna formats the URL as a template.
    place = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    return optuna.storages.RDBStorage(place, engine_kwargs=engine)


@contextmanager
def _border(url: URL) -> Iterator[None]:
    try:
        yield
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise LeaseLost(_TAKEN_OVER) from error
    except (exc.DBAPIError, exc.TimeoutError, optuna.exceptions.StorageInternalError) as error:
        if not (_is_gone(error) or _is_of_the_servers_condition(error)):
            raise
        is_wrapped = isinstance(error, optuna.exceptions.StorageInternalError)
        raise _unavailable(url, (error.__cause__ if is_wrapped else None) or error) from error


def _is_gone(error: BaseException) -> bool:
    return getattr(getattr(error, "orig", None), "pgcode", None) in _GONE


def _is_of_the_servers_condition(error: Exception) -> bool:
    if isinstance(error, exc.DBAPIError) and not isinstance(error, exc.OperationalError | exc.InterfaceError):
        return may_pass(getattr(error.orig, "pgcode", None))
    return True


def _unavailable(url: URL, cause: BaseException) -> LedgerUnavailable:
    where, words = url.render_as_string(hide_password=True), str(cause).splitlines()[0]
    if _is_gone(cause):
        return LedgerUnavailable(
            f"the tables of the studies beside the ledger at {where} are gone; the next try makes them anew: {words}"
        )
    return LedgerUnavailable(
        f"the studies beside the ledger at {where} do not answer: {words}; check DATABASE_URL and the server"
    )
