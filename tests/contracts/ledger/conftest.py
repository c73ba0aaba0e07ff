"""The ledger, empty, with a clock that the test moves."""

from __future__ import annotations

import pytest

from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import TimedLedger


@pytest.fixture
def ledger(timed: TimedLedger) -> SqlLedger:
    """The ledger of `timed`."""
    return timed.ledger
