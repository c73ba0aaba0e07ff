"""The champion of a strategy in a backend's own process, and the challenger of an experiment that runs against it.

    router = ModelRouter("growth")
    answers = router.predict(frame, tickers=frame["ticker"], as_of=day)
    answer = router.predict_one(row, ticker="AAPL", as_of=day)

One thread asks the ledger once a second who answers which keys. Another champion is loaded beside the one that answers,
and takes its place between two requests. Who has no server to ask goes on with what it has, and says how old that is.
A challenger is loaded in a thread of its own; whatever is wrong with it, the champion answers.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from config.log_setup import leave_logging_to_the_caller
from config.settings import load_settings
from mlops.domain.errors import (
    AcisError,
    ConfigurationError,
    InvalidRows,
    NoChampion,
    RegistryError,
    TemporaryError,
)
from mlops.domain.experiments.assignment import key_of
from mlops.domain.live.rows import row_digests
from mlops.domain.promotion.records import Champion
from mlops.registry.opening import ModelServices
from mlops.serving.answer_counter import AnswerCounter, NotLoaded
from mlops.serving.champion_files import ChampionRecord, LocalCopies, find_model
from mlops.serving.engines import RowSlot, ask_one
from mlops.serving.loading import ModelFile, serve
from mlops.serving.model import Prediction, Predictions, Probabilities, Recorder, ServedModel
from mlops.serving.places import folder_of_ledger
from mlops.serving.prediction_log import PredictionLog
from mlops.serving.routes import Answering, ExplainedRoute, Route
from mlops.serving.row_keys import day_of, days_of, keys_of, ticker_of, tickers_of
from mlops.serving.shadow import Shadow

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.experiments.records import Experiment
    from mlops.domain.live.rows import Floats

log = structlog.get_logger(__name__)

POLL_S = 1.0
"""Between two questions to the ledger, one statement each."""
COUNTS_EVERY_S = 10.0
"""Counts of answers go to the ledger so often; a kill loses no more of them."""
_GRACE_S = 30.0
"""For a challenger that is not loaded; after that the rows that are its are its errors."""
_FIRST_LOAD_S = 5.0
"""For a challenger, before a new router answers; after that the champion answers until it is there."""
_NOTED_EVERY_S = 60.0
"""The record on disk is written anew so often, while nothing changes."""
_RETRY_S = (1.0, 30.0)
"""Until a model that could not be loaded is tried again; twice as long each time."""
_IN_MEMORY = 3
"""Models that a router holds, of some MB each: champion, challenger and the champion of before."""
_POSITIVE = 0.5
_T = TypeVar("_T")
_Key: TypeAlias = tuple[int, str | None, str | None]
"""What tells one champion from another: place in the ledger, version, digest. The place alone repeats in a ledger that
was restored or made anew."""


@dataclass(frozen=True, kw_only=True)
class RouterStatus:
    """What a router answers with, and how sure it is that this is the champion."""

    strategy: str
    version: str | None
    """None: nothing answers"""
    sha256: str | None
    seq: int
    engine: str | None
    engine_check: str | None
    """What was found when the fast engine was compared with XGBoost"""
    confirmed_age_s: float | None
    """Seconds since the ledger last said that this is the champion; None: it never did"""
    problem: str | None
    """Why it may not be the champion: the ledger is away, or the champion's model cannot be used; None: it is"""
    experiment: int | None = None
    """Id of the experiment that runs; None: none does"""
    challenger: str | None = None
    """Its challenger's version; None: it is not loaded"""
    challenger_share: float = 0.0
    """Of the keys that the challenger answers"""
    challenger_problem: str | None = None
    """Why the challenger is not loaded; the champion answers everything"""
    not_asked: int = 0
    """Rows of arrays since the start that the challenger was not asked about: it reads other columns than the champion,
    and an array has no names of them"""
    shadow_dropped: int = 0
    """Rows whose shadow was not asked, or not kept, since the start: more came than it could answer beside"""


