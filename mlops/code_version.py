"""Which code decided: part of a decision's evidence.

Pure but for reading the code's own files. An image has no repository, so the deciding files' digest stands beside.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")


_ROOT = Path(__file__).resolve().parents[1]
_DECIDES = (
    "mlops/domain/promotion",
    "mlops/domain/training/metrics.py",
    "mlops/domain/training/trading.py",
    "mlops/domain/training/fingerprint.py",
)


@lru_cache(maxsize=1)
def code_version() -> dict[str, str | None]:
    """`version` of the package, `commit` of the repository around the code, `sha256` of the files that decide.

    version and commit are None where there is no package or no repository.
    """
    try:
        number: str | None = version("acis-mlops")
    except PackageNotFoundError:
        number = None
    return {"version": number, "commit": commit_of(_ROOT / ".git"), "sha256": _digest()}


def _digest() -> str:
    digest = hashlib.sha256()
    for place in _DECIDES:
        path = _ROOT / place
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def commit_of(place: Path) -> str | None:
    """What HEAD points to; None where there is no repository, or none that is understood."""
    try:
        if place.is_file():  # a work tree elsewhere
            place = (place.parent / place.read_text(encoding="utf-8").removeprefix("gitdir:").strip()).resolve()
        head = (place / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return head if _COMMIT.fullmatch(head) else None
        reference = head.removeprefix("ref:").strip()
        common = place / "commondir"
        shared = (place / common.read_text(encoding="utf-8").strip()).resolve() if common.is_file() else place
        loose = shared / reference
        if loose.is_file():
            return loose.read_text(encoding="utf-8").strip()
        packed = (shared / "packed-refs").read_text(encoding="utf-8")
        found = re.search(rf"^([0-9a-f]{{40}}) {re.escape(reference)}$", packed, re.MULTILINE)
        return found[1] if found else None
    except (OSError, UnicodeDecodeError):
        return None
