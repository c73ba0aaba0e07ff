"""Refusals: the first of a kind is written at once, the same again is counted, and all of it is bounded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from admin.auth.refusals import MANY, MOST_LINES, RefusalRecord
from admin.auth.sign_in import _place
from mlops.domain.errors import LedgerUnavailable


class Written:
    """A ledger that keeps what is audited."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str | None, int]] = []
        self.is_away = False

    def audit_refusal(
        self, actor: str, action: str, subject: str, *, address: str | None, times: int, **_: object
    ) -> None:
        if self.is_away:
            raise LedgerUnavailable
        self.lines.append((subject, address, times))


@pytest.fixture
def ledger() -> Written:
    return Written()


@pytest.fixture
def record(ledger: Written) -> RefusalRecord:
    return RefusalRecord(cast("Any", SimpleNamespace(ledger=ledger)))


def test_the_same_again_is_counted_and_written_together(ledger: Written, record: RefusalRecord) -> None:
    for _ in range(12_000):
        record.note("nobody", "sign_in.refused", "anna", address="192.0.2.1", refused="wrong")
    assert ledger.lines == [("anna", "192.0.2.1", 1)]
    record.close()
    assert ledger.lines == [("anna", "192.0.2.1", 1), ("anna", "192.0.2.1", 11_999)]


def test_beyond_a_bound_of_lines_the_rest_is_counted_without_what_there_may_be_any_number_of(
    ledger: Written, record: RefusalRecord
) -> None:
    for number in range(MOST_LINES + 50):
        record.note("victor", "run.cancel", f"run-{number}", address="192.0.2.1", refused="a viewer")
        record.note("nobody", "sign_in.refused", "anna", address=f"10.0.0.{number}", refused="wrong")
    record.close()
    assert len(ledger.lines) == 2 * (MOST_LINES + 2)
    assert {line for line in ledger.lines if line[1] is None} == {
        (MANY, None, 1),
        (MANY, None, 49),
        ("anna", None, 1),
        ("anna", None, 49),
    }


def test_a_ledger_that_is_away_lets_nobody_in_and_stops_nothing(ledger: Written, record: RefusalRecord) -> None:
    ledger.is_away = True
    record.note("nobody", "sign_in", "/admin/sign-in", address=None, refused="another site")
    record.close()
    assert ledger.lines == []


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:7:1::1", "2001:db8:0:7::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "(no address)"),
        ("192.0.2.7, 192.0.2.8", "(no address)"),
        (None, "(no address)"),
    ],
)
def test_a_limit_of_an_address_is_that_of_a_household(address: str | None, place: str) -> None:
    assert _place(address) == place
