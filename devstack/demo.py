"""Demonstration of `make run`: passes of the loop over all strategies, through the queues.

On the sample two passes, one in calm weather and one inside the crash of March 2020; on the user's own data
one, as of the newest date. A pass's slot is its date, so a second start finds the runs instead of repeating them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
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


def sample_passes() -> list[Pass]:
    """The demo's passes."""
    return [Pass(title=title, as_of=as_of, slot=f"demo {as_of}") for title, as_of in SAMPLE_PASSES]


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
    run_ids = _patiently(lambda: _opened(services, one), check)
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
