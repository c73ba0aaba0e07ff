"""Fixtures that every test may use; servers start only for tests that ask for one. And who runs what, with several processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import settings

from tests.support.ledgers import ledger_postgres_url, shared_ledger, timed
from tests.support.scheduling import UnitScheduling, place_of
from tests.support.servers import (
    mlflow_database,
    mlflow_passwords,
    mlflow_url,
    postgres_database,
    postgres_server,
    postgres_url,
    redis_numbers,
    redis_server,
    redis_url,
    servers_folder,
)

# A first example imports and compiles, and the machine may be shared: time is no property of ours.
settings.register_profile("acis", deadline=None)
settings.load_profile("acis")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> UnitScheduling | None:
    """The controller's."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return UnitScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In each of several processes the same order."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_of(item.nodeid))


@pytest.fixture(autouse=True, scope="session")
def no_logger_is_kept() -> Iterator[None]:
    """A command's logs are set up for good, as they should be; here they would escape whoever captures them later."""
    configure = structlog.configure

    def configured(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(structlog, "configure", configured)
        yield


__all__ = [
    "ledger_postgres_url",
    "mlflow_database",
    "mlflow_passwords",
    "mlflow_url",
    "postgres_database",
    "postgres_server",
    "postgres_url",
    "redis_numbers",
    "redis_server",
    "redis_url",
    "servers_folder",
    "shared_ledger",
    "timed",
]
