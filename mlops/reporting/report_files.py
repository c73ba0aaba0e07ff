"""A check's report as files: the JSON at its documented place, the page beside it, or a page anywhere.

Called by the drift stage and by the commands. The ledger has the report in any case, so a file that cannot be
written is a warning to a stage and an error to a person who asked for it.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import structlog

from mlops.domain.errors import ConfigurationError
from mlops.domain.ports import Ledger
from mlops.reporting.page.render import render_page
from mlops.volumes import in_words, says_full

log = structlog.get_logger(__name__)


def write_report(document: dict[str, Any], strategy: str, as_of: date, folder: Path, *, owner: str) -> Path | None:
    """Write the report to its documented place, or beside it; None, and nothing is left, where that cannot be.

    owner: id of the ledger that keeps the report; it stands in the file. Where the documented place holds another
    ledger's report, as in the temporary folder that two checkouts share, ours has the first eight characters of that
    id in its name. What another user of the machine put there is no place for a report: it is a warning that names it.
    """
    documented = folder / f"drift_report_{strategy}_{as_of:%Y%m%d}.json"
    text = json.dumps({**document, "ledger": owner}, indent=2, allow_nan=False)
    path = documented
    try:
        refuse_foreign(documented)
        if is_anothers(documented, owner) or not _written(text, documented, owner):
            path = documented.with_stem(f"{documented.stem}_{owner[:8]}")
            log.info("drift.report_beside", path=str(path), found=f"{documented.name} is another ledger's")
            write_whole(text, path)
    except OSError as exc:
        words = in_words(exc, [folder]) if says_full(exc) else str(exc)
        log.warning("drift.report_not_written", path=str(path), error=words, action="set ACIS_REPORT_DIR")
        return None
    return path


def is_anothers(path: Path, owner: str) -> bool:
    """A report stands there that another ledger or another user wrote; one without a ledger's id is anybody's."""
    try:
        if path.is_symlink():
            return False
        if path.stat().st_uid != os.geteuid():
            return True
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("ledger") not in (None, owner)


def refuse_foreign(path: Path) -> None:
    """Raise PermissionError where another user of this machine owns what stands there, or may change the folder.

    A link counts as what its maker owns, whatever it leads to. In a folder that everybody may write, as the temporary
    one, nobody may take away what is ours; without that rule of the folder's (the sticky bit) it is no place.
    """
    folder = path.parent.stat()
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        raise PermissionError(f"{path.parent} may be changed by every user of this machine")
    try:
        found = path.lstat().st_uid
    except FileNotFoundError:
        return
    if found != os.geteuid():
        raise PermissionError(f"{path} was put there by another user of this machine (user id {found})")


def _written(text: str, path: Path, owner: str) -> bool:
    """False where another ledger's report came there meanwhile."""
    made = _temporary(text, path.parent)
    try:
        os.link(made, path)  # nothing is replaced by it
    except FileExistsError:
        refuse_foreign(path)
        if is_anothers(path, owner):
            return False
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
    return True


def write_page(document: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]], path: Path) -> Path | None:
    """Write the report's page, some tens of milliseconds; None where that fails: the verdict does not hang on it."""
    try:
        write_whole(render_page(document, earlier), path)
    except OSError as exc:
        words = in_words(exc, [path.parent]) if says_full(exc) else str(exc)
        log.warning("drift.page_not_written", path=str(path), error=words, action="set ACIS_REPORT_DIR")
        return None
    except Exception:
        log.exception("drift.page_not_rendered", action="the report is in the ledger: report this, then `acis report`")
        return None
    return path


def page_of(ledger: Ledger, run_id: str) -> str:
    """The page of a stored report, with the checks before it. Raises ReportNotFound."""
    stored = ledger.stored_report(run_id)
    document = {**stored.document, "run_id": run_id, "as_of": stored.as_of.isoformat() if stored.as_of else None}
    before = stored.as_of or date.fromisoformat(document["timestamp"][:10])
    earlier = ledger.earlier_checks(stored.strategy, before=before, namespace=stored.namespace)
    return render_page(document, earlier)


def page_place(path: Path) -> Path:
    """Check the path of a page before the work. Raises ConfigurationError where none can be written."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        found = "a folder" if path.is_dir() else f"no folder {path.resolve().parent}"
        raise ConfigurationError(f"a page was asked for at {path}, found {found}: name a file in a folder that exists")
    return path


def save_page(ledger: Ledger, run_id: str, path: Path) -> None:
    """Write the page of a stored report where a person wants it. Raises ReportNotFound, ConfigurationError."""
    page = page_of(ledger, run_id)
    try:
        write_whole(page, page_place(path))
    except OSError as exc:
        words = in_words(exc, [path.parent]) if says_full(exc) else exc.strerror or str(exc)
        raise ConfigurationError(f"the page cannot be written to {path}: {words}; name another file") from exc


def write_whole(text: str, path: Path) -> None:
    """Write a file whole or not at all. Raises OSError."""
    # Replaces what stands at the name, a link too.
    refuse_foreign(path)
    _temporary(text, path.parent).replace(path)


def _temporary(text: str, folder: Path) -> Path:
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".drift_report_", delete=False, encoding="utf-8") as file:
        made = Path(file.name)
        try:
            file.write(text)
            file.flush()  # a volume without room says so here
        except BaseException:
            made.unlink()
            raise
    made.chmod(0o640)  # verdicts and what the features look like are for this user and its group
    return made