class _Attempts:
    """When a model that could not be loaded is tried again."""

    def __init__(self) -> None:
        self._failed: _Key | None = None
        self._retry_at, self._retry_s = 0.0, _RETRY_S[0]

    def may_try(self, key: _Key, now: float) -> bool:
        """Whether it is another model, or its time has come."""
        return key != self._failed or now >= self._retry_at

    def failed(self, key: _Key, now: float) -> None:
        """Note a failure."""
        self._retry_s = _RETRY_S[0] if key != self._failed else min(2 * self._retry_s, _RETRY_S[1])
        self._failed, self._retry_at = key, now + self._retry_s

    def forget(self) -> None:
        """It was loaded, or is wanted no more."""
        self._failed = None


class ModelRouter:
    """Answers with the champion of a strategy, and follows it; safe to use from several threads.

    Not for use across a fork: make one in each process.
    """

    def __init__(
        self,
        strategy: str,
        *,
        settings: Settings | None = None,
        services: ModelServices | None = None,
        recorder: Recorder | None = None,
        n_jobs: int = 1,
        poll_s: float = POLL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """settings, services: None for those of the environment.

        recorder: takes in each answer whose caller gave ticker and date; None: the prediction log, whose spool is in
        ACIS_VAR_DIR. n_jobs: threads of XGBoost, for many rows.
        Raises UnknownStrategy, NothingConfigured. A strategy without a champion is none yet: `predict` says so.
        """
        leave_logging_to_the_caller()
        self.strategy = strategy
        self._services = services or ModelServices(settings or load_settings())
        self._owns_services = services is None
        self._services.strategies[strategy]
        ledger, known = self._services.ledger, self._services.settings
        self._own_log = None
        if recorder is None:  # nothing of it is opened before the first record
            recorder = self._own_log = PredictionLog(
                ledger, folder_of_ledger(known, "spool"), limit_bytes=known.spool_bytes, origin="router"
            )
        self._recorder, self._n_jobs, self._poll_s, self._monotonic = recorder, n_jobs, poll_s, monotonic
        self._copies = LocalCopies(folder_of_ledger(known, "models") / strategy)
        self._counter = AnswerCounter()
        self._shadow = Shadow(recorder, self._counter)
        self._answering: Answering | None = None
        """Who answers; one assignment swaps it"""
        self._recent: OrderedDict[str, ServedModel] = OrderedDict()
        """By digest; the champion of before is among them, so that a rollback loads nothing"""
        self._seq = 0
        self._refusal: AcisError = NoChampion(f"strategy {strategy!r} was not asked for yet")
        """Why nothing answers, where nothing does"""
        self._problem: AcisError | None = None
        self._confirmed: float | None = None
        """Monotonic time of the ledger's last word"""
        self._noted: _Key | None = None
        """The champion on the local disk's record"""
        self._noted_at = float("-inf")
        self._attempts, self._challenger_attempts = _Attempts(), _Attempts()
        self._wanted: Experiment | None = None
        """The experiment of the ledger's last word"""
        self._loading: threading.Thread | None = None
        """A challenger's"""
        self._challenger_problem: str | None = None
        self._lacked: tuple[str | None, float] = None, 0.0
        """Digest of a challenger that is not loaded, and since when"""
        self._said_failed: str | None = None
        """Digest of the challenger whose first error is in the log"""
        self._counted_at = monotonic()
        self._closing = threading.Event()
        self._following = threading.Lock()
        self.follow()
        self._await_challenger(_FIRST_LOAD_S)
        self._thread = threading.Thread(target=self._follow_for_ever, name=f"acis-router-{strategy}", daemon=True)
        self._thread.start()
        _ROUTERS.add(self)

    # -- asking

    @property
    def model(self) -> ServedModel:
        """The champion that answers now. Raises NoChampion, and what kept the champion from being loaded."""
        return (self._answering or self._raise_refusal()).champion

    def predict(
        self,
        frame: Any,  # noqa: ANN401 -- pandas, Arrow or numpy
        *,
        tickers: Iterable[str] | None = None,
        as_of: date | Iterable[date] | None = None,
        keys: Iterable[str | None] | None = None,
    ) -> Predictions:
        """Probabilities for a pandas frame, an Arrow table, or a numpy array in the champion's order of columns.

        tickers, as_of: of the rows, one date for all or one each (dates, datetimes, Timestamps, datetime64); given
        both, the answers are recorded. keys: of the rows, by which an experiment chooses the version that answers;
        left out, the tickers; a row without either is the champion's.
        Raises InvalidRows, NoChampion, what kept the champion from being loaded, and PredictionLogFull.
        """
        now = self._answering or self._raise_refusal()
        rows = self._rows(now, frame)
        dates = None if as_of is None else days_of(as_of, len(rows))
        named = None if tickers is None else tickers_of(tickers, len(rows))
        keyed = named if keys is None else keys_of(keys, len(rows))
        if named is None or dates is None:
            named = dates = None
        theirs = now.of_challenger(keyed)
        answered = None if theirs is None else self._by_challenger(now, frame, rows, theirs)
        if theirs is None or answered is None:
            probability = self._computed(now.champion, rows)
            self._record(now.champion, named, dates, probability, rows)
            if now.shadow is not None:
                self._ask_shadow(now, frame, rows.copy(), named, dates)
            return Predictions(probability=probability, model=now.champion)
        model, own, found = answered
        probability = np.empty(len(rows), dtype=np.float32)
        probability[theirs] = found
        self._record(model, _of(named, theirs), _of(dates, theirs), found, own)
        if theirs.all():
            return Predictions(probability=probability, model=model)
        others = rows[~theirs]
        probability[~theirs] = found = self._computed(now.champion, others)
        self._record(now.champion, _of(named, ~theirs), _of(dates, ~theirs), found, others)
        return Predictions(probability=probability, model=now.champion, challenger=model, by_challenger=theirs)

    def predict_one(
        self,
        row: Any,  # noqa: ANN401 -- a mapping by name, a pandas row, or numbers in order
        *,
        ticker: str | None = None,
        as_of: date | None = None,
        key: str | None = None,
    ) -> Prediction:
        """Probability for one row: a mapping by name, a pandas Series or frame of one row, or a numpy row in order.

        Given ticker and date, the answer is recorded. key: by which an experiment chooses the version that answers;
        left out, the ticker; without either the champion answers. Raises what `predict` raises.
        """
        now = self._answering or self._raise_refusal()
        day = None if as_of is None else day_of(as_of)
        name = None if ticker is None else ticker_of(ticker)
        chosen = name if key is None else key_of(key)
        named, dates = (None, None) if name is None or day is None else ([name], [day])
        answered, failed = None, None
        if now.split is not None and now.is_challengers(chosen):
            try:
                answered = self._one(_challenger(now), _given(now, row), keep=named is not None)
            except Exception as exc:  # noqa: BLE001 -- whatever it is, the champion answers
                failed = exc
        if answered is None:
            try:
                answered = self._one(now.champion, row, keep=named is not None or now.shadow is not None)
            except Exception as exc:
                if not _is_callers(now, row, exc, is_one=True):
                    self._counter.count(now.champion, 1, n_errors=1)
                raise
            if failed is not None:
                self._say_failed(now, 1, failed)
        model, probability, kept = answered
        if kept is not None:
            if named is not None:
                self._record(model, named, dates, np.array([probability], dtype=np.float32), kept)
            if now.shadow is not None:
                self._ask_shadow(now, row, kept, named, dates)
        return Prediction(probability, model.version, model.sha256, model.variant)

    def explain_route(self, key: str | None) -> ExplainedRoute:
        """Say which version answers a key now, and why. Raises InvalidRows for what is no key, and as `model` does."""
        now = self._answering or self._raise_refusal()
        return now.explain(None if key is None else key_of(key), self._challenger_problem)

    def routes(self) -> tuple[Route, ...]:
        """Give each version that is asked now, the champion first. Raises as `model` does."""
        return (self._answering or self._raise_refusal()).routes()

    def status(self) -> RouterStatus:
        """What answers, and how sure it is that this is the champion."""
        now = self._answering
        model, problem = now.champion if now else None, self._problem or (None if now else self._refusal)
        return RouterStatus(
            strategy=self.strategy,
            version=model.version if model else None,
            sha256=model.sha256 if model else None,
            seq=model.seq if model else self._seq,
            engine=model.engine if model else None,
            engine_check=model.check.reason if model else None,
            confirmed_age_s=None if self._confirmed is None else max(0.0, self._monotonic() - self._confirmed),
            problem=str(problem) if problem else None,
            experiment=now.experiment.id if now and now.experiment else None,
            challenger=now.challenger.version if now and now.challenger else None,
            challenger_share=now.share if now else 0.0,
            challenger_problem=self._challenger_problem,
            not_asked=self._counter.n_left_out,
            shadow_dropped=self._shadow.n_dropped,
        )

    # -- one version's part of an answer

    def _rows(self, now: Answering, frame: Any) -> Floats:  # noqa: ANN401 -- as in `predict`
        try:
            return now.champion.reader.rows(frame)
        except Exception as exc:
            if not _is_callers(now, frame, exc, is_one=False):
                n = len(frame) if hasattr(frame, "__len__") else 1
                self._counter.count(now.champion, n, n_errors=n)
            raise

    def _computed(self, model: ServedModel, rows: Floats) -> Probabilities:
        """(n,) probabilities, counted; timed is the first row alone, whatever part of a frame these are."""
        one, took_ns = 0.0, None
        if len(rows):
            one, took_ns = ask_one(model.predictor, rows[:1], clock=time.perf_counter_ns, again=len(rows) > 1)
        probability = np.array([one], np.float32) if len(rows) == 1 else model.predictor.probabilities(rows)
        self._counter.count(
            model,
            len(rows),
            n_positive=int(np.count_nonzero(probability >= _POSITIVE)),
            n_missing=int(np.count_nonzero(np.isnan(rows).any(axis=1))),
            took_ns=took_ns,
        )
        return probability

    def _by_challenger(
        self,
        now: Answering,
        frame: Any,  # noqa: ANN401 -- as in `predict`
        rows: Floats,
        theirs: npt.NDArray[np.bool_],
    ) -> tuple[ServedModel, Floats, Probabilities] | None:
        """(m, f) rows and (m,) probabilities of those that are the challenger's; None: the champion answers them."""
        try:
            model = _challenger(now)
            own = (rows if now.reads_the_same else model.reader.rows(_with_names(frame)))[theirs]
            return model, own, self._computed(model, own)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, the champion answers
            self._say_failed(now, int(np.count_nonzero(theirs)), exc)
            return None

    def _one(
        self,
        model: ServedModel,
        row: Any,  # noqa: ANN401 -- as in `predict_one`
        *,
        keep: bool,
    ) -> tuple[ServedModel, float, Floats | None]:
        """Probability of one row, counted, and (1, f) the row as the model read it, where it is kept."""
        predictor = model.predictor
        slot = predictor.take()
        try:
            if type(row) is dict or isinstance(row, Mapping):
                slot.fill(model.reader.values(row), model.features)
            else:
                slot.put(_one_row(model, row))
            began = time.perf_counter_ns()
            probability = slot.ask()
            took_ns = time.perf_counter_ns() - began
            has_missing, kept = slot.has_missing, slot.row.copy() if keep else None
        finally:
            predictor.give(slot)
        self._counter.count(model, 1, n_positive=probability >= _POSITIVE, n_missing=has_missing, took_ns=took_ns)
        return model, probability, kept

    def _record(
        self,
        model: ServedModel,
        tickers: list[str] | None,
        dates: list[date] | None,
        probability: Probabilities,
        rows: Floats,
    ) -> None:
        if tickers is not None and dates is not None:
            # A copy: the caller may go on to calculate in the array that it is given.
            self._recorder.record(model, tickers, dates, probability.copy(), row_digests(rows))

    def _ask_shadow(
        self,
        now: Answering,
        given: Any,  # noqa: ANN401 -- a frame or a row, as its caller gave it
        rows: Floats,
        tickers: list[str] | None,
        dates: list[date] | None,
    ) -> None:
        """Hand (n, f) rows, the router's own, over to the challenger in the background; nothing fails the caller."""
        model = now.shadow
        if model is None:
            return
        if now.reads_the_same:
            self._shadow.offer(model, rows, tickers, dates)
            return
        try:
            handed = dict(given) if isinstance(given, Mapping) else model.reader.rows(_with_names(given)).copy()
        except Exception as exc:  # noqa: BLE001 -- whatever it is, the caller has its answer
            self._say_failed(now, len(rows), exc)
            return
        self._shadow.offer(model, handed, tickers, dates)

    def _say_failed(self, now: Answering, n: int, exc: Exception) -> None:
        """Count n rows that a challenger could not answer and the champion can, and say the first of its errors."""
        if isinstance(exc, _NoNames):
            self._counter.leave_out(n)
            return
        model, experiment = now.challenger, now.experiment
        if model is None:
            if experiment is None or self._monotonic() - self._lacked[1] < _GRACE_S:
                return
            sha256 = experiment.challenger.sha256 or ""
            absent = NotLoaded(self.strategy, experiment.challenger_version, sha256)
            self._counter.count(absent, n, n_errors=n)
            return
        self._counter.count(model, n, n_errors=n)
        if self._said_failed != model.sha256:
            self._said_failed = model.sha256
            log.warning(
                "serving.challenger_failed",
                strategy=self.strategy,
                version=model.version,
                error=str(exc),
                next="the champion answers instead; later ones are counted alone",
            )

    def flush(self) -> None:
        """Return when everything that was recorded before survives a kill of this process."""
        self._recorder.flush()

    def close(self) -> None:
        """End the following of the champion; answers end too, and what was recorded is brought to the ledger."""
        self._closing.set()
        self._stop_answering()
        self._shadow.close()
        if self._own_log is not None:
            self._own_log.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)
        with self._following:  # a model that was being loaded has not come after the end
            self._stop_answering()
        if not isinstance(self._problem, TemporaryError):
            self._write_counts()
        if self._owns_services and "ledger" in vars(self._services):
            self._services.ledger.close()

    def _stop_answering(self) -> None:
        self._refusal = ConfigurationError(f"this router of {self.strategy!r} was closed; make another one")
        self._answering = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _raise_refusal(self) -> NoReturn:
        # Anew each time: one that is raised again and again grows a traceback.
        refusal = self._refusal
        again = type(refusal)(str(refusal))
        if isinstance(refusal, TemporaryError) and isinstance(again, TemporaryError):
            again.delay_s = refusal.delay_s
        raise again from refusal.__cause__

    # -- following

    def follow(self) -> None:
        """Ask the ledger once who answers, and load what is another one. Raises nothing expected.

        Waits for a challenger that is loaded for as long as it is until the next question.
        """
        with self._following:
            if not self._closing.is_set():
                self._follow()
        self._await_challenger(self._poll_s)

    def _follow(self) -> None:
        try:
            state = self._services.ledger.serving_state(self.strategy)
        except (TemporaryError, ConfigurationError) as exc:
            self._say(exc, "serving.ledger_away", next="answers go on with what is here")
            if self._answering is None and self._confirmed is None:
                self._start_from_copy(exc)
            return
        champion, model = state.champion, self._answering.champion if self._answering else None
        self._wanted = state.experiment
        if champion.version is None:
            self._empty(champion)
        elif model is None or not _is_of(model, champion):
            self._change_to(champion, champion.version)
        else:
            self._confirm(champion.version, model.sha256, champion.seq)
        self._follow_experiment()

    def _follow_for_ever(self) -> None:
        while not self._closing.wait(self._poll_s):
            try:
                self.follow()
                if self._monotonic() - self._counted_at >= COUNTS_EVERY_S:
                    self._write_counts()
            except Exception:  # the edge of this thread: a defect must not end the following
                log.exception("serving.follow_failed", strategy=self.strategy, next="tried again in a second")

    def _write_counts(self) -> None:
        """Bring the counts of answers to the ledger; it has them with the next write where this one fails."""
        self._counted_at = self._monotonic()
        try:
            self._counter.flush(self._services.ledger.count_answers)
        except AcisError as exc:
            log.warning("serving.counts_not_written", strategy=self.strategy, error=str(exc), next="written later")

    # -- the challenger

    def _follow_experiment(self) -> None:
        """Let the experiment's challenger answer what is its, once it is loaded; without one the champion answers."""
        now, wanted = self._answering, self._wanted
        if now is None:
            return
        if wanted is None or wanted.champion_seq != now.champion.seq:
            self._challenger_attempts.forget()
            self._challenger_problem = None
            if now.experiment is not None:
                self._let_answer(now.champion, None, None)
            return
        if now.experiment == wanted and now.challenger is not None:
            return
        found = self._recent.get(wanted.challenger.sha256 or "")
        if found is not None:
            self._challenger_attempts.forget()
            self._challenger_problem = None
            self._recent.move_to_end(found.sha256)
            self._lacked = None, 0.0
            model = replace(found, version=wanted.challenger_version, seq=wanted.champion_seq)
            self._let_answer(now.champion, model, wanted)
        else:
            if self._lacked[0] != wanted.challenger.sha256:
                self._lacked = wanted.challenger.sha256, self._monotonic()
            if now.experiment != wanted:
                self._let_answer(now.champion, None, wanted)
            self._start_loading(wanted)

    def _let_answer(self, champion: ServedModel, challenger: ServedModel | None, experiment: Experiment | None) -> None:
        before, now = self._answering, Answering.of(champion, challenger, experiment)
        self._answering = now
        if experiment is not None or (before is not None and before.experiment is not None):
            log.info("serving.routed", strategy=self.strategy, routes=[vars(one) for one in now.routes()])

    def _start_loading(self, wanted: Experiment) -> None:
        """Load a challenger beside: the champion is followed meanwhile, however long it takes."""
        key = wanted.champion_seq, wanted.challenger_version, wanted.challenger.sha256
        if self._loading is not None or not self._challenger_attempts.may_try(key, self._monotonic()):
            return
        self._loading = threading.Thread(
            target=self._load_challenger, args=(wanted, key), name=f"acis-challenger-{self.strategy}", daemon=True
        )
        self._loading.start()

    def _load_challenger(self, wanted: Experiment, key: _Key) -> None:
        model, problem = None, None
        try:
            file = find_model(self._services, self._copies, wanted.challenger_place, wanted.challenger_version)
            model = serve(file, n_jobs=self._n_jobs)
            self._copies.keep(file)
        except (RegistryError, TemporaryError, ConfigurationError) as exc:
            problem = str(exc)
        except Exception as exc:  # the edge of this thread: whatever a library finds, the champion answers
            log.exception("serving.challenger_defect", strategy=self.strategy, version=wanted.challenger_version)
            problem = f"{type(exc).__name__}: {exc}"
        with self._following:
            self._loading = None
            if self._closing.is_set():
                return
            if model is not None:
                self._remember(model)
            else:
                self._challenger_attempts.failed(key, self._monotonic())
                if problem != self._challenger_problem:
                    log.warning(
                        "serving.challenger_refused",
                        strategy=self.strategy,
                        challenger=wanted.challenger_version,
                        error=problem,
                        next="the champion answers everything",
                    )
                self._challenger_problem = problem
            self._follow_experiment()

    def _await_challenger(self, within_s: float) -> None:
        loading = self._loading
        if loading is not None and loading is not threading.current_thread():
            loading.join(timeout=within_s)

    # -- the champion

    def _change_to(self, champion: Champion, version: str) -> None:
        """Load a champion and let it answer; one that cannot be used leaves the one before in place."""
        now = self._monotonic()
        key = champion.seq, version, champion.identity.sha256
        if not self._attempts.may_try(key, now):
            return
        before = self._answering.champion if self._answering else None
        try:
            recent = self._recent.get(champion.identity.sha256 or "")
            if recent is not None:
                model = replace(recent, version=version, seq=champion.seq)
                self._copies.renew(model.sha256)
            else:
                file = find_model(self._services, self._copies, champion, version)
                model = serve(file, n_jobs=self._n_jobs)
                self._copies.keep(file)
        except (RegistryError, TemporaryError, ConfigurationError) as exc:
            self._attempts.failed(key, now)
            self._say(
                exc,
                "serving.champion_refused",
                champion=version,
                answers=before.version if before else None,
                next="the version of before goes on answering" if before else "nothing answers",
            )
            if before is None:
                self._refusal = exc
                if self._confirmed is None:
                    self._start_from_copy(exc)
            return
        if self._closing.is_set():
            return
        self._remember(model)
        self._let_answer(self._among_others(model), None, None)
        self._confirm(version, model.sha256, champion.seq)
        log.info(
            "serving.swapped",
            strategy=self.strategy,
            version=version,
            before=before.version if before else None,
            seq=champion.seq,
            engine=model.engine,
            check=model.check.reason,
        )

    def _remember(self, model: ServedModel) -> None:
        self._recent[model.sha256] = model
        self._recent.move_to_end(model.sha256)
        while len(self._recent) > _IN_MEMORY:
            self._recent.popitem(last=False)

    def _among_others(self, model: ServedModel) -> ServedModel:
        """The model that accepts the columns of the versions before: callers send them until they are told."""
        return replace(model, beside=frozenset(name for one in self._recent.values() for name in one.features))

    def _empty(self, champion: Champion) -> None:
        """Nobody is champion: the ledger decides, so nothing answers."""
        words = "has no champion any more: it was taken out of production" if champion.seq else "has no champion"
        self._refusal = NoChampion(
            f"strategy {self.strategy!r} {words}; `acis retrain {self.strategy}` trains and judges one, and "
            f"`acis promote` places one"
        )
        if self._answering is not None:
            before = self._answering.champion.version
            log.warning("serving.emptied", strategy=self.strategy, before=before, next="nothing answers")
        self._answering = None
        self._confirm(None, None, champion.seq)

    def _confirm(self, version: str | None, sha256: str | None, seq: int) -> None:
        if self._problem is not None:
            log.info("serving.followed_again", strategy=self.strategy, version=version)
        self._problem = None
        self._attempts.forget()
        self._confirmed = now = self._monotonic()
        key = seq, version, sha256
        if key != self._noted or now - self._noted_at >= _NOTED_EVERY_S:
            self._copies.note(
                ChampionRecord(version=version, sha256=sha256, seq=seq, confirmed_at=datetime.now(UTC).isoformat())
            )
            self._seq, self._noted, self._noted_at = seq, key, now

    def _start_from_copy(self, why: AcisError) -> None:
        """Answer with what this machine served last, where no server can be asked."""
        record = self._copies.record()
        if record is None or record.version is None or record.sha256 is None:
            self._refusal = (
                why
                if record is None
                else NoChampion(f"strategy {self.strategy!r} had no champion when the ledger was last asked")
            )
            return
        content = self._copies.model(record.sha256)
        if content is None:
            self._refusal = why
            return
        file = ModelFile(
            strategy=self.strategy,
            version=record.version,
            seq=record.seq,
            sha256=record.sha256,
            content=content,
            profile=self._copies.profile(record.sha256),
        )
        try:
            model = serve(file, n_jobs=self._n_jobs)
        except (RegistryError, TemporaryError, ConfigurationError) as exc:
            self._refusal = exc
            return
        age_s = record.age_s(datetime.now(UTC))
        self._confirmed = self._monotonic() - age_s
        self._answering, self._seq = Answering.of(model, None, None), record.seq
        self._recent[model.sha256] = model
        log.warning(
            "serving.started_from_copy",
            strategy=self.strategy,
            version=model.version,
            confirmed_age_s=round(age_s),
            error=str(why),
            action="start the ledger: whether this is the champion still is not known",
        )

    def _say(self, error: AcisError, event: str, **fields: object) -> None:
        """Once for each problem, not each second."""
        if self._problem is None or str(self._problem) != str(error):
            log.warning(event, strategy=self.strategy, error=str(error), **fields)
        self._problem = error


