"""What the library's entities say, as values of ours; they are read here and go no further.

Called by `gateway` and its parts, with what the library gave them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlops.ports import ModelVersion

PAGE = 1000
"""MLflow gives so many in one request."""


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """A run of an experiment."""

    run_id: str
    run_name: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    experiment_id: str
    ended_at: datetime | None
    is_deleted: bool
    """In MLflow's bin."""


def walk(listing: Any) -> Iterator[str]:  # noqa: ANN401 -- a function of the library
    """Paths of all files below a listing."""
    return (item.path for item in _files(listing))


def sizes(listing: Any) -> Iterator[int]:  # noqa: ANN401 -- a function of the library
    """Their bytes."""
    return (int(item.file_size or 0) for item in _files(listing))


def _files(listing: Any) -> Iterator[Any]:  # noqa: ANN401 -- a function of the library
    folders: list[str | None] = [None]
    while folders:
        for item in listing(folders.pop()):
            if item.is_dir:
                folders.append(item.path)
            else:
                yield item


def logged_run(run: Any) -> LoggedRun:  # noqa: ANN401 -- the library's Run
    """A run of ours."""
    return LoggedRun(
        run_id=run.info.run_id,
        run_name=run.info.run_name or "",
        status=run.info.status,
        params=run.data.params,
        metrics=run.data.metrics,
        tags=run.data.tags,
        experiment_id=run.info.experiment_id,
        ended_at=datetime.fromtimestamp(run.info.end_time / 1000, tz=UTC) if run.info.end_time else None,
        is_deleted=run.info.lifecycle_stage == "deleted",
    )


def model_version(item: Any, aliases: Mapping[str, list[str]] | None = None) -> ModelVersion:  # noqa: ANN401 -- the library's
    """A version; `aliases`: by number, where the item does not have its own."""
    found = item.aliases if aliases is None else aliases.get(str(item.version), [])
    return ModelVersion(
        name=item.name,
        version=str(item.version),
        stage=item.current_stage or "None",
        aliases=tuple(sorted(found)),
        run_id=item.run_id or None,
        tags=dict(item.tags),
        metrics={},
        created_at=datetime.fromtimestamp(item.creation_timestamp / 1000, tz=UTC),
        source=item.source or "",
    )


def pages(search: Callable[[str | None], Any]) -> list[Any]:
    """All that a search finds, page after page."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found
