"""Drift checks over a range of past dates, in a namespace of their own. Called by `acis backfill`.

A date is a run of kind `check` like any other: the same stage, the same ledger. Its slot is the date with a
digest of the policy, so that a second backfill finds what the first one did, whether it ended, was interrupted or
runs at this moment. Nothing is trained, promoted, shown in the registry or counted for the live verdicts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np

from mlops.domain.errors import ConfigurationError, EmptyWindow
from mlops.domain.panel import counted_dates
from mlops.domain.ports import Column, DateFaults, FeatureSource, Window
from mlops.domain.records import LIVE, Accepted, Executor, Kind, RunState, RunView
from mlops.domain.windows import calibration_window, drift_windows
from mlops.reporting.narrative import error_of
from mlops.runs.inline import run_inline
from mlops.runs.request import run_request
from mlops.stages.drift_windows import columns_read

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.bootstrap import Services
    from mlops.domain.drift.verdict import Verdict
    from mlops.domain.policies import Rule, Strategy
    from mlops.domain.sampling import RowSample

# ---- A feature source of which one strategy's rows over a range are in memory
#
# For many checks of neighbouring dates, which read nearly the same rows.


class CachedSource:
    """`mlops.domain.ports.FeatureSource`: held rows for what lies in the range, the source itself for anything else."""

    def __init__(self, source: FeatureSource, strategy: str, window: Window, columns: Sequence[str]) -> None:
        self._source = source
        self._strategy = strategy
        self._window = window
        self._view = source.columns()
        self._rows = source.read(strategy, window, list(dict.fromkeys(["ticker", "date", *columns])))
        self._days = np.asarray(self._rows.column("date").to_numpy(zero_copy_only=False), dtype="datetime64[D]")

    def columns(self) -> tuple[Column, ...]:
        """The view's, as they were when the rows were read."""
        return self._view

    def latest_date(self, strategy: str | None = None, *, until: date | None = None) -> date | None:
        """The source's."""
        return self._source.latest_date(strategy, until=until)

    def dates(self, strategy: str, window: Window) -> list[date]:
        """Distinct dates with rows, ascending."""
        if not self._holds(strategy, window):
            return self._source.dates(strategy, window)
        first, after = self._between(window)
        return [day.astype(object) for day in np.unique(self._days[first:after])]

    def count(self, strategy: str, window: Window) -> int:
        """Rows in the window."""
        if not self._holds(strategy, window):
            return self._source.count(strategy, window)
        first, after = self._between(window)
        return after - first

    def rows_by_date(self, strategy: str, window: Window) -> dict[date, int]:
        """How many rows each date of the window has, ascending."""
        if not self._holds(strategy, window):
            return self._source.rows_by_date(strategy, window)
        first, after = self._between(window)
        days, counts = np.unique(self._days[first:after], return_counts=True)
        return {day.astype(object): int(n) for day, n in zip(days, counts, strict=True)}

    def date_faults(self, strategy: str, window: Window) -> DateFaults:
        """The source's."""
        return self._source.date_faults(strategy, window)

    @contextmanager
    def snapshot(self) -> Iterator[FeatureSource]:
        """The held rows are of one state anyway."""
        yield self

    def read(
        self, strategy: str, window: Window, columns: Sequence[str], *, sample: RowSample | None = None
    ) -> pa.Table:
        """Rows of the window; of the held ones no copy."""
        is_held = self._holds(strategy, window) and set(columns) <= set(self._rows.column_names)
        if sample is not None or not is_held:
            return self._source.read(strategy, window, columns, sample=sample)
        first, after = self._between(window)
        return self._rows.slice(first, after - first).select(list(columns))

    def read_batches(self, strategy: str, window: Window, columns: Sequence[str]) -> Generator[pa.RecordBatch]:
        """The source's: who reads in batches wants no more of them in memory."""
        return self._source.read_batches(strategy, window, columns)

    def _holds(self, strategy: str, window: Window) -> bool:
        return strategy == self._strategy and self._window.start <= window.start and window.end <= self._window.end

    def _between(self, window: Window) -> tuple[int, int]:
        borders = np.array([window.start, window.end], dtype="datetime64[D]")
        first, after = np.searchsorted(self._days, borders, side="right")
        return int(first), max(int(first), int(after))


#: A range of no more values is read at once (400 MB); of a longer one each check reads its own rows.
HELD_VALUES = 50_000_000
#: Longest name of a namespace that the ledger keeps.
_NAMESPACE_LENGTH = 63


@dataclass(frozen=True, kw_only=True)
class DateChecked:
    """Result of the check of one date."""

    as_of: date
    run_id: str
    state: Literal["checked", "done before", "failed", "stopped"]
    """`done before`: by an earlier backfill, or by another one at the same time. `stopped`: the run was cancelled,
    by a person or because a server did not answer; the dates after it were not tried."""
    verdict: Verdict | None
    raw_verdict: Verdict | None
    error: str


