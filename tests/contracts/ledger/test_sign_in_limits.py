"""How often passwords may be tried: each answer by the schedule of docs/decisions/0051, on a clock that is moved."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mlops.ledger.people import sign_in_limits
from mlops.ledger.people.accounts import UserRefused
from mlops.ledger.people.sign_in_limits import Limit
from tests.support.ledgers import TimedLedger

PAIR = Limit(key="from 192.0.2.1 anna", most=3, user="anna")
NAME = Limit(key="name anna", most=5, user="anna", is_kept=True)


def test_the_wait_grows_to_an_hour_and_a_wrong_one_is_forgotten_each_hour(timed: TimedLedger) -> None:
    waits = []
    for _ in range(5):
        while not (closed := timed.ledger.begin_try([PAIR])):
            pass
        waits.append(closed[PAIR.key])
        timed.advance(closed[PAIR.key] + 1)
    # 3 wrong: 900 s, in which a quarter is forgotten; 3.75: 1,800 s; 4.25: 1,800 s; 4.75 and more: 3,600 s.
    assert waits == pytest.approx([900, 1800, 1800, 3600, 3600], abs=60)
    timed.advance(6 * 3600)
    assert [bool(timed.ledger.begin_try([PAIR])) for _ in range(4)] == [False, False, False, True]


def test_many_at_once_get_no_more_than_the_same_in_a_row(timed: TimedLedger) -> None:
    with ThreadPoolExecutor(8) as pool:
        closed = list(pool.map(lambda n: timed.ledger.begin_try([PAIR, NAME][:: 1 if n % 2 else -1]), range(40)))
    assert closed.count({}) == PAIR.most


def test_a_try_that_one_limit_refuses_counts_against_none(timed: TimedLedger) -> None:
    for _ in range(PAIR.most):
        assert timed.ledger.begin_try([PAIR, NAME]) == {}
    for _ in range(10):
        assert set(timed.ledger.begin_try([PAIR, NAME])) == {PAIR.key}
    assert timed.ledger.begin_try([NAME]) == {}


def test_a_right_password_is_taken_back_and_forgives_the_wrong_ones_before_it(timed: TimedLedger) -> None:
    for _ in range(NAME.most - 2):
        timed.ledger.begin_try([NAME])
    for _ in range(10):
        assert timed.ledger.begin_try([PAIR, NAME]) == {}
        timed.ledger.end_right_try([PAIR, NAME], forgiven=[PAIR])
    assert [bool(timed.ledger.begin_try([NAME])) for _ in range(3)] == [False, False, True]


def test_unlocking_is_of_one_user_and_everywhere(timed: TimedLedger) -> None:
    timed.ledger.add_user("anna", "a password for tests", role="viewer", created_by="test")
    address = Limit(key="address 192.0.2.1", most=1)
    for _ in range(PAIR.most):
        timed.ledger.begin_try([PAIR, NAME])
    timed.ledger.begin_try([address])
    assert timed.ledger.unlock("anna") == 2
    assert timed.ledger.begin_try([PAIR, NAME]) == {}
    assert timed.ledger.begin_try([address]) != {}
    with pytest.raises(UserRefused, match="no user 'ben'"):
        timed.ledger.unlock("ben")


def test_a_flood_from_many_addresses_takes_out_its_own_and_never_a_users(
    timed: TimedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_limits, "MOST_TRACKED", 20)
    for _ in range(NAME.most):
        timed.ledger.begin_try([NAME])
    for number in range(60):
        assert timed.ledger.begin_try([Limit(key=f"address 10.0.0.{number}", most=2)]) == {}
    assert timed.ledger.begin_try([NAME]) != {}
    # The first of them was taken out: its two tries are not remembered, those of the last are.
    assert timed.ledger.begin_try([Limit(key="address 10.0.0.0", most=2)]) == {}
    last = Limit(key="address 10.0.0.59", most=2)
    assert [bool(timed.ledger.begin_try([last])) for _ in range(2)] == [False, True]
