"""One stack for all acceptance tests, and what its demo left, noted before any test changes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devstack.demo import SAMPLE_PASSES, sample_passes
from mlops.domain.ports import ModelVersion
from mlops.domain.promotion.records import Promotion
from mlops.domain.records import Kind, RunView
from tests.support.flower import FlowerApi
from tests.support.notebook import Notebook, open_notebook
from tests.support.served_stack import LEASE_S, RECONCILE_S, RENEW_S, ServedStack, Terminal, serve

STRATEGIES = ("direction", "dividend", "growth", "momentum", "value")
IN_PRODUCTION = ("dividend", "growth", "momentum", "value")
FIRST, SECOND = (day.isoformat() for _, day in SAMPLE_PASSES)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the documented demo left behind."""

    runs: dict[tuple[str, str], RunView]
    """By as-of date and strategy."""
    everything: list[RunView]
    """All runs but the scorings."""
    scorings: dict[str, RunView]
    """By strategy."""
    versions: dict[str, list[ModelVersion]]
    """By strategy."""
    promotions: dict[str, list[Promotion]]
    """By strategy."""
    tasks: dict[str, dict[str, Any]]
    """Flower's, by task id."""
    artifacts: list[Path]
    """Files of MLflow's artifact store."""

    def of_pass(self, day: str) -> dict[str, RunView]:
        """One pass's runs by strategy."""
        return {strategy: view for (as_of, strategy), view in self.runs.items() if as_of == day}


@pytest.fixture(scope="package")
def stack() -> Iterator[ServedStack]:
    """The documented demo, serving."""
    clockwork = {
        "ACIS_LEASE_S": str(LEASE_S),
        "ACIS_RENEW_S": str(RENEW_S),
        "ACIS_RECONCILE_S": str(RECONCILE_S),
        "ACIS_TRAIN_N_JOBS": "1",
    }
    with serve(clockwork) as served:
        note_demo(served)
        yield served


_noted: dict[Path, Demo] = {}


def note_demo(served: ServedStack) -> None:
    """Before the first test runs: any of them may train and promote."""
    ledger, registry = served.services.ledger, served.services.registry
    found = ledger.runs(limit=1000)
    everything = [view for view in found if view.kind is not Kind.SCORE]
    slots = {one.slot for one in sample_passes()}
    names = {strategy: served.services.strategies[strategy].model_name for strategy in STRATEGIES}
    _noted[served.var_dir] = Demo(
        runs={(str(view.as_of), view.strategy): view for view in everything if view.slot in slots},
        everything=everything,
        scorings={view.strategy: view for view in found if view.kind is Kind.SCORE},
        versions={strategy: registry.versions(name) for strategy, name in names.items()},
        promotions={strategy: list(ledger.promotions(strategy)) for strategy in STRATEGIES},
        tasks=FlowerApi(served.endpoints).tasks(),
        artifacts=[path for path in (served.var_dir / "mlflow-artifacts").rglob("*") if path.is_file()],
    )


@pytest.fixture(scope="package")
def demo(stack: ServedStack) -> Demo:
    """What the two passes left."""
    return _noted[stack.var_dir]


@pytest.fixture
def terminal(stack: ServedStack, tmp_path: Path) -> Terminal:
    """Another terminal, in another folder, while the stack serves."""
    return Terminal(var_dir=stack.var_dir, folder=tmp_path)


@pytest.fixture
def lonely_terminal(tmp_path: Path) -> Terminal:
    """A terminal while nothing is up."""
    return Terminal(var_dir=tmp_path / "none", folder=tmp_path)


@pytest.fixture(scope="package")
def notebook(stack: ServedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """The guide's Python blocks run here, in another folder, one after the other."""
    folder = tmp_path_factory.mktemp("notebook")
    # As wide as the guide's own output; pandas leaves columns out in a narrower terminal.
    environment = Terminal(var_dir=stack.var_dir, folder=folder).environment(COLUMNS="120")
    with open_notebook(folder, environment) as opened:
        yield opened
