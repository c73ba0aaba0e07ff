"""Secrets that are mounted as files: which are read, what wins, and what is said where they cannot be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from config.secret_files import read_secret_files
from config.settings import ROOT, SettingsError, load_settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "DATABASE_URL").write_text("postgresql://file/db\n", encoding="utf-8")
    (tmp_path / "REDIS_DRIFT_PASSWORD").write_text("of the file", encoding="utf-8")
    return tmp_path


def test_a_file_stands_for_the_variable_of_its_name(folder: Path) -> None:
    environ = {"ACIS_SECRETS_DIR": str(folder)}
    read_secret_files(environ)
    assert environ == {
        "ACIS_SECRETS_DIR": str(folder),
        "DATABASE_URL": "postgresql://file/db",
        "REDIS_DRIFT_PASSWORD": "of the file",
    }


def test_a_variable_that_is_set_wins_and_an_empty_one_is_none(folder: Path) -> None:
    environ = {"ACIS_SECRETS_DIR": str(folder), "DATABASE_URL": "postgresql://set/db", "REDIS_DRIFT_PASSWORD": ""}
    read_secret_files(environ)
    assert (environ["DATABASE_URL"], environ["REDIS_DRIFT_PASSWORD"]) == ("postgresql://set/db", "of the file")


def test_only_secrets_are_read(folder: Path) -> None:
    (folder / "PATH").write_text("/elsewhere", encoding="utf-8")
    (folder / "MLFLOW_TRACKING_PASSWORD").write_text("", encoding="utf-8")
    environ = {"ACIS_SECRETS_DIR": str(folder)}
    read_secret_files(environ)
    assert not {"PATH", "MLFLOW_TRACKING_PASSWORD"} & set(environ)


def test_settings_come_from_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_DRIFT_PASSWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("ACIS_SECRETS_DIR", str(folder))
    found = load_settings().database_url
    assert found is not None
    assert found.get_secret_value() == "postgresql://file/db"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACIS_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"ACIS_SECRETS_DIR .*none.*No such file"):
        load_settings()


def test_a_program_of_others_is_given_them_as_variables(folder: Path) -> None:
    shown = "import os; print(os.environ['DATABASE_URL'])"
    done = subprocess.run(
        [sys.executable, "-m", "config.secret_files", sys.executable, "-c", shown],
        cwd=ROOT, env={"ACIS_SECRETS_DIR": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "postgresql://file/db\n", "")
    done = subprocess.run(
        [sys.executable, "-m", "config.secret_files", sys.executable],
        cwd=ROOT, env={"ACIS_SECRETS_DIR": "/none"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
