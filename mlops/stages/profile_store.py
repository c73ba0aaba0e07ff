"""Drift profiles of registered versions, kept near the check: in memory, then on disk, then in the registry.

A check of a version that this machine has seen needs no registry, whose library takes seconds to import. A file is
named for the champion's sequence number too, since a registry that was made anew counts its versions anew, and for its
own digest, which is verified whenever it is read.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from mlops.domain.drift.training_profile import profile_digest, read_profile
from mlops.domain.errors import UnusableProfile
from mlops.domain.ports import UNKNOWN, expect

if TYPE_CHECKING:
    from mlops.domain.drift.training_profile import DriftProfile
    from mlops.domain.ports import ModelRegistry
    from mlops.domain.records import ModelIdentity

log = structlog.get_logger(__name__)

#: Profiles in memory, of 15 MB each with 45 features and four years.
_IN_MEMORY = 4
#: Files of one model; a rollback finds the version before.
_ON_DISK = 4


@dataclass(frozen=True, kw_only=True)
class StoredProfile:
    """A verified profile."""

    profile: DriftProfile
    sha256: str


class ProfileStore:
    """Profiles by model, version and the champion's sequence number."""

    def __init__(self, folder: Path, registry: Callable[[], ModelRegistry], *, origin: str) -> None:
        """`origin` names the registry, so that two of them do not share files; `registry` opens it."""
        self._folder = folder
        self._registry = registry
        self._origin = hashlib.sha256(origin.encode()).hexdigest()[:8]
        self._known: OrderedDict[str, StoredProfile] = OrderedDict()

    def get(self, model_name: str, version: str, *, seq: int, identity: ModelIdentity = UNKNOWN) -> StoredProfile:
        """The version's profile. Raises UnusableProfile, VersionNotFound, ModelNotFound, RegistryUnavailable."""
        place = self._folder / model_name
        stem = f"{self._origin}-v{version}-seq{seq}-"
        key = f"{model_name}/{stem}"
        found = self._known.get(key) or self._on_disk(place, stem)
        if found is None:
            registry = self._registry()
            expect(registry.version(model_name, version), identity)
            content = registry.drift_profile(model_name, version)
            found = StoredProfile(profile=read_profile(content), sha256=profile_digest(content))
            _write(place, f"{stem}{found.sha256}.arrow", content)
        self._known[key] = found
        self._known.move_to_end(key)
        while len(self._known) > _IN_MEMORY:
            self._known.popitem(last=False)
        return found

    def _on_disk(self, place: Path, stem: str) -> StoredProfile | None:
        for path in sorted(place.glob(f"{stem}*.arrow")):
            sha256 = path.stem.removeprefix(stem)
            try:
                return StoredProfile(profile=read_profile(path.read_bytes(), expected_sha256=sha256), sha256=sha256)
            except (OSError, UnusableProfile) as exc:
                log.warning("profile.file_not_usable", path=str(path), error=str(exc), next="fetched from the registry")
        return None


def _write(place: Path, name: str, content: bytes) -> None:
    """Whole or not at all; a folder that cannot be written costs the next process a download."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place, prefix=".profile-", delete=False) as file:
            file.write(content)
        os.replace(file.name, place / name)  # noqa: PTH105 -- Path.replace says the same
        oldest_first = sorted(place.glob("*.arrow"), key=lambda path: path.stat().st_mtime)
        for path in oldest_first[:-_ON_DISK]:
            path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("profile.not_kept", folder=str(place), error=str(exc), action="set ACIS_VAR_DIR")
