"""Backups of a real PostgreSQL, and what a restored ledger refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from config.settings import ROOT, Settings
from devstack.backup import MANIFEST, Backup, BackupError, back_up, read_backup, restore
from devstack.postgres import create_database, drop_database
from mlops.domain.errors import LeaseLost
from mlops.domain.records import RunState, StageOutcome
from mlops.ledger import schema
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.live.predictions import prediction_schema
from mlops.ledger.schema import migrate, schema_state
from tests.support.experiments import started
from tests.support.ledgers import accepted_and_sent, granted, request_for
from tests.support.servers import Databases

SAID: list[str] = []


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    strategies = tmp_path / "strategies.toml"
    strategies.write_text("[strategies.growth]\n")
    artifacts = tmp_path / "artifacts"
    (artifacts / "1").mkdir(parents=True)
    (artifacts / "1" / "model.ubj").write_bytes(b"a model")
    migrate(postgres_url)
    return Settings(
        database_url=SecretStr(postgres_url),
        strategies_file=strategies,
        mlflow_artifact_root=str(artifacts),
        var_dir=tmp_path / "var",
    )


def made(settings: Settings, folder: Path, mlflow: str | None = None) -> Backup:
    return back_up(settings, folder, mlflow_database=mlflow, artifacts=None, say=SAID.append)


def restored(settings: Settings, folder: Path, *, overwrite: bool = False, mlflow: str | None = None) -> Backup:
    return restore(settings, folder, overwrite=overwrite, mlflow_database=mlflow, artifacts=None, say=SAID.append)


def opened(settings: Settings) -> SqlLedger:
    assert settings.database_url is not None
    return open_ledger(settings.database_url.get_secret_value())


def test_a_restored_ledger_is_the_one_of_the_backup(settings: Settings, tmp_path: Path) -> None:
    ledger = opened(settings)
    before = accepted_and_sent(ledger).run_id
    backup = made(settings, tmp_path / "backup")
    assert backup.rows["mlops_run"] == backup.rows["mlops_stage"] == 1
    assert {"ledger.dump", "strategies.toml", "artifacts/1/model.ubj"} == set(backup.files)
    after = accepted_and_sent(ledger, request_for("value")).run_id
    restored(settings, tmp_path / "backup", overwrite=True)
    assert ledger.unknown_runs([before, after]) == {after}
    assert ledger.forgotten().registry_since == backup.made_at
    assert ledger.forgotten().outcomes_since == backup.made_at
    ledger.close()


def test_an_experiment_that_ended_after_the_backup_runs_again_and_answers_nobody(
    settings: Settings, tmp_path: Path
) -> None:
    ledger = opened(settings)
    running = started(ledger)
    made(settings, tmp_path / "backup")
    ledger.steer_experiment(running.id, "abort", by="ada", reason="its answers were wrong")
    restored(settings, tmp_path / "backup", overwrite=True)
    assert ledger.serving_state("growth").experiment == replace(running, paused=True)
    assert [line.action for line in ledger.audit_lines(action="experiment", limit=1)] == ["experiment.pause"]
    ledger.close()


def test_a_living_ledger_is_not_overwritten_without_the_word(settings: Settings, tmp_path: Path) -> None:
    ledger = opened(settings)
    made(settings, tmp_path / "backup")
    run_id = accepted_and_sent(ledger).run_id
    with pytest.raises(BackupError, match=r"a living one, with 1 runs; --overwrite"):
        restored(settings, tmp_path / "backup")
    assert ledger.unknown_runs([run_id]) == set()
    ledger.close()


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "unfinished"])
def test_a_backup_that_is_not_whole_is_refused_and_changes_nothing(
    settings: Settings, tmp_path: Path, damage: str
) -> None:
    ledger, folder = opened(settings), tmp_path / "backup"
    made(settings, folder)
    run_id = accepted_and_sent(ledger).run_id
    if damage == "changed":
        (folder / "ledger.dump").write_bytes((folder / "ledger.dump").read_bytes()[:-1] + b"?")
    elif damage == "missing":
        (folder / "artifacts" / "1" / "model.ubj").unlink()
    elif damage == "added":
        (folder / "artifacts" / "2").write_text("?")
    else:
        (folder / MANIFEST).unlink()
    with pytest.raises(BackupError, match=r"not the backup that was made|no finished backup"):
        restored(settings, folder, overwrite=True)
    assert ledger.unknown_runs([run_id]) == set()
    ledger.close()


def test_a_backup_is_never_written_over_another(settings: Settings, tmp_path: Path) -> None:
    made(settings, tmp_path / "backup")
    with pytest.raises(BackupError, match="is there already"):
        made(settings, tmp_path / "backup")
    assert read_backup(tmp_path / "backup").revision


def test_a_dump_that_lacks_rows_is_taken_back_whole(settings: Settings, tmp_path: Path) -> None:
    ledger, folder = opened(settings), tmp_path / "backup"
    made(settings, folder)
    run_id = accepted_and_sent(ledger).run_id
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["rows"]["mlops_run"] = 7
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BackupError, match="table mlops_run has not its 7 rows"):
        restored(settings, folder, overwrite=True)
    assert ledger.unknown_runs([run_id]) == set()
    ledger.close()


def test_a_lease_of_before_a_restore_writes_nothing_whatever_its_number(settings: Settings, tmp_path: Path) -> None:
    ledger = opened(settings)
    run_id = accepted_and_sent(ledger).run_id
    held = granted(ledger, run_id, worker="of the backup")
    made(settings, tmp_path / "backup")
    ledger.release(held, cause="drained")
    forgotten = granted(ledger, run_id, worker="of the forgotten time")
    restored(settings, tmp_path / "backup", overwrite=True)
    with pytest.raises(LeaseLost):
        ledger.renew(held)
    anew = granted(ledger, run_id, worker="of the restored ledger")
    assert anew.token == forgotten.token  # the number is granted a second time
    outcome = StageOutcome(result={"verdict": "stable"}, run_state=RunState.SUCCEEDED)
    for stale in (held, forgotten):
        with pytest.raises(LeaseLost):
            ledger.renew(stale)
        with pytest.raises(LeaseLost):
            ledger.save_checkpoint(stale, {"name": "rounds-50"})
        with pytest.raises(LeaseLost):
            ledger.finish(stale, outcome)
        with pytest.raises(LeaseLost):
            ledger.fail(stale, error="of before", retry=True)
    assert ledger.finish(anew, outcome).run_state is RunState.SUCCEEDED
    ledger.close()


def test_a_run_that_is_accepted_again_under_its_id_fences_whoever_held_it_before(
    settings: Settings, tmp_path: Path
) -> None:
    ledger = opened(settings)
    made(settings, tmp_path / "backup")
    asked = request_for(run_id="task-of-a-backend")
    accepted_and_sent(ledger, asked)
    forgotten = granted(ledger, "task-of-a-backend")
    restored(settings, tmp_path / "backup", overwrite=True)
    accepted_and_sent(ledger, asked)
    anew = granted(ledger, "task-of-a-backend")
    assert anew.token == forgotten.token
    with pytest.raises(LeaseLost):
        ledger.renew(forgotten)
    ledger.renew(anew)
    ledger.close()


def test_a_backup_of_an_older_schema_is_brought_to_this_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    opened(settings).close()
    assert made(settings, tmp_path / "backup").revision == schema_state(url).head
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, ROOT / "tests" / "support" / "revisions"))
    migrate(url)
    restored(settings, tmp_path / "backup", overwrite=True)
    assert schema_state(url).is_current
    ledger = opened(settings)
    assert ledger.forgotten().registry_since is not None
    ledger.close()


def test_mlflows_database_and_artifacts_come_back_with_the_ledger(
    settings: Settings, tmp_path: Path, postgres_server: Databases
) -> None:
    mlflow = create_database(postgres_server.server_url, "an_mlflow")
    try:
        theirs = open_ledger(mlflow).database
        with theirs.transaction() as connection:
            connection.execute(text("CREATE TABLE model_versions (name text, version int)"))
            connection.execute(text("INSERT INTO model_versions VALUES ('acis_growth_classifier', 1)"))
        made(settings, tmp_path / "backup", mlflow)
        with theirs.transaction() as connection:
            connection.execute(text("INSERT INTO model_versions VALUES ('acis_growth_classifier', 2)"))
        model = Path(str(settings.mlflow_artifact_root)) / "1" / "model.ubj"
        model.unlink()
        with pytest.raises(BackupError, match=r"MLflow's database .* has 2 versions; --overwrite"):
            restored(settings, tmp_path / "backup", mlflow=mlflow)
        assert not model.exists()
        restored(settings, tmp_path / "backup", overwrite=True, mlflow=mlflow)
        with theirs.reading() as connection:
            assert connection.scalar(text("SELECT count(*) FROM model_versions")) == 1
        assert model.read_bytes() == b"a model"
        theirs.close()
    finally:
        drop_database(postgres_server.server_url, "an_mlflow")


def test_predictions_come_back_with_their_partitions(settings: Settings, tmp_path: Path) -> None:
    ledger, day = opened(settings), date(2026, 3, 5)
    ledger.write_predictions("before", "service", predictions(day, n=3))
    backup = made(settings, tmp_path / "backup")
    assert backup.rows["mlops_prediction_202603"] == 3
    ledger.write_predictions("after", "service", predictions(day, date(2026, 4, 1), n=2))
    restored(settings, tmp_path / "backup", overwrite=True)
    assert ledger.predictions("growth", day, date(2026, 4, 1)).num_rows == 3
    assert not ledger.write_predictions("before", "service", predictions(day, n=3))
    assert ledger.write_predictions("after", "service", predictions(day, date(2026, 4, 1), n=2))
    ledger.close()


def predictions(*days: date, n: int) -> pa.Table:
    """Of n tickers on each day."""
    model = {"strategy": "growth", "version": "7", "model_sha256": "a" * 64, "variant": "champion"}
    said = {"predicted_at": datetime(2026, 4, 2, tzinfo=UTC), "probability": 0.5, "row_digest": bytes(16)}
    rows = [{**model, "ticker": f"T{i}-{n}", "as_of": day, **said} for day in days for i in range(n)]
    return pa.Table.from_pylist(rows, schema=prediction_schema())
