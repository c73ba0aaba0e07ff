"""How often passwords may be tried: counted here, so that all processes of the page count the same.

A try is counted before its password is compared, and taken back where it was right: of many at once no more pass than
of as many in a row. Wrong ones add up in a level that falls by one an hour; where it reaches a limit, the next try
waits a quarter of an hour, then half an hour, then an hour after each further wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Integer, and_, case, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.records import AHEAD_S
from mlops.ledger import tables
from mlops.ledger.columns import after, now, within
from mlops.ledger.engine import Repository
from mlops.ledger.people.accounts import UserRefused

_limit = tables.sign_in_limit.c
_audit = tables.audit.c

FIRST_WAIT_S, LONGEST_WAIT_S = 900.0, 3600.0
"""After the try that reaches a limit; it doubles with each further wrong one."""
FORGOTTEN_S = 3600.0
"""One wrong password less, so that who is guessed at for days still waits no longer than an hour."""
MOST_TRACKED = 10_000
"""Addresses, and names that no user has; the longest unseen goes. What is counted of a user's own name stays."""
GUESSED_AT_S = 7200.0
LEAST_GUESSES = 10


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What wrong passwords count against."""

    key: str
    most: int
    """Wrong passwords, before the next try must wait."""
    user: str | None = None
    """Whose it is; `unlock` by the name ends it."""
    is_kept: bool = False
    """Never taken out to make room: there are no more of the kind than users and their browsers."""


@dataclass(frozen=True, kw_only=True)
class GuessedAt:
    """A user whose password somebody tries to guess."""

    name: str
    times: int
    n_addresses: int
    since: datetime


class SignInLimits(Repository):
    """Each call is one transaction; rows are locked in the order of their keys."""

    def begin_try(self, limits: Sequence[Limit]) -> dict[str, float]:
        """Count a try against all limits; where some are closed, count none: the seconds to wait of each, by key."""
        with self.database.transaction("ledger.begin_try") as connection:
            rows = [
                {"key": one.key, "user_name": one.user, "is_kept": one.is_kept, "level": 0.0, "seen_at": now()}
                for one in sorted(limits, key=lambda one: one.key)
            ]
            counted = insert(tables.sign_in_limit).values(rows)
            locked = counted.on_conflict_do_update(index_elements=[_limit.key], set_={"key": counted.excluded.key})
            connection.execute(locked)
            waits, levels = _looked_at(connection, [one.key for one in limits])
            if waits:
                return waits
            for one in limits:
                level = levels[one.key] + 1
                closed = after(_wait_s(level, one.most)) if round(level) >= one.most else None
                changed = update(tables.sign_in_limit).where(_limit.key == one.key)
                connection.execute(changed.values(level=level, seen_at=now(), closed_until=closed))
            if 0.0 in levels.values():  # one was added, as a rule
                _make_room(connection)
        return {}

    def end_right_try(self, limits: Sequence[Limit], *, forgiven: Sequence[Limit]) -> None:
        """Take a try back, whose password was right; of `forgiven` the wrong ones before it, too."""
        with self.database.transaction("ledger.end_right_try") as connection:
            _looked_at(connection, [one.key for one in (*limits, *forgiven)])
            connection.execute(delete(tables.sign_in_limit).where(_limit.key.in_([one.key for one in forgiven])))
            keys = {one.key for one in limits} - {one.key for one in forgiven}
            level = func.greatest(literal(0.0), _limit.level - 1)
            back = update(tables.sign_in_limit).where(_limit.key.in_(keys))
            connection.execute(back.values(level=level, closed_until=None))

    def unlock(self, name: str) -> int:
        """Forget the wrong passwords for a user, from everywhere; against how many limits they counted.

        Raises UserRefused where there is no such user.
        """
        with self.database.transaction("ledger.unlock") as connection:
            if connection.execute(select(tables.user.c.name).where(tables.user.c.name == name)).one_or_none() is None:
                raise UserRefused(f"there is no user {name!r}")
            counted = select(_limit.key).where(_limit.user_name == name).order_by(_limit.key).with_for_update()
            keys = connection.scalars(counted).all()
            return connection.execute(delete(tables.sign_in_limit).where(_limit.key.in_(keys))).rowcount

    def guessed_at(self, *, within_s: float = GUESSED_AT_S, least: int = LEAST_GUESSES) -> list[GuessedAt]:
        """Users for whom so many passwords were refused or limited lately, the most first."""
        times = func.sum(func.coalesce(_audit.detail["times"].astext.cast(Integer), 1))
        query = (
            select(_audit.subject, times, func.count(_audit.address.distinct()), func.min(_audit.created_at))
            .join(tables.user, tables.user.c.name == _audit.subject)
            .where(_audit.action.in_(["sign_in.refused", "sign_in.limited"]), within(_audit.created_at, within_s))
            .group_by(_audit.subject)
            .having(times >= least)
            .order_by(times.desc(), _audit.subject)
        )
        with self.database.reading() as connection:
            return [
                GuessedAt(name=name, times=int(n), n_addresses=n_addresses, since=since)
                for name, n, n_addresses, since in connection.execute(query)
            ]


def _looked_at(connection: Connection, keys: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds to wait of what is closed, and the level of each, all locked.

    What was written by a clock that was ahead then counts as nothing.
    """
    is_sound = _limit.seen_at <= after(AHEAD_S)
    wait = case((is_sound, func.extract("epoch", _limit.closed_until - now())), else_=0.0)
    fallen = _limit.level - func.extract("epoch", now() - _limit.seen_at) / FORGOTTEN_S
    level = case((is_sound, fallen), else_=0.0)
    query = select(_limit.key, wait, level).where(_limit.key.in_(keys)).order_by(_limit.key).with_for_update()
    rows = connection.execute(query).all()
    waits = {key: float(found) for key, found, _ in rows if found and found > 0}
    return waits, {key: max(0.0, float(found)) for key, _, found in rows}


def _wait_s(level: float, most: int) -> float:
    return float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (round(level) - most)))


def _make_room(connection: Connection) -> None:
    """Take out what counts for nothing any more, and the longest unseen beyond the bound."""
    is_over = and_(
        _limit.level * FORGOTTEN_S < func.extract("epoch", now() - _limit.seen_at),
        or_(_limit.closed_until.is_(None), _limit.closed_until < now()),
    )
    others = select(_limit.key).where(~_limit.is_kept).order_by(_limit.seen_at.desc()).offset(MOST_TRACKED)
    gone = select(_limit.key).where(or_(is_over, _limit.key.in_(others))).with_for_update(skip_locked=True)
    connection.execute(delete(tables.sign_in_limit).where(_limit.key.in_(gone)))
