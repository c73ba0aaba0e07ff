"""The code as it was before the newest migration, so that its workers can run beside those of today.

Such workers run with one user for everything, as an installation of their time does: the users of today's roles may not
run scripts in Redis or make the months of predictions, which they do themselves.

It comes from the repository's own history. A clone without that much history has none, and says so.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from config.settings import ROOT

_MIGRATIONS = "mlops/ledger/migrations/versions"


class NoOlderCode(Exception):
    """The history does not reach back to the code before the newest migration."""


def older_commit(repository: Path = ROOT) -> str:
    """The last commit before the newest migration was added. Raises NoOlderCode."""
    added = _git(repository, "log", "-1", "--diff-filter=A", "--format=%H", "--", f"{_MIGRATIONS}/r*.py")
    if not added:
        raise NoOlderCode(f"git knows no commit that added a migration below {_MIGRATIONS}")
    return _git(repository, "rev-parse", "--verify", "--quiet", f"{added}^1^{{commit}}")


def older_code(folder: Path, repository: Path = ROOT) -> Path:
    """That commit's files, below `folder`; extracted once. Raises NoOlderCode."""
    commit = older_commit(repository)
    place = folder / f"code-{commit[:12]}"
    if not place.exists():
        archive = folder / f"{commit[:12]}.tar"
        _git(repository, "archive", "--format=tar", f"--output={archive}", commit)
        with tarfile.open(archive) as files:
            files.extractall(place, filter="data")
        archive.unlink()
    return place


def _git(repository: Path, *arguments: str) -> str:
    try:
        ended = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True, timeout=60
        )
    except FileNotFoundError as exc:
        raise NoOlderCode("there is no git") from exc
    except subprocess.CalledProcessError as exc:
        words = exc.stderr.strip() or "the commit before the newest migration is not in this clone's history"
        raise NoOlderCode(words) from exc
    return ended.stdout.strip()