def _of(values: list[_T] | None, mask: npt.NDArray[np.bool_]) -> list[_T] | None:
    return None if values is None else [values[place] for place in np.flatnonzero(mask)]


class _NoNames(InvalidRows):
    """A challenger cannot be asked about an array."""


def _challenger(now: Answering) -> ServedModel:
    """The challenger. Raises NoChampion: it is not loaded."""
    if now.challenger is None:
        message = "the challenger is not loaded"
        raise NoChampion(message)
    return now.challenger


def _is_callers(now: Answering, given: Any, exc: Exception, *, is_one: bool) -> bool:  # noqa: ANN401 -- frame or row
    """Whether the champion's error says nothing of it beside a challenger, which refuses these rows too.

    Without an experiment it is the champion's, since the one before may have read what callers send.
    """
    if now.experiment is None or not isinstance(exc, InvalidRows):
        return False
    model = now.challenger
    if model is None:  # whose errors are counted where the champion answers
        return True
    try:
        if not is_one:
            model.reader.rows(_given(now, given))
        elif isinstance(given, Mapping):
            RowSlot(len(model.features)).fill(model.reader.values(given), model.features)
        else:
            _one_row(model, _given(now, given))
    except Exception:  # noqa: BLE001 -- whatever it is, the caller is told what the champion says
        return True
    return False


