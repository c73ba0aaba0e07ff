"""Demonstration of `make run`: passes of the loop over all strategies, through the queues.

On the sample two passes, one in calm weather and one inside the crash of March 2020; after each its champions predict
the dates that follow, day by day, and at the end all of it is scored. On the user's own data one pass, as of the newest
date. A pass's slot is its date, so a second start finds the runs instead of repeating them; so it is with predictions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import TypeVar

import structlog

from mlops.bootstrap import Services
from mlops.domain.errors import InvalidPolicyEdit, TemporaryError
from mlops.domain.panel import newest_counted
from mlops.domain.records import Kind, RunView
from mlops.domain.run_states import TERMINAL
from mlops.runs.request import run_request, submit

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)

SAMPLE_PASSES = (
    ("before the crash", date(2019, 12, 13)),
    ("inside the crash of March 2020", date(2020, 3, 16)),
)
SAMPLE_PREDICTIONS = (
    (date(2019, 12, 16), date(2020, 3, 16)),
    (date(2020, 3, 17), date(2020, 4, 30)),
)
"""Dates that the champions of each pass predict: until the next pass has decided, and until March has its outcomes."""
SCORED_AS_OF = SAMPLE_PREDICTIONS[-1][1]
"""Outcomes of the last 20 trading days are not known then, so that estimates are seen too."""
_SCORED_SLOT = f"demo {SCORED_AS_OF} scored"
#: The ledger is asked this often for all runs of a pass.
POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over all strategies."""

    title: str
    as_of: date | None
    """None: what each strategy's policy says."""
    slot: str | None
    """None: a fresh run each time."""
    predicts: tuple[date, date] | None = None
    """First and last date that its champions predict then; None: none."""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Past dates that a strategy's champion has predicted."""

    strategy: str
    version: str
    first: date
    last: date
    n_predictions: int


def sample_passes() -> list[Pass]:
    """The demo's passes."""
    return [
        Pass(title=title, as_of=as_of, slot=f"demo {as_of}", predicts=predicts)
        for (title, as_of), predicts in zip(SAMPLE_PASSES, SAMPLE_PREDICTIONS, strict=True)
    ]


def own_data_pass(services: Services) -> list[Pass]:
    """One pass over the user's own data, as of its newest date that counts. Raises SourceUnavailable, MissingColumn."""
    today = services.feature_day()
    dates = [
        newest_counted(services.source, name, min_share=strategy.data.min_date_share, today=today)
        for name, strategy in services.strategies.items()
    ]
    newest = max((day for day in dates if day is not None), default=None)
    return [Pass(title="on your data", as_of=newest, slot=None)]


def run_pass(
    services: Services,
    one: Pass,
    *,
    on_change: Callable[[Sequence[RunView]], None],
    check: Callable[[], None] = lambda: None,
) -> list[RunView]:
    """Open a run per strategy and watch them to their ends; the terminal runs, in the strategies' order.

    `check` is called with each look: it raises where nobody is left who could end the runs, and says what is away
    meanwhile: a ledger that does not answer is waited for.
    """
    return _watched(services, _patiently(lambda: _opened(services, one), check), on_change=on_change, check=check)


def predict_past(
    services: Services,
    one: Pass,
    *,
    on_date: Callable[[str, date, int, int], None],
    check: Callable[[], None] = lambda: None,
) -> list[Predicted]:
    """Let each champion predict the pass's dates, a date from its rows alone; what was written now.

    A champion that was trained as of a later date predicts none of its past: it has seen the outcomes. What is there
    already is not written again.
    """
    if one.predicts is None:
        return []
    return _patiently(lambda: list(_predictions(services, *one.predicts, on_date=on_date)), check)  # type: ignore[misc]


def _predictions(
    services: Services, first: date, last: date, *, on_date: Callable[[str, date, int, int], None]
) -> Iterator[Predicted]:
    for name, strategy in services.strategies.items():
        champion = services.ledger.champion(name)
        trained = champion.trained_as_of or champion.as_of
        if champion.version is None or (trained is not None and trained >= last):
            continue
        begin = first if trained is None else max(first, trained + timedelta(days=1))
        if services.ledger.prediction_days(name, begin, last):
            continue
        from mlops.stages.live.predict import predict_dates  # noqa: PLC0415 -- a second start needs no XGBoost

        n = predict_dates(
            services,
            strategy,
            champion,
            begin,
            last,
            batch_id=f"demo {name} {begin} {last}",
            on_date=partial(on_date, name),
        )
        if n:
            yield Predicted(strategy=name, version=champion.version, first=begin, last=last, n_predictions=n)


def score_past(
    services: Services,
    *,
    on_change: Callable[[Sequence[RunView]], None],
    check: Callable[[], None] = lambda: None,
) -> list[RunView]:
    """Score what the demo's champions predicted, on the workers; the terminal runs, also those of an earlier start."""
    while True:
        views = _watched(services, _patiently(lambda: _scorings(services), check), on_change=on_change, check=check)
        # A strategy has one scoring at a time: what was found may be the reconciler's, of another date.
        if all(view.slot == _SCORED_SLOT for view in views):
            return views


def _scorings(services: Services) -> list[str]:
    run_ids = []
    for name in services.ledger.predicted_to(list(services.strategies)):
        request = run_request(
            services.policies,
            name,
            Kind.SCORE,
            reason="make run: what the predictions were worth",
            requested_by="make run",
            slot=_SCORED_SLOT,
            as_of=SCORED_AS_OF,
        )
        run_ids.append(submit(services, request).run_id)
    return run_ids


def _watched(
    services: Services,
    run_ids: Sequence[str],
    *,
    on_change: Callable[[Sequence[RunView]], None],
    check: Callable[[], None],
) -> list[RunView]:
    while True:
        views = _patiently(lambda: [services.ledger.run(run_id) for run_id in run_ids], check)
        on_change(views)
        if all(view.state in TERMINAL for view in views):
            return views
        check()
        time.sleep(POLL_S)


def _patiently(ask: Callable[[], list[Answer]], check: Callable[[], None]) -> list[Answer]:
    told = ""
    while True:
        try:
            return ask()
        except TemporaryError as exc:
            if str(exc) != told:
                told = str(exc)
                log.warning("pass.waits", error=told)
            check()
            time.sleep(POLL_S)


def _opened(services: Services, one: Pass) -> list[str]:
    """Ids of the runs; safe to repeat: a slot's run, or the active one, is found again."""
    run_ids = []
    for name in services.strategies:
        try:
            request = run_request(
                services.policies,
                name,
                Kind.PIPELINE,
                reason=f"make run: {one.title}",
                requested_by="make run",
                slot=one.slot,
                as_of=one.as_of,
            )
        except InvalidPolicyEdit as exc:
            log.warning("strategy.left_out", strategy=name, error=str(exc))
            continue
        run_ids.append(submit(services, request).run_id)
    return run_ids
