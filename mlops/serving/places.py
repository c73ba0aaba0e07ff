"""Where serving keeps files on the local disk: a folder for each ledger, so that none is taken for another's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlops.addresses import without_credentials

if TYPE_CHECKING:
    from config.settings import Settings


def folder_of_ledger(settings: Settings, part: Literal["models", "spool", "tokens"]) -> Path:
    """The folder below `ACIS_VAR_DIR/serving` that belongs to the ledger of these settings.

    Its name is a digest of DATABASE_URL without user and password: new credentials find it again, another address does
    not.
    """
    url = settings.database_url
    address = without_credentials(url.get_secret_value()) if url else ""
    return settings.var_dir / "serving" / part / hashlib.sha256(address.encode()).hexdigest()[:8]
