"""The same bare environment as unit tests have, and services with fakes around a real ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ledgers import TimedLedger
from tests.support.services import FakeServices, fake_services
from tests.unit.conftest import bare_environment, logging_as_it_was

__all__ = ["bare_environment", "logging_as_it_was"]


@pytest.fixture
def services(tmp_path: Path, timed: TimedLedger) -> FakeServices:
    """One strategy, its panel, and fakes behind every port but the ledger's."""
    return fake_services(tmp_path, timed)
