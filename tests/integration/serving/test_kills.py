"""A service that is killed at each border of what it writes: the next one finishes it, and nothing is there twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import text

from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from tests.support.prediction_service import (
    Service,
    made_token,
    model_file,
    place_champion,
    rows_of,
    service_settings,
)
from tests.support.waiting import wait_for

DAY = date(2026, 8, 3)


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[SqlLedger]:
    migrate(postgres_url)
    found = open_ledger(postgres_url)
    yield found
    found.close()


@pytest.mark.parametrize(
    "place",
    [
        "ledger.make_partitions.before_commit",
        "ledger.make_partitions.committed",
        "ledger.write_predictions.before_commit",
        "ledger.write_predictions.committed",
        "predictions.before_unlink",
    ],
)
def test_a_kill_at_each_border_loses_and_doubles_nothing(
    postgres_url: str, ledger: SqlLedger, tmp_path: Path, place: str
) -> None:
    settings = service_settings(postgres_url, tmp_path / "var")
    place_champion(ledger, settings, model_file())
    armed = tmp_path / "failpoints"
    armed.mkdir()
    (armed / place).write_text("kill")
    service = Service(
        settings, tmp_path / "serve.log", token=made_token(ledger), variables={"MLOPS_FAILPOINTS": str(armed)}
    )
    with service:
        assert service.predict(rows_of(2), tickers=["A", "B"], as_of=str(DAY)).status == 200
        assert service.process is not None
        assert service.process.wait(timeout=30) == -9
        assert (armed / f"{place}.reached").exists()
        service.start()
        wait_for(lambda: ledger.predictions("growth", DAY, DAY).num_rows == 2, "they are written", within_s=30)
        spool = settings.var_dir / "serving" / "spool"
        wait_for(lambda: not list(spool.rglob("*.seg")), "the spool is empty")
    with ledger.database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM mlops_prediction")) == 2
