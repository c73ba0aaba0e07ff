"""Files that only their owner can read; the standard library alone."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(path: Path, text: str, *, owner: tuple[int, int] | None = None) -> None:
    """Put a new file of mode 600 in the path's place: it appears whole, and nobody has it open.

    owner : user and group id of the account that is to read it; None: our own
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    if owner is not None:
        os.chown(new, *owner)
    new.replace(path)
