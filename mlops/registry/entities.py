"""Conversion of the library's entities into values of ours; they go no further.

Called by `gateway` and its parts, with what the library gave them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlops.domain.ports import ModelVersion

PAGE = 1000
"""MLflow gives so many in one request."""


RECORD_TAG = "acis.record"
"""Tag of runs and versions that holds many small ones as JSON, so that MLflow's pages show those that people read."""
IN_RECORD = frozenset(
    {
        "device", "reason", "n_train", "n_holdout", "n_features", "fit_s", "n_validation",
        "best_iteration", "folds", "random_split", "random_split_gap", "scrutiny_notes", "tuning", "base_model_sha256",
        "total_rounds", "recent_start", "twin_train_start", "twin_n_train", "refit_distance",
    }
)  # fmt: skip
"""Tags that go there: none that the guide lists, nor that an earlier release reads of a version to decide about it."""
MAX_RECORD = 6000
"""Characters; MLflow cuts a run's tag at 8,000. What does not fit stays a tag."""


DECISION_TAG = "acis.decided"
"""Tag of a version that holds what was decided about it beside the word for it; a description says it, too."""
IN_DECISION = frozenset({"acis.reasons", "acis.actor", "acis.evidence_digest"})


def packed(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags as they are written."""
    decision = {name: tags[name] for name in sorted(IN_DECISION & tags.keys())}
    tags = {name: value for name, value in tags.items() if name not in decision}
    if decision:
        tags[DECISION_TAG] = json.dumps(decision)
    record: dict[str, str] = {}
    for name in sorted(IN_RECORD & tags.keys(), key=lambda name: (len(tags[name]), name)):
        tried = {**record, name: tags[name]}
        if len(json.dumps(tried)) > MAX_RECORD:
            break
        record = tried
    kept = {name: value for name, value in tags.items() if name not in record}
    return {**kept, RECORD_TAG: json.dumps(record)} if record else kept


def unpacked(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags as they were given to `packed`; a record that was broken by hand is left out."""
    kept = {name: value for name, value in tags.items() if name not in (RECORD_TAG, DECISION_TAG)}
    # A decision of today beside the tags that an earlier release left: today's holds.
    return {**_record(tags.get(RECORD_TAG)), **kept, **_record(tags.get(DECISION_TAG))}


def _record(text: str | None) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


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
    """Whether it is in MLflow's bin."""


def walk(listing: Any) -> Iterator[str]:  # noqa: ANN401 -- a function of the library
    """Yield the paths of all files below a listing."""
    return (item.path for item in _files(listing))


def sizes(listing: Any) -> Iterator[int]:  # noqa: ANN401 -- a function of the library
    """Yield the sizes of all files below a listing, in bytes."""
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
    """Convert a run of the library."""
    return LoggedRun(
        run_id=run.info.run_id,
        run_name=run.info.run_name or "",
        status=run.info.status,
        params=run.data.params,
        metrics=run.data.metrics,
        tags=unpacked(run.data.tags),
        experiment_id=run.info.experiment_id,
        ended_at=datetime.fromtimestamp(run.info.end_time / 1000, tz=UTC) if run.info.end_time else None,
        is_deleted=run.info.lifecycle_stage == "deleted",
    )


def model_version(item: Any, aliases: Mapping[str, list[str]] | None = None) -> ModelVersion:  # noqa: ANN401 -- the library's
    """Convert a version; `aliases`: by number, where the item does not have its own."""
    found = item.aliases if aliases is None else aliases.get(str(item.version), [])
    return ModelVersion(
        name=item.name,
        version=str(item.version),
        stage=item.current_stage or "None",
        aliases=tuple(sorted(found)),
        run_id=item.run_id or None,
        tags=unpacked(item.tags),
        metrics={},
        created_at=datetime.fromtimestamp(item.creation_timestamp / 1000, tz=UTC),
        source=item.source or "",
    )


def pages(search: Callable[[str | None], Any]) -> list[Any]:
    """Return everything that a search finds, page after page."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found
