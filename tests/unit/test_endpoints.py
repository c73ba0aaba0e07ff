"""The announcement of a running stack."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from config.endpoints import FILE, Endpoints, process_birth, read_endpoints, remove_endpoints, write_endpoints


def announced(var_dir: Path) -> Endpoints:
    return Endpoints(
        database_url="postgresql+psycopg2://acis:secret@127.0.0.1:1/features",
        celery_broker_url="redis://:secret@127.0.0.1:2/0",
        celery_result_backend="redis://:secret@127.0.0.1:2/1",
        mlflow_tracking_uri="http://127.0.0.1:5000",
        flower_url="http://127.0.0.1:5555",
        admin_url="http://127.0.0.1:3000/admin",
        serve_url="http://127.0.0.1:8080",
        flower_credentials=var_dir / "secrets.json",
        strategies_file=var_dir / "strategies.toml",
        var_dir=var_dir,
        supervisor_pid=os.getpid(),
        supervisor_birth=process_birth(os.getpid()),
        started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


def test_what_is_announced_is_read_back(tmp_path: Path) -> None:
    write_endpoints(announced(tmp_path))
    assert read_endpoints(tmp_path) == announced(tmp_path)


def test_name_and_password_belong_to_the_announced_mlflow_alone(tmp_path: Path) -> None:
    assert announced(tmp_path).settings()["mlflow_tracking_uri"] == "http://127.0.0.1:5000"
    signed_in = replace(announced(tmp_path), mlflow_auth="registrar:p@ss")
    assert signed_in.settings()["mlflow_tracking_uri"] == "http://registrar:p%40ss@127.0.0.1:5000"
    assert not any("mlflow" in name for name in signed_in.settings() if name != "mlflow_tracking_uri")


def test_only_the_owner_can_read_the_announcement(tmp_path: Path) -> None:
    path = write_endpoints(announced(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_runs_where_nothing_was_announced(tmp_path: Path) -> None:
    assert read_endpoints(tmp_path) is None


def test_a_dead_supervisor_announces_nothing(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_endpoints(replace(announced(tmp_path), supervisor_pid=ended.pid))
    assert read_endpoints(tmp_path) is None


def test_a_pid_that_is_used_again_is_not_the_supervisor(tmp_path: Path) -> None:
    write_endpoints(replace(announced(tmp_path), supervisor_birth="1"))
    assert read_endpoints(tmp_path) is None


def test_a_file_of_another_version_is_no_announcement(tmp_path: Path) -> None:
    path = write_endpoints(announced(tmp_path))
    path.write_text('{"supervisor_pid": 1}')
    assert read_endpoints(tmp_path) is None


def test_a_removed_announcement_is_gone(tmp_path: Path) -> None:
    write_endpoints(announced(tmp_path))
    remove_endpoints(tmp_path)
    remove_endpoints(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_the_announcement_needs_the_standard_library_alone() -> None:
    code = "import sys; sys.path.insert(0, '.'); import config.endpoints; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True)
    ours = {name for name in loaded.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert ours <= {"config", "config.endpoints", "config.private_file", "__main__"}
