"""Where a running `make run` announces its servers, so that scripts in other terminals find them.

Read at every start of every process: standard library only. `devstack.stack` writes it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

FILE = Path("run") / "endpoints.json"
"""Below the var folder; mode 600, since the URLs hold passwords."""


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """URLs and files of a running stack."""

    database_url: str
    """Features and ledger."""
    celery_broker_url: str
    celery_result_backend: str
    mlflow_tracking_uri: str
    flower_url: str
    flower_credentials: Path
    """JSON file of mode 600 whose `flower_user` and `flower_password` sign in to Flower, and `admin_user` and
    `admin_password` to the admin page while nobody has changed that password there."""
    admin_url: str
    """The admin page."""
    serve_url: str
    """The prediction service."""
    strategies_file: Path
    var_dir: Path
    supervisor_pid: int
    """The stack runs while this process does."""
    supervisor_birth: str
    """When that process began, in the kernel's words: a pid that is used again is another process."""
    started_at: datetime
    mlflow_auth: str = ""
    """`user:password` at MLflow for the programs of whoever can read this file."""

    def settings(self) -> dict[str, str]:
        """The values by the names of `config.settings.Settings`' fields."""
        return {
            "database_url": self.database_url,
            "celery_broker_url": self.celery_broker_url,
            "celery_result_backend": self.celery_result_backend,
            # One value, so that no other server is ever sent these credentials.
            "mlflow_tracking_uri": _signed_in(self.mlflow_tracking_uri, self.mlflow_auth),
            "flower_url": self.flower_url,
            "admin_url": self.admin_url,
            "strategies_file": str(self.strategies_file),
        }

    def is_alive(self) -> bool:
        """The process that supervises the stack still runs."""
        try:
            os.kill(self.supervisor_pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it runs, as somebody else
        return process_birth(self.supervisor_pid) == self.supervisor_birth


def _signed_in(url: str, auth: str) -> str:
    user, _, password = auth.partition(":")
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest.rpartition('@')[2]}" if user else url


def process_birth(pid: int) -> str:
    """When a process began, in ticks since the machine's start; empty where the kernel has no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    # Field 22; the program's name, field 2, is in brackets and may hold spaces.
    return stat.rpartition(")")[2].split()[19]


def read_endpoints(var_dir: Path) -> Endpoints | None:
    """The running stack of this var folder; None when none runs, or it is not ours to read."""
    try:
        found: dict[str, Any] = json.loads((var_dir / FILE).read_text(encoding="utf-8"))
        announced = Endpoints(
            **{
                **found,
                "flower_credentials": Path(found["flower_credentials"]),
                "strategies_file": Path(found["strategies_file"]),
                "var_dir": Path(found["var_dir"]),
                "started_at": datetime.fromisoformat(found["started_at"]),
            }
        )
    except (OSError, ValueError, KeyError, TypeError):
        # No file, no right to read it, or one that another version of this program left behind.
        return None
    return announced if announced.is_alive() else None


def write_endpoints(endpoints: Endpoints) -> Path:
    """Announce a running stack; the file appears whole, and only its owner can read it."""
    path = endpoints.var_dir / FILE
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(endpoints), file, default=_as_text, indent=1)
    new.replace(path)
    return path


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def remove_endpoints(var_dir: Path) -> None:
    """The stack no longer runs."""
    (var_dir / FILE).unlink(missing_ok=True)
