"""What serving keeps on the local disk is one ledger's: another one with the same folder neither reads nor takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from config.settings import Settings
from mlops.serving.places import folder_of_ledger
from mlops.serving.spool import SpoolFolder


def settings(folder: Path, url: str) -> Settings:
    given: dict[str, Any] = {"var_dir": folder, "database_url": SecretStr(url)}
    return Settings(**given)


def test_another_ledger_has_another_folder_and_new_credentials_the_same(tmp_path: Path) -> None:
    one = folder_of_ledger(settings(tmp_path, "postgresql://user:old@host/a"), "spool")
    assert one == folder_of_ledger(settings(tmp_path, "postgresql://other:new@host/a"), "spool")
    assert one != folder_of_ledger(settings(tmp_path, "postgresql://user:old@host/b"), "spool")
    assert one != folder_of_ledger(settings(tmp_path, "postgresql://user:old@host/a"), "tokens")
    assert one.is_relative_to(tmp_path / "serving" / "spool")


def test_what_waits_for_one_ledger_is_not_taken_over_for_another(tmp_path: Path) -> None:
    one, other = (
        folder_of_ledger(settings(tmp_path, f"postgresql://host/{name}"), "spool") for name in ("one", "other")
    )
    folder = SpoolFolder.new(one, "service")
    folder.new_segment().forget()
    folder.close()
    assert list(SpoolFolder.abandoned(other)) == []
    assert len(list(SpoolFolder.abandoned(one))) == 1