def _given(now: Answering, given: Any) -> Any:  # noqa: ANN401 -- a frame or a row
    """What the challenger is given of a frame or a row. Raises InvalidRows."""
    return given if now.reads_the_same else _with_names(given)


def _with_names(given: Any) -> Any:  # noqa: ANN401 -- a frame or a row
    """A pandas row, a mapping or a frame. Raises InvalidRows: an array is in the champion's order of columns."""
    if isinstance(given, np.ndarray):
        message = "an array has no names of columns, and the challenger reads others than the champion"
        raise _NoNames(message)
    # A frame that is asked for what it lacks looks among its columns first: 4 µs.
    if not hasattr(given, "columns") and hasattr(given, "to_frame"):  # a pandas Series
        return given.to_frame().T.infer_objects()
    return given


def _is_of(model: ServedModel, champion: Champion) -> bool:
    """Whether what answers is that champion."""
    return (model.seq, model.version, model.sha256) == (champion.seq, champion.version, champion.identity.sha256)


def _one_row(model: ServedModel, row: Any) -> Any:  # noqa: ANN401 -- pandas or numpy
    """(1, f) prepared row of what is no mapping."""
    if isinstance(row, np.ndarray):
        rows = model.reader.rows(row.reshape(1, -1) if row.ndim == 1 else row)
    else:
        rows = model.reader.rows(_with_names(row))
    if len(rows) != 1:
        message = f"predict_one takes one row, found {len(rows)}; predict takes many"
        raise InvalidRows(message)
    return rows


_ROUTERS: weakref.WeakSet[ModelRouter] = weakref.WeakSet()


def _forget_in_child() -> None:
    """In a forked child the thread is gone and connections are the parent's: its routers refuse."""
    for router in list(_ROUTERS):
        router._refusal = ConfigurationError(  # noqa: SLF001 -- this module's own
            f"this router of {router.strategy!r} was made before the process forked; make a ModelRouter in each "
            f"process (gunicorn's post_fork, Celery's worker_process_init)"
        )
        router._answering = None  # noqa: SLF001 -- this module's own
        router._owns_services = False  # noqa: SLF001 -- connections are the parent's
        router._counter = AnswerCounter()  # noqa: SLF001 -- what was counted and waits is the parent's
        router._shadow = Shadow(router._recorder, router._counter)  # noqa: SLF001 -- as the counter
        router._following = threading.Lock()  # noqa: SLF001 -- whoever held it is not in this process
        _ROUTERS.discard(router)


os.register_at_fork(after_in_child=_forget_in_child)
