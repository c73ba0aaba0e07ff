"""How pytest-xdist shares the tests out among its processes: whoever uses the same servers is run by the same process.

`tests.conftest` hands both parts to pytest; they are used with `--dist loadfile`, as `make test` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil
from xdist.scheduler import LoadFileScheduling

TOGETHER: Mapping[str, tuple[str, ...]] = {
    "chaos": ("tests/chaos/",),
    "acceptance": ("tests/acceptance/",),
    "mlflow": (
        "tests/contracts/registry/",
        "tests/integration/registry/",
        "tests/integration/serving/test_following.py",
        "tests/integration/test_servers.py",
        "tests/security/test_mlflow_identities.py",
        "tests/security/test_registry_back_door.py",
        "tests/security/test_tls.py",
        "tests/security/test_tracing.py",
    ),
    "workers": ("tests/integration/workers/",),
}
"""What one process runs from beginning to end, since all of it asks one stack, or one MLflow; in the order of its start."""
_FIRST = ("tests/security/", "tests/integration/", "tests/architecture/", "tests/contracts/")
"""Of the other files those that take longest begin before the many short ones, so that no process is alone at the end."""
IS_SMALL = psutil.virtual_memory().total < 12 * 2**30
"""The chaos system and the acceptance stack take 4 GB each at their peak: on a small machine one follows the other."""


def unit_of(test: str) -> str:
    """What a test is handed out with: a name of `TOGETHER`, else its file.    test : pytest's id"""
    file = test.partition("::")[0]
    unit = next((name for name, paths in TOGETHER.items() if file.startswith(paths)), file)
    return "chaos" if IS_SMALL and unit == "acceptance" else unit


def place_of(test: str) -> int:
    """The lower, the earlier a test is handed out."""
    order: Sequence[str] = (*TOGETHER, *_FIRST)
    unit = unit_of(test)
    return next((place for place, name in enumerate(order) if unit.startswith(name)), len(order))


class UnitScheduling(LoadFileScheduling):
    """Hands out units in the order in which their first tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
