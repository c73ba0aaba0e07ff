"""Where a router gets the champion's model file, each verified by its digest before it is used.

    local copies     what this machine has served; all that is left when every server is away
    kept models      beside the registry, written before a promotion is committed (mlops.registry.kept_models)
    registry         MLflow, whose library takes seconds to load

A folder of local copies holds the newest few models of a strategy, and the champion's record, written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import (
    AcisError,
    ConfigurationError,
    RegistryError,
    TemporaryError,
    UnusableModelFile,
)
from mlops.domain.ports import expect
from mlops.registry.kept_models import MODEL, PROFILE, key_of
from mlops.registry.model_file import verify_digest
from mlops.serving.loading import ModelFile

if TYPE_CHECKING:
    from mlops.domain.records import Champion
    from mlops.registry.services import RegistryServices

log = structlog.get_logger(__name__)

_KEPT = 4
"""Models of a strategy; a rollback finds those before."""
_RECORD = "champion.json"


@dataclass(frozen=True, kw_only=True)
class ChampionRecord:
    """The champion as the ledger last said."""

    version: str | None
    """None: there is none"""
    sha256: str | None
    seq: int
    confirmed_at: str
    """When the ledger said so, by this machine's clock; ISO 8601 in UTC"""

    def age_s(self, now: datetime) -> float:
        """Seconds since then; 0 where the clock was set back meanwhile."""
        return max(0.0, (now - datetime.fromisoformat(self.confirmed_at)).total_seconds())


class LocalCopies:
    """A folder of a strategy's models. One that cannot be written costs a restart without servers its model."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._damaged: set[str] = set()
        """Digests of copies that were said to be damaged"""

    def model(self, sha256: str) -> bytes | None:
        """The model file of that digest; None where it is not there, or not whole."""
        try:
            content = (self._folder / f"{sha256}.ubj").read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content).hexdigest() == sha256:
            self._damaged.discard(sha256)
            return content
        if sha256 not in self._damaged:  # once, and not each second
            self._damaged.add(sha256)
            log.warning("serving.copy_damaged", folder=str(self._folder), sha256=sha256, next="fetched again")
        return None

    def profile(self, sha256: str) -> bytes | None:
        """The training profile beside the model file, which its reader verifies; None where there is none."""
        with suppress(OSError):
            return (self._folder / f"{sha256}.arrow").read_bytes()
        return None

    def record(self) -> ChampionRecord | None:
        """The champion when this machine last asked; None where it never did, or the record is torn."""
        try:
            found = ChampionRecord(**json.loads((self._folder / _RECORD).read_text()))
            found.age_s(datetime.now(UTC))
        except (OSError, ValueError, TypeError):
            return None
        return found

    def keep(self, file: ModelFile) -> None:
        """Keep a model and its profile, and let the oldest go; never the recorded champion's."""
        self._write(f"{file.sha256}.ubj", file.content)
        if file.profile is not None:
            self._write(f"{file.sha256}.arrow", file.profile)
        record = self.record()
        with suppress(OSError):
            newest_last = sorted(self._folder.glob("*.ubj"), key=lambda path: path.stat().st_mtime)
            for path in newest_last[:-_KEPT]:
                if record is None or path.stem != record.sha256:
                    path.unlink(missing_ok=True)
                    path.with_suffix(".arrow").unlink(missing_ok=True)

    def renew(self, sha256: str) -> None:
        """Count a model that was taken from memory as the newest."""
        with suppress(OSError):
            os.utime(self._folder / f"{sha256}.ubj")

    def note(self, record: ChampionRecord) -> None:
        """Keep the champion's record."""
        self._write(_RECORD, json.dumps(asdict(record)).encode())

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all, also when the machine loses power."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".part-", delete=False) as file:
                try:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(self._folder / name)
                except OSError:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as exc:
            log.warning(
                "serving.copy_not_kept",
                folder=str(self._folder),
                error=str(exc),
                action="make ACIS_VAR_DIR writable: without it a restart needs the servers",
            )


def find_model(services: RegistryServices, copies: LocalCopies, champion: Champion, version: str) -> ModelFile:
    """The champion's model file from the nearest place that holds its bytes; `version` is the champion's.

    Raises UnusableModelFile where what is there is damaged everywhere, TemporaryError where the rest is away.
    """
    identity = champion.identity
    name = f"of {champion.strategy} version {version}"
    sha256 = identity.sha256
    if sha256 is None:
        message = (
            f"the model file {name} is served by the digest that the ledger has of it, and the ledger has none: it was "
            f"promoted before digests were kept. Look at it and say what it is with "
            f"`acis registry record {champion.strategy} {version} --reason …`"
        )
        raise UnusableModelFile(message)
    refused: list[AcisError] = []

    def usable(read: Callable[[], bytes | None]) -> bytes | None:
        try:
            content = read()
            if content is not None:
                verify_digest(content, sha256, name=name)
        except (RegistryError, ConfigurationError, TemporaryError) as exc:
            refused.append(exc)
            return None
        return content

    def kept(part: str) -> bytes | None:
        return services.checkpoints.kept_model(key_of(identity), part) if identity.made_by else None

    def places() -> Iterator[tuple[Callable[[], bytes | None], Callable[[], bytes | None]]]:
        yield lambda: copies.model(sha256), lambda: copies.profile(sha256)
        yield lambda: kept(MODEL), lambda: kept(PROFILE)
        model_name = services.strategies[champion.strategy].model_name
        yield (
            lambda: _registered(services, champion, model_name, version),
            lambda: services.registry.drift_profile(model_name, version),
        )

    for model, profile in places():
        content = usable(model)
        if content is not None:
            return ModelFile(
                strategy=champion.strategy,
                version=version,
                seq=champion.seq,
                sha256=sha256,
                content=content,
                profile=_without_errors(profile),
            )
    raise _worst(refused)


def _registered(services: RegistryServices, champion: Champion, model_name: str, version: str) -> bytes:
    """The registry's bytes. Raises RegistryError, RegistryUnavailable."""
    expect(services.registry.version(model_name, version), champion.identity)
    return services.registry.model_file(model_name, version)


def _without_errors(read: Callable[[], bytes | None]) -> bytes | None:
    """Without a profile engines are compared on other rows."""
    try:
        return read()
    except AcisError:
        return None


def _worst(refused: list[AcisError]) -> AcisError:
    """A damaged file is said before a server that is away, and that before what is not there."""
    for kind in (UnusableModelFile, TemporaryError):
        for error in refused:
            if isinstance(error, kind):
                return error
    return refused[-1]
