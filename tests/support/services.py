"""The system's services with fakes behind them, a small panel of features, and strategies that train in a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from config.settings import Settings
from mlops.bootstrap import Services
from mlops.domain.policies import DataPolicy, DriftPolicy, PromotionPolicy, Strategy, TrainingPolicy
from mlops.domain.records import Grant, Kind, Publication, Stage
from mlops.runs.lease import Holder, LeaseKeeper
from mlops.runs.request import run_request
from mlops.runs.switching import NoAnswer
from mlops.strategies.file import Strategies
from tests.support.features import InMemoryFeatures
from tests.support.ledgers import TimedLedger, record_file
from tests.support.registry import FakeRegistry

FIRST = date(2020, 1, 1)
N_DATES = 200
LAST = FIRST + timedelta(days=N_DATES - 1)
TICKERS = 8
FEATURES = ("momentum", "value", "noise")
MODEL = "acis_growth_classifier"


def panel(
    strategy: str = "growth", *, shift: float = 0.0, shifted_days: int = 7, n_dates: int = N_DATES, seed: int = 3
) -> pa.Table:
    """One row per ticker and day; the return follows `momentum`; `shift` moves all features of the last days."""
    generator = np.random.default_rng(seed)
    n = n_dates * TICKERS
    x = generator.normal(size=(n, len(FEATURES)))
    target = 0.02 * x[:, 0] + generator.normal(size=n) * 0.01
    x[n - shifted_days * TICKERS :] += shift
    return pa.table(
        {
            "ticker": [f"T{number}" for _ in range(n_dates) for number in range(TICKERS)],
            "date": pa.array(
                [FIRST + timedelta(days=day) for day in range(n_dates) for _ in range(TICKERS)], pa.date32()
            ),
            "strategy": [strategy] * n,
            **{name: x[:, place] for place, name in enumerate(FEATURES)},
            "target_return": target,
        }
    )


def small_strategy(name: str = "growth", **policies: Any) -> Strategy:
    """A strategy for `panel`, which registers what it judged; policies replace the small ones."""
    return Strategy(
        **{
            "name": name,
            "data": DataPolicy(as_of="latest", min_current_rows=40),
            "training": TrainingPolicy(
                horizon_dates=5,
                training_days=N_DATES,
                holdout_dates=20,
                embargo_dates=0,
                refit=False,
                segment_rounds=5,
                params={"n_estimators": 5, "max_depth": 2},
                device="cpu",
            ),
            # The panel is too short a history to calibrate on.
            "drift": DriftPolicy(rule="raw"),
            "promotion": PromotionPolicy(min_accuracy=0.6),
            **policies,
        }
    )


@dataclass
class RecordingDispatcher:
    """Implements `mlops.domain.ports.Dispatcher`; a broker that answers or does not."""

    answers: bool = True
    sent: list[Publication] = field(default_factory=list)

    def publish(self, publication: Publication) -> bool:
        if self.answers:
            self.sent.append(publication)
        return self.answers

    def ask(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> object:
        """Nobody answers."""
        raise NoAnswer(f"{name} within {timeout_s:g} s")

    def flush(self) -> None:
        """Nothing waits."""


class FakeServices(Services):
    """Services over a ledger of tests and fakes."""

    def __init__(
        self,
        settings: Settings,
        timed: TimedLedger,
        strategies: Mapping[str, Strategy],
        table: pa.Table,
        *,
        today: date = LAST,
    ) -> None:
        super().__init__(settings)
        self.timed = timed
        self.fakes: dict[str, Any] = {
            "strategies": Strategies(strategies),
            "ledger": timed.ledger,
            "source": InMemoryFeatures(table),
            "registry": FakeRegistry(recorded=partial(record_file, timed.ledger)),
            "dispatcher": RecordingDispatcher(),
        }
        # What `cached_property` would keep.
        vars(self).update(self.fakes)
        self.today = today

    def now(self) -> datetime:
        return datetime(self.today.year, self.today.month, self.today.day, 12, tzinfo=UTC)

    @property
    def fake_registry(self) -> FakeRegistry:
        return cast("FakeRegistry", self.registry)

    @property
    def sent(self) -> list[Publication]:
        """What was published."""
        return cast("RecordingDispatcher", self.dispatcher).sent

    def with_source(self, table: pa.Table) -> None:
        """Other rows from now on."""
        vars(self)["source"] = InMemoryFeatures(table)

    def granted(self, kind: Kind, stage: Stage, strategy: str = "growth", **asked: Any) -> Grant:
        """A claimed first stage of a new run."""
        asked = {"reason": "a test", "requested_by": "test", **asked}
        accepted = self.ledger.accept(run_request(self.strategies, strategy, kind, **asked))
        assert accepted.created, f"a {kind} run is active already"
        return self.claimed(accepted.run_id, stage)

    def claimed(self, run_id: str, stage: Stage) -> Grant:
        """The stage of an accepted run, claimed."""
        grant = self.ledger.claim(run_id, stage, worker="w1")
        assert grant is not None, f"{stage} of {run_id} could not be claimed"
        return grant

    def keeper(self, grant: Grant, *, silent_s: float = 0.0, after_writes: int = 0) -> LeaseKeeper:
        """A keeper without its thread, last confirmed so many seconds ago from the write after so many on."""
        times = iter([0.0] * (1 + after_writes))
        return LeaseKeeper(
            self.ledger,
            grant,
            Holder(worker="w1", lease_s=60.0, renew_s=10.0),
            monotonic=lambda: next(times, silent_s),
        )

    def with_policy(self, strategy: str = "growth", **policies: Any) -> None:
        """Replace policies of a strategy for later runs."""
        known = {name: self.strategies[name] for name in self.strategies}
        known[strategy] = replace(known[strategy], **policies)
        vars(self)["strategies"] = Strategies(known)


def fake_services(
    folder: Path, timed: TimedLedger, *strategies: Strategy, table: pa.Table | None = None, **settings: Any
) -> FakeServices:
    """Services whose files are below the folder, on a ledger that is emptied."""
    timed.wipe()
    return FakeServices(
        Settings(**{"var_dir": folder / "var", "report_dir": folder, **settings}),
        timed,
        {strategy.name: strategy for strategy in strategies or (small_strategy(),)},
        panel() if table is None else table,
    )
