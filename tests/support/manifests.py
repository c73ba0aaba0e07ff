"""`python -m tests.support.manifests`: the Compose files and k8s/base are checked without Docker and without a cluster.

Part of `make check`. Prints what was checked; a fault is one line that says where it is and what would be right.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.settings import variables

ROOT = Path(__file__).resolve().parents[2]
OUR_IMAGE = "acis-mlops"
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "migrate": ("python", "-m", "cli.app", "migrate"),
    "server-users": ("python", "-m", "cli.app", "server-users"),
    "load-sample": ("python", "-m", "cli.app", "load-sample"),
    "demo": ("python", "-m", "cli.app", "demo"),
    "mlflow": ("python", "-m", "config.secret_files", "mlflow", "server"),
    "mlflow without files of secrets": ("mlflow", "server"),
    "tools": ("sleep", "infinity"),
}
"""What a container of our image may run beside a role; `tools` waits for a person's `exec`."""
COMMAND_LINE = ("python", "-m", "cli.app")
"""What a person gives a command to."""


@dataclass(kw_only=True)
class Report:
    """What was looked at, and what is wrong with it."""

    checked: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def expect(self, is_right: object, fault: str) -> None:
        """Note the fault unless it is right."""
        if not is_right:
            self.faults.append(fault)


_SECRET_WORDS = ("PASSWORD", "SECRET", "ACCESS_KEY", "AUTH", "TOKEN", "HEADERS")


def is_secret(variable: str) -> bool:
    """The variable's name says that its value must be in no file."""
    names_a_place = variable.endswith(("_DIR", "_FILE"))
    return not names_a_place and any(word in variable for word in _SECRET_WORDS)


def expect_known_variables(report: Report, where: str, names: Mapping[str, Any]) -> None:
    """Every ACIS_* name is a setting; the roles refuse to start with one that is not."""
    for name in names:
        report.expect(not name.startswith("ACIS_") or name in variables(), f"{where}: {name} is no setting")


def check(root: Path = ROOT) -> Report:
    """All manifests below `root`."""
    # Here, since both import this module.
    from tests.support.compose_file import check_compose
    from tests.support.kubernetes_files import check_kubernetes

    report = Report()
    check_compose(root, report)
    check_kubernetes(root, report)
    return report


def main() -> int:
    """Exit code: 1 where there is a fault."""
    report = check()
    for line in report.checked:
        sys.stdout.write(f"checked {line}\n")
    for fault in report.faults:
        sys.stderr.write(f"FAULT {fault}\n")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
