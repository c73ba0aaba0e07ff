"""The champion of a strategy in a backend's own process.

    router = ModelRouter("growth")
    answers = router.predict(frame, tickers=frame["ticker"], as_of=day)
    answer = router.predict_one(row, ticker="AAPL", as_of=day)

One thread asks the ledger once a second who the champion is. Another champion is loaded beside the one that answers,
and takes its place between two requests. Who has no server to ask goes on with what it has, and says how old that is.
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
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
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
from mlops.domain.live.rows import row_digests
from mlops.registry.opening import ModelServices
from mlops.serving.champion_files import ChampionRecord, LocalCopies, find_model
from mlops.serving.loading import ModelFile, serve
from mlops.serving.model import Prediction, Predictions, Recorder, ServedModel
from mlops.serving.places import folder_of_ledger
from mlops.serving.prediction_log import PredictionLog
from mlops.serving.row_keys import day_of, days_of, ticker_of, tickers_of

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.domain.records import Champion

log = structlog.get_logger(__name__)

POLL_S = 1.0
"""Between two questions to the ledger, one row by its key each."""
_NOTED_EVERY_S = 60.0
"""The record on disk is written anew so often, while nothing changes."""
_RETRY_S = (1.0, 30.0)
"""Until a champion that could not be loaded is tried again; twice as long each time."""
_IN_MEMORY = 2
"""Models that a router holds, of some MB each."""
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
        self._model: ServedModel | None = None
        """What answers; one assignment swaps it"""
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
        self._failed: _Key | None = None
        """The champion that could not be loaded"""
        self._retry_at, self._retry_s = 0.0, _RETRY_S[0]
        self._closing = threading.Event()
        self._following = threading.Lock()
        self.follow()
        self._thread = threading.Thread(target=self._follow_for_ever, name=f"acis-router-{strategy}", daemon=True)
        self._thread.start()
        _ROUTERS.add(self)

    # -- asking

    @property
    def model(self) -> ServedModel:
        """The version that answers now. Raises NoChampion, and what kept the champion from being loaded."""
        return self._model or self._raise_refusal()

    def predict(
        self,
        frame: Any,  # noqa: ANN401 -- pandas, Arrow or numpy
        *,
        tickers: Iterable[str] | None = None,
        as_of: date | Iterable[date] | None = None,
    ) -> Predictions:
        """Probabilities for a pandas frame, an Arrow table, or a numpy array in the model's order of columns.

        tickers, as_of: of the rows, one date for all or one each (dates, datetimes, Timestamps, datetime64); given
        both, the answers are recorded.
        Raises InvalidRows, NoChampion, what kept the champion from being loaded, and PredictionLogFull.
        """
        model = self._model or self._raise_refusal()
        rows = model.reader.rows(frame)
        dates = None if as_of is None else days_of(as_of, len(rows))
        named = None if tickers is None else tickers_of(tickers, len(rows))
        probability = model.predictor.probabilities(rows)
        if named is not None and dates is not None:
            # A copy: the caller may go on to calculate in the array that it is given.
            self._recorder.record(model, named, dates, probability.copy(), row_digests(rows))
        return Predictions(probability=probability, model=model)

    def predict_one(
        self,
        row: Any,  # noqa: ANN401 -- a mapping by name, a pandas row, or numbers in order
        *,
        ticker: str | None = None,
        as_of: date | None = None,
    ) -> Prediction:
        """Probability for one row: a mapping by name, a pandas Series or frame of one row, or a numpy row in order.

        Given ticker and date, the answer is recorded. Raises what `predict` raises.
        """
        model = self._model or self._raise_refusal()
        day = None if as_of is None else day_of(as_of)
        name = None if ticker is None else ticker_of(ticker)
        predictor = model.predictor
        slot = predictor.take()
        try:
            if type(row) is dict or isinstance(row, Mapping):
                slot.fill(model.reader.values(row), model.features)
            else:
                slot.row[:] = _one_row(model, row)
            probability = slot.ask()
            if name is not None and day is not None:
                found = np.array([probability], dtype=np.float32)
                self._recorder.record(model, [name], [day], found, row_digests(slot.row))
        finally:
            predictor.give(slot)
        return Prediction(probability, model.version, model.sha256)

    def status(self) -> RouterStatus:
        """What answers, and how sure it is that this is the champion."""
        model, problem = self._model, self._problem or (self._refusal if self._model is None else None)
        return RouterStatus(
            strategy=self.strategy,
            version=model.version if model else None,
            sha256=model.sha256 if model else None,
            seq=model.seq if model else self._seq,
            engine=model.engine if model else None,
            engine_check=model.check.reason if model else None,
            confirmed_age_s=None if self._confirmed is None else max(0.0, self._monotonic() - self._confirmed),
            problem=str(problem) if problem else None,
        )

    def flush(self) -> None:
        """Return when everything that was recorded before survives a kill of this process."""
        self._recorder.flush()

    def close(self) -> None:
        """End the following of the champion; answers end too, and what was recorded is brought to the ledger."""
        self._closing.set()
        self._stop_answering()
        if self._own_log is not None:
            self._own_log.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)
        with self._following:  # a champion that was being loaded has not come after the end
            self._stop_answering()
        if self._owns_services and "ledger" in vars(self._services):
            self._services.ledger.close()

    def _stop_answering(self) -> None:
        self._refusal = ConfigurationError(f"this router of {self.strategy!r} was closed; make another one")
        self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _raise_refusal(self) -> ServedModel:
        # Anew each time: one that is raised again and again grows a traceback.
        refusal = self._refusal
        again = type(refusal)(str(refusal))
        if isinstance(refusal, TemporaryError) and isinstance(again, TemporaryError):
            again.delay_s = refusal.delay_s
        raise again from refusal.__cause__

    # -- following

    def follow(self) -> None:
        """Ask the ledger once who the champion is, and load it where it is another one. Raises nothing expected."""
        with self._following:
            if not self._closing.is_set():
                self._follow()

    def _follow(self) -> None:
        try:
            champion = self._services.ledger.champion(self.strategy)
        except (TemporaryError, ConfigurationError) as exc:
            self._say(exc, "serving.ledger_away", next="answers go on with what is here")
            if self._model is None and self._confirmed is None:
                self._start_from_copy(exc)
            return
        if champion.version is None:
            self._empty(champion)
        elif self._model is None or not _is_of(self._model, champion):
            self._change_to(champion, champion.version)
        else:
            self._confirm(champion.version, self._model.sha256, champion.seq)

    def _follow_for_ever(self) -> None:
        while not self._closing.wait(self._poll_s):
            try:
                self.follow()
            except Exception:  # the edge of this thread: a defect must not end the following
                log.exception("serving.follow_failed", strategy=self.strategy, next="tried again in a second")

    def _change_to(self, champion: Champion, version: str) -> None:
        """Load a champion and let it answer; one that cannot be used leaves the one before in place."""
        now = self._monotonic()
        key = champion.seq, version, champion.identity.sha256
        if key == self._failed and now < self._retry_at:
            return
        before = self._model
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
            self._retry_s = _RETRY_S[0] if key != self._failed else min(2 * self._retry_s, _RETRY_S[1])
            self._failed, self._retry_at = key, now + self._retry_s
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
        self._model = model
        self._recent[model.sha256] = model
        self._recent.move_to_end(model.sha256)
        while len(self._recent) > _IN_MEMORY:
            self._recent.popitem(last=False)
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

    def _empty(self, champion: Champion) -> None:
        """Nobody is champion: the ledger decides, so nothing answers."""
        words = "has no champion any more: it was taken out of production" if champion.seq else "has no champion"
        self._refusal = NoChampion(
            f"strategy {self.strategy!r} {words}; `acis retrain {self.strategy}` trains and judges one, and "
            f"`acis promote` places one"
        )
        if self._model is not None:
            log.warning("serving.emptied", strategy=self.strategy, before=self._model.version, next="nothing answers")
        self._model = None
        self._confirm(None, None, champion.seq)

    def _confirm(self, version: str | None, sha256: str | None, seq: int) -> None:
        if self._problem is not None:
            log.info("serving.followed_again", strategy=self.strategy, version=version)
        self._problem = self._failed = None
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
        self._model, self._seq = model, record.seq
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


def _is_of(model: ServedModel, champion: Champion) -> bool:
    """Whether what answers is that champion."""
    return (model.seq, model.version, model.sha256) == (champion.seq, champion.version, champion.identity.sha256)


def _one_row(model: ServedModel, row: Any) -> Any:  # noqa: ANN401 -- pandas or numpy
    """(1, f) prepared row of what is no mapping."""
    if isinstance(row, np.ndarray):
        rows = model.reader.rows(row.reshape(1, -1) if row.ndim == 1 else row)
    # A frame that is asked for what it lacks looks among its columns first: 4 µs.
    elif not hasattr(row, "columns") and hasattr(row, "to_frame"):  # a pandas Series
        return model.reader.rows(row.to_frame().T.infer_objects())
    else:
        rows = model.reader.rows(row)
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
        router._model = None  # noqa: SLF001 -- this module's own
        router._owns_services = False  # noqa: SLF001 -- connections are the parent's
        router._following = threading.Lock()  # noqa: SLF001 -- whoever held it is not in this process
        _ROUTERS.discard(router)


os.register_at_fork(after_in_child=_forget_in_child)
