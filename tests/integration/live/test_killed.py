"""A worker that is killed on either side of its predictions' commit: the next one writes them, or finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.domain.records import Kind, RunState, Stage
from mlops.ledger.live.predictions import partition_of
from mlops.runs.request import run_request
from mlops.stages.live.predict import predict_universe
from tests.support.ledgers import LEASE_S
from tests.support.live import LIVE, promoted
from tests.support.processes import kill_at
from tests.support.services import LAST, TICKERS, FakeServices

WORKER = """
import sys
from pathlib import Path
from config.settings import Settings
from mlops.domain.records import Stage
from mlops.ledger.ledger import open_ledger
from mlops.stages.live.predict import predict_universe
from tests.support.ledgers import TimedLedger
from tests.support.live import logged
from tests.support.services import FakeServices, panel, small_strategy

url, run_id, folder = sys.argv[1:]
ledger = open_ledger(url)
timed = TimedLedger(ledger=ledger, owner=ledger.database, advance=lambda _: None, wipe=lambda: None)
services = FakeServices(Settings(var_dir=Path(folder)), timed, {"growth": small_strategy()}, panel())
logged(services, "made-1", rounds=5)
grant = services.claimed(run_id, Stage.PREDICT)
predict_universe(grant, services, services.keeper(grant))
"""


@pytest.mark.parametrize(
    ("place", "n_written"),
    [
        ("make_partitions.before_commit", 0),
        ("make_partitions.committed", 0),
        ("write_predictions.before_commit", 0),
        ("write_predictions.committed", TICKERS),
    ],
)
def test_a_killed_worker_loses_and_doubles_no_prediction(
    services: FakeServices, ledger_postgres_url: str, tmp_path: Path, place: str, n_written: int
) -> None:
    _without_partitions(services)
    services.with_policy(live=LIVE)
    promoted(services, "made-1", rounds=5)
    asked = run_request(services.strategies, "growth", Kind.PREDICT, reason="r", requested_by="test", as_of=LAST)
    accepted = services.ledger.accept(asked)
    kill_at(f"ledger.{place}", WORKER, [ledger_postgres_url, accepted.run_id, str(tmp_path / "var")], tmp_path)
    assert len(services.ledger.predictions("growth", LAST, LAST)) == n_written
    services.timed.advance(LEASE_S + 1)
    services.ledger.due_publications()
    grant = services.claimed(accepted.run_id, Stage.PREDICT)
    outcome = predict_universe(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    assert len(services.ledger.predictions("growth", LAST, LAST)) == outcome.result["n_rows"] == TICKERS
    assert [day.n_written for day in services.ledger.prediction_days("growth", LAST, LAST)] == [TICKERS]
    assert services.ledger.run(accepted.run_id).state is RunState.SUCCEEDED


def _without_partitions(services: FakeServices) -> None:
    """As before the month's first prediction."""
    with services.timed.owner.unhurried() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {partition_of(LAST)}")
