"""Who is known may ask, whether the ledger is there or not; who was revoked may not for long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlops.domain.errors import LedgerUnavailable
from mlops.ledger.people.accounts import Token
from mlops.serving import tokens
from mlops.serving.tokens import BELIEVED_S, CHECK_EVERY_S, TokenCache
from tests.support.waiting import wait_for

TOKEN = Token(
    id="1", name="backend", user="caller", role="viewer", created_at=datetime(2026, 1, 1, tzinfo=UTC),
    used_at=None, expires_at=None, revoked_at=None,
)  # fmt: skip


class Ledger:
    """Knows some tokens, and can be away."""

    def __init__(self, *known: str) -> None:
        self.known, self.is_away, self.asked = set(known), False, 0
        self.expires_at: datetime | None = None

    def token_of(self, text: str) -> Token | None:
        self.asked += 1
        if self.is_away:
            raise LedgerUnavailable
        return replace(TOKEN, expires_at=self.expires_at) if text in self.known else None


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger() -> Ledger:
    return Ledger("good")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(ledger: Ledger, clock: Clock, tmp_path: Path) -> Iterator[TokenCache]:
    found = TokenCache(ledger, tmp_path / "tokens.json", now=clock)
    yield found
    found.close()


def test_a_token_is_asked_about_once_and_then_known(cache: TokenCache, ledger: Ledger) -> None:
    assert not cache.knows("good")
    assert cache.verify("good")
    for _ in range(100):
        assert cache.knows("good")
    assert ledger.asked == 1


def test_an_unknown_token_is_refused_and_the_ledger_is_not_asked_each_time(cache: TokenCache, ledger: Ledger) -> None:
    for _ in range(100):
        assert not cache.knows("bad")
        assert not cache.verify("bad")
    assert ledger.asked == 1


def test_a_revoked_token_is_refused_from_the_next_look_on(cache: TokenCache, ledger: Ledger) -> None:
    assert cache.verify("good")
    ledger.known.clear()
    cache.check()
    assert not cache.knows("good")
    assert not cache.verify("good")


def test_looks_are_so_frequent_that_a_revoked_token_is_refused_within_a_minute(
    cache: TokenCache, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CHECK_EVERY_S <= 40
    monkeypatch.setattr(tokens, "CHECK_EVERY_S", 0.02)
    assert cache.verify("good")
    cache.start()
    ledger.known.clear()
    wait_for(lambda: not cache.knows("good"), "it is refused")


def test_while_the_ledger_is_away_the_known_are_believed_for_a_day(
    cache: TokenCache, ledger: Ledger, clock: Clock
) -> None:
    assert cache.verify("good")
    ledger.is_away = True
    clock.now += BELIEVED_S - 1
    with pytest.raises(LedgerUnavailable):
        cache.check()
    assert cache.knows("good")
    with pytest.raises(LedgerUnavailable):
        cache.verify("new")
    clock.now += 2
    assert not cache.knows("good")


def test_a_token_that_runs_out_while_the_ledger_is_away_has_run_out(
    cache: TokenCache, ledger: Ledger, clock: Clock
) -> None:
    ledger.expires_at = datetime.fromtimestamp(clock.now + 60, UTC)
    assert cache.verify("good")
    ledger.is_away = True
    clock.now += 59
    assert cache.knows("good")
    clock.now += 2
    assert not cache.knows("good")


def test_a_restart_without_the_ledger_knows_who_was_known(
    cache: TokenCache, ledger: Ledger, clock: Clock, tmp_path: Path
) -> None:
    assert cache.verify("good")
    ledger.is_away = True
    again = TokenCache(ledger, tmp_path / "tokens.json", now=clock)
    assert again.knows("good")
    assert not again.knows("bad")
    ledger.is_away = False
    ledger.known.clear()
    again.check()
    assert not again.knows("good")
    assert not TokenCache(ledger, tmp_path / "tokens.json", now=clock).knows("good")


def test_the_file_holds_no_token_and_is_its_owners_alone(cache: TokenCache, tmp_path: Path) -> None:
    assert cache.verify("good")
    path = tmp_path / "tokens.json"
    assert "good" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": "b"}', "null"])
def test_a_file_that_is_torn_is_left_aside(ledger: Ledger, tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    assert not TokenCache(ledger, path).knows("good")
    assert TokenCache(ledger, path).verify("good")


def test_a_clock_that_was_ahead_makes_nobody_known_for_longer(
    cache: TokenCache, ledger: Ledger, clock: Clock, tmp_path: Path
) -> None:
    clock.now += 10 * BELIEVED_S
    assert cache.verify("good")
    clock.now -= 10 * BELIEVED_S
    again = TokenCache(ledger, tmp_path / "tokens.json", now=clock)
    clock.now += BELIEVED_S + 1
    assert not again.knows("good")


def test_only_so_many_are_remembered(cache: TokenCache, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MOST", 3)
    ledger.known = {f"t{n}" for n in range(5)}
    assert all(cache.verify(f"t{n}") for n in range(5))
    assert sum(cache.knows(f"t{n}") for n in range(5)) == 3
    assert cache.knows("t4")
