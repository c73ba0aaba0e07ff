"""An outage of PostgreSQL under load, in short; `python -m tests.chaos.predictions` has it for ten minutes."""

from __future__ import annotations

from pathlib import Path

from mlops.ledger.schema import migrate
from tests.chaos.predictions import outage


def test_each_acknowledged_prediction_is_there_once_whoever_is_away_or_killed(
    postgres_url: str, tmp_path: Path
) -> None:
    migrate(postgres_url)
    found = outage(postgres_url, tmp_path, away_s=12.0, kill_every_s=5.0, service_log=tmp_path / "serve.log")
    assert found.missing == []
    assert found.doubled == []
    assert found.n_kills >= 2
    assert found.n_acknowledged_while_away > 20, found.refused