def backfill_dates(
    source: FeatureSource, strategy: Strategy, *, start: date, end: date | None, every: int = 1
) -> list[date]:
    """Every `every`-th date that counts from `start` to `end` (None: the newest), both included.

    Raises EmptyWindow where there is none, ConfigurationError where the range runs backwards.
    """
    newest = source.latest_date(strategy.name)
    last = end or newest or start
    if newest is not None and start > last:
        asked = f"--to {end}" if end else f"the newest row, which is of {newest}"
        raise ConfigurationError(f"--from {start} lies after {asked}; give an earlier --from")
    window = Window(start=start - timedelta(days=1), end=last)
    days = counted_dates(source, strategy.name, window, min_share=strategy.data.min_date_share).dates(
        strategy.name, window
    )
    if not days:
        raise EmptyWindow(
            f"strategy {strategy.name!r} has no rows from {start} to {last}; its newest row is of "
            f"{newest or 'no date'}: load its features, or give another range"
        )
    return days[::every]


def checked_namespace(namespace: str) -> str:
    """The name itself. Raises ConfigurationError for that of the live loop, or one that cannot be kept."""
    if namespace == LIVE:
        raise ConfigurationError(f"--namespace {LIVE!r} is the loop's own; a backfill needs another name")
    if not namespace or not namespace.isprintable() or len(namespace) > _NAMESPACE_LENGTH:
        raise ConfigurationError(
            f"--namespace {namespace[:40]!r} cannot be kept; give 1 to {_NAMESPACE_LENGTH} printable characters"
        )
    return namespace


def backfill(
    services: Services,
    strategy: str,
    days: Sequence[date],
    *,
    namespace: str,
    drift_rule: Rule | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[DateChecked]:
    """Check each date that is not done yet; one result per date, as they come. A date that fails stops nothing.

    `is_stopped` is asked before each date. Days ascend, so that persistence sees what came before.
    Raises UnknownStrategy, SourceUnavailable, MissingColumn, LedgerUnavailable.
    """
    if not days:
        return
    policy = services.policies[strategy].overridden(drift_rule=drift_rule)
    over_range = services.reading_from(_held(services.source, policy, days))
    for day in days:
        if is_stopped():
            return
        result = _checked(over_range, policy, day, namespace=namespace, drift_rule=drift_rule)
        yield result
        if result.state == "stopped":
            return


def _held(source: FeatureSource, strategy: Strategy, days: Sequence[date]) -> FeatureSource:
    """The source with the range's rows in memory, where they are few enough."""
    reference, _ = drift_windows(days[0], strategy.data)
    window = Window(start=calibration_window(reference, strategy.drift.calibration_days).start, end=days[-1])
    features, targets = columns_read(source.columns(), strategy)
    columns = ["ticker", "date", *features, *targets]
    if source.count(strategy.name, window) * len(columns) > HELD_VALUES:
        return source
    return CachedSource(source, strategy.name, window, columns)


def _checked(
    services: Services, strategy: Strategy, day: date, *, namespace: str, drift_rule: Rule | None
) -> DateChecked:
    slot = f"{day} {_digest(strategy)}"
    # A slot is one run for ever: a date that failed is tried again in the next slot.
    for trial in itertools.count(1):
        request = run_request(
            services.policies,
            strategy.name,
            Kind.CHECK,
            reason=f"backfill of {day}",
            requested_by="backfill",
            slot=slot if trial == 1 else f"{slot} {trial}",
            namespace=namespace,
            as_of=day,
            drift_rule=drift_rule,
            executor=Executor.INLINE,
        )
        while True:
            accepted: list[Accepted] = []
            view = run_inline(services, request, on_accept=accepted.append, on_stage=lambda *_: None)
            # Another backfill was at another date of this strategy; its run has ended now.
            if view.slot == request.slot:
                break
        if accepted[0].created or view.state is RunState.SUCCEEDED:
            return _date_checked(day, view, is_ours=accepted[0].created)
    raise AssertionError("unreachable: trials do not end")


def _date_checked(day: date, view: RunView, *, is_ours: bool) -> DateChecked:
    result = view.stages[0].result or {}
    if view.state is RunState.SUCCEEDED:
        state: Literal["checked", "done before", "failed", "stopped"] = "checked" if is_ours else "done before"
    else:
        state = "stopped" if view.state is RunState.CANCELLED else "failed"
    return DateChecked(
        as_of=day,
        run_id=view.run_id,
        state=state,
        verdict=result.get("verdict"),
        raw_verdict=result.get("raw_verdict"),
        error=error_of(view),
    )


def _digest(strategy: Strategy) -> str:
    """Digest of everything that decides what a check finds."""
    decides = {
        "data": asdict(strategy.data),
        "drift": asdict(strategy.drift),
        "horizon_dates": strategy.training.horizon_dates,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
