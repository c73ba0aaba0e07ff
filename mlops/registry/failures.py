"""Causes of MLflow's failures; pure, and without the library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlops.domain.errors import ModelNotFound, RegistryUnavailable

_MET = ("uniqueviolation", "unique constraint", "foreignkeyviolation", "foreign key constraint")


def is_collision(words: object) -> bool:
    """Whether another writer, or the same request, inserted or deleted the row first, or the one that it belongs to.

    In PostgreSQL's words or in SQLite's, or in SQLAlchemy's: "expected to update 1 row(s); 0 were matched".
    """
    told = str(words).lower()
    is_gone = re.search(r"expected to (update|delete) \d+ row", told) is not None
    return is_gone or any(one in told for one in _MET)


def innermost(exc: BaseException) -> str:
    """The operating system's own word for what failed, from below the HTTP libraries' layers; empty if none."""
    seen: BaseException | None = exc
    found = ""
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            found = seen.strerror.lower()
        reason = getattr(seen, "reason", None) or next(
            (item for item in seen.args if isinstance(item, BaseException)), None
        )
        seen = reason if isinstance(reason, BaseException) else seen.__cause__ or seen.__context__
    return found


@contextmanager
def gone_is_temporary(logged: str) -> Iterator[None]:
    """Raise RegistryUnavailable where something that MLflow gave a moment ago is gone: the whole is tried again.

    MLflow was recreated, or restored from a backup, in between. Raises RegistryUnavailable for ModelNotFound.
    """
    try:
        yield
    except ModelNotFound as exc:
        message = f"{logged} was being logged, and what MLflow had of it is gone; it is logged anew: {exc}"
        raise RegistryUnavailable(message) from exc
