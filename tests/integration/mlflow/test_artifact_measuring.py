"""Bytes of the registry's runs, measured once each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mlops.domain.ports import RunStart
from mlops.registry import maintenance
from mlops.registry.maintenance import MEASURING_PAUSE_S, MEASURING_WALK_S, ArtifactMeasuring
from tests.support.services import FakeServices

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


class PagedRegistry:
    """Two pages of ended runs; counts what it is asked."""

    def __init__(self, n_runs: int, page_rows: int) -> None:
        self.runs = [RunStart(run_id=f"r{n}", started_at=BEGAN + timedelta(days=n)) for n in range(n_runs)]
        self.page_rows = page_rows
        self.measured: list[str] = []
        self.searches = 0

    def ended_runs(self, *, page: str | None = None) -> tuple[list[RunStart], str | None]:
        self.searches += 1
        start = int(page or 0)
        end = start + self.page_rows
        return self.runs[start:end], str(end) if end < len(self.runs) else None

    def artifact_bytes(self, run_id: str) -> int:
        self.measured.append(run_id)
        return 1000


@pytest.fixture
def registry(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> PagedRegistry:
    monkeypatch.setattr(maintenance, "RUNS_A_LOOK", 2)
    paged = PagedRegistry(5, 3)
    vars(services)["registry"] = paged
    return paged


def test_every_run_is_measured_once_some_at_a_look(services: FakeServices, registry: PagedRegistry) -> None:
    time = [0.0]
    measuring = ArtifactMeasuring(clock=lambda: time[0])
    assert [measuring.step(services) for _ in range(4)] == [2, 1, 2, 0]
    assert registry.measured == ["r0", "r1", "r2", "r3", "r4"]
    assert services.ledger.bytes_by_month() == {"2026-11": 5000}


def test_when_all_is_measured_the_registry_is_left_alone_for_a_while(
    services: FakeServices, registry: PagedRegistry
) -> None:
    time = [0.0]
    measuring = ArtifactMeasuring(clock=lambda: time[0])
    for _ in range(3):
        measuring.step(services)
    asked = registry.searches
    measuring.step(services)
    assert registry.searches == asked
    registry.runs.insert(0, RunStart(run_id="new", started_at=BEGAN))
    time[0] += MEASURING_PAUSE_S
    assert measuring.step(services) == 1


def test_what_ends_after_a_start_without_any_run_is_measured_a_minute_later(
    services: FakeServices, registry: PagedRegistry
) -> None:
    time, runs, registry.runs = [0.0], registry.runs, []
    measuring = ArtifactMeasuring(clock=lambda: time[0])
    assert measuring.step(services) == 0
    registry.runs = runs[:2]
    time[0] += MEASURING_PAUSE_S
    assert measuring.step(services) == 2


def test_older_pages_are_walked_once_a_day(services: FakeServices, registry: PagedRegistry) -> None:
    time = [0.0]
    measuring = ArtifactMeasuring(clock=lambda: time[0])
    for _ in range(3):
        measuring.step(services)
    registry.runs.append(RunStart(run_id="late", started_at=BEGAN))
    for _ in range(3):
        time[0] += MEASURING_PAUSE_S
        assert measuring.step(services) == 0
    time[0] += MEASURING_WALK_S
    assert [measuring.step(services) for _ in range(2)] == [0, 1]
