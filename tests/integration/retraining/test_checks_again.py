"""A check of an earlier date, run again months later, gives the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.ports import Window
from mlops.domain.records import Kind, Stage
from mlops.stages.drift import check_drift
from tests.support.features import InMemoryFeatures
from tests.support.services import FIRST, FakeServices, panel

AS_OF = FIRST + timedelta(days=560)
MONTHS_LATER = AS_OF + timedelta(days=120)
HORIZON = 5
"""Of `small_strategy`: the return of a date is known so many dates later."""
YEARS = panel(n_dates=700, shift=2.0, shifted_days=100)
POLICIES = {
    "data": DataPolicy(as_of="today", min_current_rows=40),
    "drift": DriftPolicy(rule="calibrated", calibration_days=400),
}


def as_it_was(on: date) -> pa.Table:
    """The view as it was on a day: no later row, and no return that was not known yet."""
    rows = YEARS.filter(pc.less_equal(YEARS.column("date"), on))
    known = pc.less_equal(rows.column("date"), on - timedelta(days=HORIZON))
    target = pc.if_else(known, rows.column("target_return"), pa.scalar(None, pa.float64()))
    return rows.set_column(rows.column_names.index("target_return"), "target_return", target)


class WatchedFeatures(InMemoryFeatures):
    """Remembers how far it was asked for rows."""

    def __init__(self, table: pa.Table) -> None:
        super().__init__(table)
        self.ends: list[date] = []

    def read(self, strategy: str, window: Window, columns: Sequence[str], **more: Any) -> pa.Table:
        self.ends.append(window.end)
        return super().read(strategy, window, columns, **more)


def checked(services: FakeServices, on: date, *, as_of: date | None, kind: Kind = Kind.CHECK) -> dict[str, Any]:
    services.with_policy(**POLICIES)
    services.today = on
    grant = services.granted(kind, Stage.DRIFT, as_of=as_of)
    outcome = check_drift(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    assert outcome.drift_report is not None
    return outcome.drift_report


def test_the_report_of_a_date_is_the_same_on_the_day_and_months_later(services: FakeServices) -> None:
    services.with_source(as_it_was(AS_OF))
    on_the_day = checked(services, AS_OF, as_of=None)
    services.with_source(as_it_was(MONTHS_LATER))
    services.timed.advance(120 * 86_400)
    again = checked(services, MONTHS_LATER, as_of=AS_OF)
    assert on_the_day["calibration"]["p_value"] is not None
    assert on_the_day["targets"]
    assert on_the_day.pop("timestamp") != again.pop("timestamp")
    assert again == on_the_day
    first, second = services.ledger.drift_reports("growth")
    for stored in (first, second):
        del stored["run_id"], stored["timestamp"]
    assert first == second


def test_no_row_later_than_the_date_is_asked_for(services: FakeServices) -> None:
    watched = WatchedFeatures(as_it_was(MONTHS_LATER))
    vars(services)["source"] = watched
    checked(services, MONTHS_LATER, as_of=AS_OF)
    assert watched.ends
    assert max(watched.ends) <= AS_OF


@pytest.mark.parametrize("wild", [1e9, np.nan])
def test_later_rows_change_nothing_whatever_they_hold(services: FakeServices, wild: float) -> None:
    services.with_source(as_it_was(AS_OF))
    today = FIRST + timedelta(days=700)
    before = checked(services, today, as_of=AS_OF)
    later = YEARS.filter(pc.greater(YEARS.column("date"), AS_OF))
    spoilt = later.set_column(later.column_names.index("noise"), "noise", pa.array(np.full(later.num_rows, wild)))
    services.with_source(pa.concat_tables([as_it_was(AS_OF), spoilt]))
    after = checked(services, today, as_of=AS_OF)
    assert after == before
