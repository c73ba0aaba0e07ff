"""What could be rolled back to is looked at before it is needed: damaged files are findings that stop nothing."""

from __future__ import annotations

from contextlib import suppress

import pytest

from admin.alerts import alerts_of_registry
from mlops.domain.errors import RegistryUnavailable
from mlops.domain.policies import Strategy
from mlops.registry import maintenance
from mlops.registry.maintenance import TARGETS_EVERY_S, RollbackTargets, check_rollback_targets
from mlops.registry.registry_check import stops
from mlops.strategies.file import Strategies
from tests.support.live import promoted
from tests.support.services import FakeServices, small_strategy


def test_a_damaged_target_is_told_once_stops_nothing_and_is_settled_when_it_is_whole(services: FakeServices) -> None:
    one, _ = promoted(services, "made-1"), promoted(services, "made-2", rounds=9)
    ledger, strategy = services.ledger, services.strategies["growth"]
    assert check_rollback_targets(services, strategy) == []
    whole = services.fake_registry.files.pop((one.name, one.version))
    (words,) = check_rollback_targets(services, strategy)
    assert "version 1 of 'growth', a former champion, cannot be rolled back to" in words
    check_rollback_targets(services, strategy)
    assert [finding.words for finding in ledger.damaged_targets("growth")] == [words]
    assert ledger.damaged_targets("value") == []
    assert (ledger.registry_findings(), stops(ledger, strategy)) == ([], ())
    assert [(alert.level, alert.words) for alert in alerts_of_registry(ledger)] == [("warn", words)]
    services.fake_registry.files[one.name, one.version] = whole
    assert check_rollback_targets(services, strategy) == []
    assert ledger.damaged_targets() == []


def test_the_champions_own_file_is_no_target(services: FakeServices) -> None:
    one = promoted(services, "made-1")
    services.fake_registry.files.pop((one.name, one.version))
    assert check_rollback_targets(services, services.strategies["growth"]) == []


def test_each_strategy_is_looked_at_once_a_day_and_again_where_the_registry_was_away(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = promoted(services, "made-1"), promoted(services, "made-2", rounds=9)
    now = [0.0]
    targets = RollbackTargets(monotonic=lambda: now[0])

    def away(*_: object) -> None:
        raise RegistryUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(services.fake_registry, "version", away)
        with pytest.raises(RegistryUnavailable):
            targets.step(services)
    targets.step(services)
    services.fake_registry.files.pop((one.name, one.version))
    now[0] = TARGETS_EVERY_S - 1
    targets.step(services)
    assert services.ledger.damaged_targets() == []
    now[0] = TARGETS_EVERY_S
    targets.step(services)
    assert len(services.ledger.damaged_targets()) == 1


def test_a_strategy_whose_files_cannot_be_read_keeps_no_other_from_being_looked_at(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"growth": services.strategies["growth"], "value": small_strategy("value")}
    vars(services)["strategies"] = Strategies(both)
    now, looks = [0.0], list[str]()

    def look(_: object, strategy: Strategy) -> list[str]:
        looks.append(strategy.name)
        if strategy.name == "growth":
            raise RegistryUnavailable
        return []

    monkeypatch.setattr(maintenance, "check_rollback_targets", look)
    targets = RollbackTargets(monotonic=lambda: now[0])
    for now[0] in (0.0, 30.0, 60.0, TARGETS_EVERY_S + 30.0, TARGETS_EVERY_S + 60.0):
        with suppress(RegistryUnavailable):
            targets.step(services)
    assert looks == ["growth", "value", "growth", "value", "growth"]
