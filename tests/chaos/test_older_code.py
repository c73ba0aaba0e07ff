"""The code before the newest migration comes from the repository's history, or it is said why it cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from config.settings import ROOT
from tests.chaos.older_code import NoOlderCode, older_code, older_commit
from tests.support.processes import environment_for

MIGRATIONS = Path("mlops/ledger/migrations/versions")


def git(repository: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(repository), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(repository: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "a change")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three commits: the first migration, the second one, and an edit of it."""
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "-q")
    commit(place, {f"{MIGRATIONS}/r0001_a.py": "", "config/settings.py": '"ACIS_LEASE_S"'})
    commit(place, {"README.md": "before"})
    commit(place, {f"{MIGRATIONS}/r0002_b.py": "", "README.md": "after"})
    commit(place, {f"{MIGRATIONS}/r0002_b.py": "# edited"})
    return place


def test_it_is_the_last_commit_before_the_newest_migration(repository: Path, tmp_path: Path) -> None:
    code = older_code(tmp_path, repository)
    assert (code / "README.md").read_text() == "before"
    assert [path.name for path in (code / MIGRATIONS).iterdir()] == ["r0001_a.py"]
    assert older_code(tmp_path, repository) == code


def test_a_clone_without_the_history_says_so(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "shallow")
    with pytest.raises(NoOlderCode, match="not in this clone's history"):
        older_commit(tmp_path / "shallow")


def test_a_folder_that_is_no_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoOlderCode, match="not a git repository"):
        older_commit(tmp_path)


def test_code_of_before_the_record_of_variables_is_given_those_it_knows(repository: Path, tmp_path: Path) -> None:
    given = {"ACIS_LEASE_S": "5", "ACIS_OF_TODAY": "1", "DATABASE_URL": "postgresql://"}
    assert environment_for(repository, given) == {"ACIS_LEASE_S": "5", "DATABASE_URL": "postgresql://"}
    assert environment_for(ROOT, given).items() >= given.items()
