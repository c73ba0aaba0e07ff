"""Store of unfinished trainings' boosters and of champions' models: a folder, or what fsspec reaches.

    URL / acis-checkpoints / run id / token / name     a new object each time, named by the ledger once it is whole
    URL / acis-models / sha256-run id / name           all that is needed to register a champion again

The folders in between are ours: nothing else below the URL is looked at, nor removed.
Written by whoever holds the stage, read by whoever takes it over, on another machine too where the URL is shared.
An object that nobody named, or that is torn, costs nothing: its digest stands in the ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import fsspec
import structlog

from mlops.domain.errors import CheckpointsUnavailable
from mlops.failpoints import external_write

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

FOLDER, MODELS = "acis-checkpoints", "acis-models"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An object of the store, as the ledger names it."""

    name: str
    """What it is of: the trainer's word, e.g. `rounds-50`."""
    path: str
    """Below the store's own folder."""
    sha256: str
    n_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the value of `mlops_stage.checkpoint`."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | None) -> Checkpoint | None:
        """Read the value; None for nothing, and for what another version of this code wrote."""
        try:
            return cls(**document) if document else None
        except TypeError:
            return None


class CheckpointStore:
    """Objects below one URL. Every error of the store is CheckpointsUnavailable: a training goes on without it."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        """`url`: a path, `s3://bucket/prefix`, or any other of fsspec's; opened at the first use."""
        self.url = url
        self._options = dict(options or {})

    def write(self, run_id: str, token: int, name: str, payload: bytes) -> Checkpoint:
        """Keep the payload. Raises CheckpointsUnavailable."""
        digest = hashlib.sha256(payload).hexdigest()
        path = f"{_folder(run_id)}/{token}/{quote(name, safe='')}"

        def put(files: Any, root: str) -> None:  # noqa: ANN401 -- fsspec's
            files.makedirs(f"{root}/{path.rpartition('/')[0]}", exist_ok=True)
            files.pipe_file(f"{root}/{path}", payload)

        with external_write("checkpoint.write"):
            self._with_files("write", put)
        return Checkpoint(name=name, path=path, sha256=digest, n_bytes=len(payload))

    def read(self, checkpoint: Checkpoint) -> bytes | None:
        """Read what was written; None where it is gone or changed. Raises CheckpointsUnavailable."""

        def get(files: Any, root: str) -> bytes | None:  # noqa: ANN401 -- fsspec's
            try:
                return bytes(files.cat_file(f"{root}/{checkpoint.path}"))
            except FileNotFoundError:
                return None

        payload = self._with_files("read", get)
        if payload is None or hashlib.sha256(payload).hexdigest() != checkpoint.sha256:
            log.warning("checkpoint.not_usable", path=checkpoint.path, found="nothing" if payload is None else "torn")
            return None
        return payload

    def delete(self, checkpoint: Checkpoint) -> None:
        """One object; nothing where it is gone already. Raises CheckpointsUnavailable."""

        def remove(files: Any, root: str) -> None:  # noqa: ANN401 -- fsspec's
            try:
                files.rm_file(f"{root}/{checkpoint.path}")
            except FileNotFoundError:
                return

        self._with_files("remove", remove)

    def delete_run(self, run_id: str) -> None:
        """All objects of a run. Raises CheckpointsUnavailable."""

        def remove(files: Any, root: str) -> None:  # noqa: ANN401 -- fsspec's
            files.invalidate_cache()  # what another worker wrote since it was listed goes too
            try:
                files.rm(f"{root}/{_folder(run_id)}", recursive=True)
            except FileNotFoundError:
                return

        self._with_files("remove", remove)

    def newest(self) -> dict[str, datetime]:
        """Runs that have objects, and when the newest of each was written. Raises CheckpointsUnavailable."""

        def listed(files: Any, root: str) -> dict[str, datetime]:  # noqa: ANN401 -- fsspec's
            found: dict[str, datetime] = {}
            files.invalidate_cache()  # object stores' clients keep what they listed once; others write there too
            for path in files.find(root):
                parts = str(path).removeprefix(root).strip("/").split("/")
                if len(parts) == 3 and parts[1].isdecimal():  # run, token, name
                    run_id, written = unquote(parts[0]), files.modified(path)
                    written = written if written.tzinfo else written.replace(tzinfo=UTC)
                    found[run_id] = max(written, found.get(run_id, written))
            return dict(sorted(found.items()))

        return self._with_files("list", listed)

    def keep_model(self, key: str, files: Mapping[str, bytes]) -> None:
        """Keep the files of a model; the last of them is written last. Raises CheckpointsUnavailable."""

        def put(store: Any, root: str) -> None:  # noqa: ANN401 -- fsspec's
            place = f"{root}/{_folder(key)}"
            store.makedirs(place, exist_ok=True)
            for name, content in files.items():
                store.pipe_file(f"{place}/{name}", content)

        with external_write("checkpoint.keep_model"):
            self._with_files("write", put, folder=MODELS)

    def kept_model(self, key: str, name: str) -> bytes | None:
        """A file of a kept model; None where there is none. Raises CheckpointsUnavailable."""

        def get(store: Any, root: str) -> bytes | None:  # noqa: ANN401 -- fsspec's
            try:
                return bytes(store.cat_file(f"{root}/{_folder(key)}/{name}"))
            except FileNotFoundError:
                return None

        return self._with_files("read", get, folder=MODELS)

    def kept_models(self) -> list[str]:
        """Keys of all models that are kept. Raises CheckpointsUnavailable."""

        def listed(store: Any, root: str) -> list[str]:  # noqa: ANN401 -- fsspec's
            parts = {str(path).removeprefix(root).strip("/").split("/")[0] for path in store.find(root)}
            return sorted(unquote(part) for part in parts if part)

        return self._with_files("list", listed, folder=MODELS)

    def drop_model(self, key: str) -> None:
        """All files of a kept model; nothing where there are none. Raises CheckpointsUnavailable."""

        def remove(store: Any, root: str) -> None:  # noqa: ANN401 -- fsspec's
            try:
                store.rm(f"{root}/{_folder(key)}", recursive=True)
            except FileNotFoundError:
                return

        self._with_files("remove", remove, folder=MODELS)

    def check(self) -> str:
        """Write, read and remove an object; where that was, in words. Raises CheckpointsUnavailable."""
        written = self.write("acis-doctor", 0, datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f"), b"is it kept?")
        found = self.read(written)
        self.delete_run("acis-doctor")
        if found is None:
            message = f"checkpoints at {self.url}: what was written there could not be read again"
            raise CheckpointsUnavailable(message)
        return self.url

    def _with_files(self, verb: str, work: Callable[[Any, str], Result], *, folder: str = FOLDER) -> Result:
        with _translated(self.url, verb):
            files, root = fsspec.core.url_to_fs(self.url, **self._options)
            return work(files, f"{str(root).rstrip('/')}/{folder}")


def _folder(run_id: str) -> str:
    """A run id is somebody's task id, so it may hold anything; `..` would be another folder."""
    return quote(run_id, safe="").replace("..", "%2E%2E")


@contextmanager
def _translated(url: str, verb: str) -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        # Every store's library has errors of its own; none of them may end a training.
        message = (
            f"cannot {verb} checkpoints at {url}: {type(exc).__name__}: {exc}; set ACIS_CHECKPOINT_URL to a folder "
            "or an object store that this worker can write"
        )
        raise CheckpointsUnavailable(message) from exc
