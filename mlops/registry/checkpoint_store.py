"""Store of unfinished trainings' boosters and of champions' models: a folder, S3, or what fsspec reaches.

    URL / acis-checkpoints / run id / token / name     a new object each time, named by the ledger once it is whole
    URL / acis-models / sha256-run id / name           all that is needed to register a champion again

The folders in between are ours: nothing else below the URL is looked at, nor removed.
Written by whoever holds the stage, read by whoever takes it over, on another machine too where the URL is shared.
An object that nobody named, or that is torn, costs nothing: its digest stands in the ledger.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import quote, unquote

import fsspec
import structlog

from mlops.domain.errors import CheckpointsUnavailable
from mlops.failpoints import external_write
from mlops.registry import s3

log = structlog.get_logger(__name__)

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


class Files(Protocol):
    """A place for objects, by paths with `/`."""

    def put(self, path: str, content: bytes) -> None:
        """Write an object, and the folders that it needs."""
        ...

    def get(self, path: str) -> bytes | None:
        """Content of an object; None where there is none."""
        ...

    def remove(self, path: str) -> None:
        """Delete an object; nothing where there is none."""
        ...

    def remove_all(self, folder: str) -> None:
        """Delete all objects of a folder; nothing where there are none."""
        ...

    def listed(self, folder: str) -> dict[str, datetime]:
        """When each object of a folder was written, by its path below the folder."""
        ...


class FsspecFiles:
    """Objects of a folder, or of any other place that fsspec reaches; errors are its own."""

    def __init__(self, url: str) -> None:
        self._files, root = fsspec.core.url_to_fs(url)
        self._root = str(root).rstrip("/")

    def put(self, path: str, content: bytes) -> None:
        """Write an object, and the folders that it needs."""
        self._files.makedirs(f"{self._root}/{path.rpartition('/')[0]}", exist_ok=True)
        self._files.pipe_file(f"{self._root}/{path}", content)

    def get(self, path: str) -> bytes | None:
        """Content of an object; None where there is none."""
        try:
            return bytes(self._files.cat_file(f"{self._root}/{path}"))
        except FileNotFoundError:
            return None

    def remove(self, path: str) -> None:
        """Delete an object; nothing where there is none."""
        with suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{path}")

    def remove_all(self, folder: str) -> None:
        """Delete all objects of a folder; nothing where there are none."""
        self._files.invalidate_cache()  # what another worker wrote since it was listed goes too
        with suppress(FileNotFoundError):
            self._files.rm(f"{self._root}/{folder}", recursive=True)

    def listed(self, folder: str) -> dict[str, datetime]:
        """When each object of a folder was written, by its path below the folder."""
        found: dict[str, datetime] = {}
        self._files.invalidate_cache()  # object stores' clients keep what they listed once; others write there too
        for path in self._files.find(f"{self._root}/{folder}"):
            with suppress(FileNotFoundError):  # removed since
                written = self._files.modified(path)
                below = str(path).removeprefix(f"{self._root}/{folder}").strip("/")
                found[below] = written if written.tzinfo else written.replace(tzinfo=UTC)
        return found


class CheckpointStore:
    """Objects below one URL. Every error of the store is CheckpointsUnavailable: a training goes on without it."""

    def __init__(self, url: str, *, endpoint: str | None = None) -> None:
        """`url`: a path, `s3://bucket/prefix`, or any other of fsspec's; opened at the first use.

        endpoint : of an S3 that is not Amazon's; None: by AWS_ENDPOINT_URL, or Amazon's
        """
        self.url = url
        self._endpoint = endpoint

    def write(self, run_id: str, token: int, name: str, payload: bytes) -> Checkpoint:
        """Keep the payload. Raises CheckpointsUnavailable."""
        digest = hashlib.sha256(payload).hexdigest()
        path = f"{_folder(run_id)}/{token}/{quote(name, safe='')}"
        with external_write("checkpoint.write"), self._files("write") as files:
            files.put(f"{FOLDER}/{path}", payload)
        return Checkpoint(name=name, path=path, sha256=digest, n_bytes=len(payload))

    def read(self, checkpoint: Checkpoint) -> bytes | None:
        """Read what was written; None where it is gone or changed. Raises CheckpointsUnavailable."""
        with self._files("read") as files:
            payload = files.get(f"{FOLDER}/{checkpoint.path}")
        if payload is None or hashlib.sha256(payload).hexdigest() != checkpoint.sha256:
            log.warning("checkpoint.not_usable", path=checkpoint.path, found="nothing" if payload is None else "torn")
            return None
        return payload

    def delete(self, checkpoint: Checkpoint) -> None:
        """One object; nothing where it is gone already. Raises CheckpointsUnavailable."""
        with self._files("remove") as files:
            files.remove(f"{FOLDER}/{checkpoint.path}")

    def delete_run(self, run_id: str) -> None:
        """All objects of a run. Raises CheckpointsUnavailable."""
        with self._files("remove") as files:
            files.remove_all(f"{FOLDER}/{_folder(run_id)}")

    def newest(self) -> dict[str, datetime]:
        """Runs that have objects, and when the newest of each was written. Raises CheckpointsUnavailable."""
        found: dict[str, datetime] = {}
        with self._files("list") as files:
            objects = files.listed(FOLDER)
        for path, written in objects.items():
            parts = path.split("/")
            if len(parts) == 3 and parts[1].isdecimal():  # run, token, name
                run_id = unquote(parts[0])
                found[run_id] = max(written, found.get(run_id, written))
        return dict(sorted(found.items()))

    def keep_model(self, key: str, files: Mapping[str, bytes]) -> None:
        """Keep the files of a model; the last of them is written last. Raises CheckpointsUnavailable."""
        with external_write("checkpoint.keep_model"), self._files("write") as store:
            for name, content in files.items():
                store.put(f"{MODELS}/{_folder(key)}/{name}", content)

    def kept_model(self, key: str, name: str) -> bytes | None:
        """A file of a kept model; None where there is none. Raises CheckpointsUnavailable."""
        with self._files("read") as files:
            return files.get(f"{MODELS}/{_folder(key)}/{name}")

    def kept_models(self) -> list[str]:
        """Keys of all models that are kept. Raises CheckpointsUnavailable."""
        with self._files("list") as files:
            objects = files.listed(MODELS)
        return sorted({unquote(path.split("/")[0]) for path in objects})

    def drop_model(self, key: str) -> None:
        """All files of a kept model; nothing where there are none. Raises CheckpointsUnavailable."""
        with self._files("remove") as files:
            files.remove_all(f"{MODELS}/{_folder(key)}")

    def check(self) -> str:
        """Write, read and remove an object; where that was, in words. Raises CheckpointsUnavailable."""
        asked_by = f"acis-doctor-{secrets.token_hex(8)}"  # several may ask at once
        found = self.read(self.write(asked_by, 0, "check", b"is it kept?"))
        self.delete_run(asked_by)
        if found is None:
            message = f"checkpoints at {self.url}: what was written there could not be read again"
            raise CheckpointsUnavailable(message)
        return self.url

    @contextmanager
    def _files(self, verb: str) -> Iterator[Files]:
        try:
            yield self._opened
        except Exception as exc:
            # Every store's library has errors of its own; none of them may end a training.
            is_s3 = self.url.startswith(s3.SCHEME)
            found = s3.in_words(exc) if is_s3 else f"{type(exc).__name__}: {exc}"
            message = (
                f"cannot {verb} checkpoints at {self.url}: {found}; set ACIS_CHECKPOINT_URL to a folder "
                "or an object store that this worker can write"
            )
            raise CheckpointsUnavailable(message, is_refused=is_s3 and s3.is_refusal(exc)) from exc

    @cached_property
    def _opened(self) -> Files:
        if self.url.startswith(s3.SCHEME):
            return s3.S3Files(self.url, endpoint=self._endpoint)
        return FsspecFiles(self.url)


def _folder(run_id: str) -> str:
    """A run id is somebody's task id, so it may hold anything; `..` would be another folder."""
    return quote(run_id, safe="").replace("..", "%2E%2E")
