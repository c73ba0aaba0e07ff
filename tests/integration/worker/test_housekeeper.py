"""What is old is taken away by a clock that goes evenly, or not at all."""

from __future__ import annotations

import threading
from typing import cast

import pytest
from celery import Celery
from structlog.testing import capture_logs

from tests.support.services import FakeServices
from worker import reconciler
from worker.reconciler import Housekeeper

HOUR_S, YEAR_S = 3600.0, 365 * 86_400.0


class Hours:
    """A reconciler, the time by every clock, and how often it tidied."""

    def __init__(self, services: FakeServices) -> None:
        self.services, self.monotonic, self.tidied = services, 0.0, 0
        self.keeper = Housekeeper(
            cast("Celery", None), services, leads=threading.Event(), stop=threading.Event(),
            monotonic=lambda: self.monotonic,
        )  # fmt: skip

    def tidy(self, _: object) -> None:
        self.tidied += 1

    def passes(self) -> int:
        """An hour by all clocks; how often it has tidied since."""
        self.services.timed.advance(HOUR_S)
        self.monotonic += HOUR_S
        before = self.tidied
        self.keeper.step()
        return self.tidied - before


@pytest.fixture
def hours(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> Hours:
    hours = Hours(services)
    monkeypatch.setattr(services, "now", services.ledger.now)
    monkeypatch.setattr(reconciler, "let_replies_expire", lambda _: 0)
    monkeypatch.setattr(reconciler, "tidy", hours.tidy)
    return hours


def test_a_clock_that_jumps_by_a_year_makes_nothing_old_until_it_has_stood_for_a_day(hours: Hours) -> None:
    assert hours.passes() == 1
    hours.services.timed.advance(YEAR_S)
    with capture_logs() as logs:
        assert hours.passes() == 0
    assert [entry["was_moved"] for entry in logs if entry["event"] == "housekeeping.waits"] == [True]
    assert [hours.passes() for _ in range(25)][-2:] == [1, 1]


def test_a_clock_that_goes_back_again_has_cost_nothing(hours: Hours) -> None:
    hours.passes()
    hours.services.timed.advance(YEAR_S)
    hours.passes()
    hours.services.timed.advance(-YEAR_S)
    assert [hours.passes() for _ in range(20)] == [0] * 20


def test_a_database_whose_clock_is_not_this_machines_says_of_nothing_that_it_is_old(
    hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(reconciler, "let_replies_expire", lambda _: 0)
    monkeypatch.setattr(reconciler, "tidy", hours.tidy)
    hours.services.timed.advance(YEAR_S)  # the services' own clock stands
    assert hours.passes() == 0
