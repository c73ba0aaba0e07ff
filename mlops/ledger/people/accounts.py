"""Who may use the page: users with their roles, their sessions, and the tokens of programs."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast, get_args

import structlog
from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.errors import LedgerError, LedgerUnavailable
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, after, now, within
from mlops.ledger.engine import Repository
from mlops.passwords import NOBODY, digest_of, hash_password, is_password, password_fault

_user = tables.user.c

Role = Literal["viewer", "operator"]
ROLES = cast("tuple[Role, ...]", get_args(Role))
"""A viewer reads; an operator also acts."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")


class UserRefused(LedgerError):
    """A user cannot be made or changed so."""


@dataclass(frozen=True, kw_only=True)
class User:
    """One who may sign in."""

    name: str
    role: Role
    created_by: str
    created_at: datetime
    disabled_at: datetime | None
    """Since when not any more."""


class Users(Repository):
    """Names are for good: a user is disabled, never deleted, since the audit names them."""

    def users(self) -> list[User]:
        """All, by name."""
        with self.database.reading() as connection:
            rows = connection.execute(select(tables.user).order_by(_user.name)).all()
        return [_user_of(row) for row in rows]

    def user(self, name: str) -> User | None:
        """None where there is none of that name."""
        with self.database.reading() as connection:
            row = connection.execute(select(tables.user).where(_user.name == name)).one_or_none()
        return None if row is None else _user_of(row)

    def add_user(self, name: str, password: str, *, role: str, created_by: str) -> User:
        """Raises UserRefused for a name that is taken or no name, an unknown role, a short password."""
        _refuse(name, role=role, password=password)
        insertion = (
            insert(tables.user)
            .values(
                name=name, role=role, password_hash=hash_password(password), created_by=created_by, created_at=now()
            )
            .on_conflict_do_nothing()
            .returning(tables.user)
        )
        with self.database.transaction("ledger.add_user") as connection:
            row = connection.execute(insertion).one_or_none()
        if row is None:
            raise UserRefused(f"there is a user {name!r} already; choose another name, or change that one")
        return _user_of(row)

    def user_with_password(self, name: str, password: str) -> User | None:
        """The user whose name and password these are, unless disabled; None otherwise, after as long."""
        with self.database.reading() as connection:
            row = connection.execute(select(tables.user).where(_user.name == name)).one_or_none()
        is_right = is_password(password, NOBODY if row is None else row.password_hash)
        return _user_of(row) if row is not None and is_right and row.disabled_at is None else None

    def set_password(self, name: str, password: str, *, keep_session: str | None = None) -> None:
        """Ends the user's sessions, but for the one of that digest, and forgets their browsers. Raises UserRefused."""
        _refuse(name, password=password)
        with self.database.transaction("ledger.set_password") as connection:
            changed = connection.execute(
                update(tables.user)
                .where(_user.name == name)
                .values(password_hash=hash_password(password), device_key=None)
            )
            if changed.rowcount == 0:
                raise UserRefused(f"there is no user {name!r}")
            ended = delete(tables.session).where(tables.session.c.user_name == name)
            connection.execute(ended.where(tables.session.c.digest != (keep_session or "")))

    def change_user(self, name: str, *, role: str | None = None, is_disabled: bool | None = None) -> User:
        """Another role, or disabled or not any more; ends the user's sessions.

        Raises UserRefused, also where no operator would be left.
        """
        values: dict[str, object] = {}
        if role is not None:
            _refuse(name, role=role)
            values["role"] = role
        if is_disabled is not None:
            values |= {"disabled_at": now() if is_disabled else None, "device_key": None}
        with self.database.transaction("ledger.change_user") as connection:
            row = connection.execute(
                update(tables.user).where(_user.name == name).values(values).returning(tables.user)
            ).one_or_none()
            if row is None:
                raise UserRefused(f"there is no user {name!r}")
            operators = connection.execute(
                select(func.count()).where(_user.role == "operator", _user.disabled_at.is_(None))
            ).scalar_one()
            if operators == 0:
                raise UserRefused(f"{name!r} is the last operator: make another one first")
            connection.execute(delete(tables.session).where(tables.session.c.user_name == name))
            if is_disabled:
                connection.execute(
                    update(tables.token)
                    .where(tables.token.c.user_name == name, tables.token.c.revoked_at.is_(None))
                    .values(revoked_at=now())
                )
        return _user_of(row)

    def sign_out_everywhere(self, name: str) -> None:
        """End the user's sessions, and forget the browsers that are remembered."""
        with self.database.transaction("ledger.sign_out_everywhere") as connection:
            connection.execute(update(tables.user).where(_user.name == name).values(device_key=None))
            connection.execute(delete(tables.session).where(tables.session.c.user_name == name))

    def device_key(self, name: str) -> str:
        """What cookies of the user's browsers are signed with; made at first use, and forgotten with the password."""
        made = func.coalesce(_user.device_key, secrets.token_hex(32))
        changed = update(tables.user).where(_user.name == name).values(device_key=made).returning(_user.device_key)
        with self.database.transaction("ledger.device_key") as connection:
            return str(connection.execute(changed).scalar_one())

    def device_keys(self) -> dict[str, str]:
        """The key of each user that may sign in and has a browser that is remembered, by name."""
        query = select(_user.name, _user.device_key).where(_user.device_key.is_not(None), _user.disabled_at.is_(None))
        with self.database.reading() as connection:
            return {row.name: row.device_key for row in connection.execute(query)}

    def first_user(self, name: str, password: str, *, created_by: str) -> bool:
        """Make an operator where there is no user at all; whether it was made."""
        with self.database.transaction("ledger.first_user") as connection:
            if connection.execute(select(func.count()).select_from(tables.user)).scalar_one():
                return False
            connection.execute(
                insert(tables.user).values(
                    name=name,
                    role="operator",
                    password_hash=hash_password(password),
                    created_by=created_by,
                    created_at=now(),
                )
            )
        return True


def _refuse(name: str, *, role: str | None = None, password: str | None = None) -> None:
    if not _NAME.fullmatch(name):
        raise UserRefused(f"{name!r} is no user name: lower-case letters, digits and . _ @ -, at most 63 characters")
    if role is not None and role not in ROLES:
        raise UserRefused(f"{role!r} is no role; one of: {', '.join(ROLES)}")
    fault = None if password is None else password_fault(password)
    if fault:
        raise UserRefused(fault)


def _user_of(row: AnyRow) -> User:
    return User(
        name=row.name,
        role=row.role,
        created_by=row.created_by,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )


# ---- Sessions of people and tokens of programs; both are kept as digests of what their holder has

log = structlog.get_logger(__name__)

_session = tables.session.c
_token = tables.token.c

SESSION_S = 12 * 3600.0
"""A session ends after so long, whatever happens in it: a working day."""
IDLE_S = 2 * 3600.0
"""And after so long without a request."""
_SEEN_EVERY_S = 60.0
"""A request is noted at most so often: reading a page writes nothing."""

_TOKEN_PREFIX = "acis"  # noqa: S105 -- what a token begins with, so that a leaked one is recognised


class TokenRefused(LedgerError):
    """A token cannot be made or revoked so."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """Somebody who is signed in."""

    digest: str
    user: str
    role: Role
    csrf: str
    """What every form of theirs carries."""
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str | None
    agent: str | None


@dataclass(frozen=True, kw_only=True)
class Token:
    """A program's, as a person sees it."""

    id: str
    name: str
    user: str
    role: Role
    created_at: datetime
    used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


class Access(Repository):
    """Each is looked at with every request, so that what was taken away ends at once."""

    # ---- people

    def open_session(self, user: str, *, address: str | None, agent: str | None) -> str:
        """The cookie of a new session; only its digest is kept. Sessions that have ended are removed."""
        cookie = secrets.token_urlsafe(32)
        with self.database.transaction("ledger.open_session") as connection:
            connection.execute(delete(tables.session).where(_session.expires_at < now()))
            connection.execute(
                insert(tables.session).values(
                    digest=digest_of(cookie),
                    user_name=user,
                    csrf=secrets.token_urlsafe(32),
                    address=address,
                    agent=(agent or "")[:255] or None,
                    created_at=now(),
                    seen_at=now(),
                    expires_at=after(SESSION_S),
                )
            )
        return cookie

    def session(self, cookie: str) -> Session | None:
        """The session of a cookie; None where it has ended or its user may not any more."""
        is_live = and_(
            _session.digest == digest_of(cookie),
            _session.expires_at > now(),
            within(_session.seen_at, IDLE_S),
            _user.disabled_at.is_(None),
        )
        query = (
            select(tables.session, _user.role, (_session.seen_at < after(-_SEEN_EVERY_S)).label("is_long_ago"))
            .join(tables.user, _user.name == _session.user_name)
            .where(is_live)
        )
        with self.database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        if row.is_long_ago:
            seen = update(tables.session).where(_session.digest == row.digest).values(seen_at=now())
            with _if_it_can_be_written(), self.database.transaction("ledger.session") as connection:
                connection.execute(seen)
        return _session_of(row)

    def sessions(self, user: str) -> list[Session]:
        """Live ones of a user, newest first."""
        query = (
            select(tables.session, _user.role)
            .join(tables.user, _user.name == _session.user_name)
            .where(_session.user_name == user, _session.expires_at > now(), within(_session.seen_at, IDLE_S))
            .order_by(_session.created_at.desc())
        )
        with self.database.reading() as connection:
            return [_session_of(row) for row in connection.execute(query)]

    def end_session(self, digest: str) -> None:
        """Sign out."""
        with self.database.transaction("ledger.end_session") as connection:
            connection.execute(delete(tables.session).where(_session.digest == digest))

    # ---- programs

    def add_token(self, name: str, *, user: str, role: str, expires_after_s: float | None = None) -> tuple[Token, str]:
        """The token and its text, which is never seen again. Raises TokenRefused."""
        if not name.strip() or len(name) > 63:
            raise TokenRefused(f"{name!r} is no name for a token; say what uses it, in 1 to 63 characters")
        if role not in ROLES:
            raise TokenRefused(f"{role!r} is no role; one of: {', '.join(ROLES)}")
        id_, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        with self.database.transaction("ledger.add_token") as connection:
            row = connection.execute(
                insert(tables.token)
                .values(
                    id=id_,
                    name=name.strip(),
                    user_name=user,
                    role=role,
                    digest=digest_of(secret),
                    created_at=now(),
                    expires_at=None if expires_after_s is None else after(expires_after_s),
                )
                .returning(tables.token)
            ).one()
        return _token_of(row), f"{_TOKEN_PREFIX}_{id_}_{secret}"

    def token_of(self, text: str) -> Token | None:
        """The token of a text; None where there is none, or it was revoked, has run out, or its user may not."""
        prefix, _, rest = text.partition("_")
        id_, _, secret = rest.partition("_")
        if prefix != _TOKEN_PREFIX or not secret:
            return None
        query = (
            select(tables.token, _user.role.label("user_role"))
            .join(tables.user, _user.name == _token.user_name)
            .where(
                _token.id == id_,
                _token.digest == digest_of(secret),
                _token.revoked_at.is_(None),
                or_(_token.expires_at.is_(None), _token.expires_at > now()),
                _user.disabled_at.is_(None),
            )
        )
        with self.database.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        used = update(tables.token).where(
            _token.id == id_, or_(_token.used_at.is_(None), _token.used_at < after(-_SEEN_EVERY_S))
        )
        with _if_it_can_be_written(), self.database.transaction("ledger.token_of") as connection:
            connection.execute(used.values(used_at=now()))
        # A token never may more than its user may now.
        role: Role = row.role if row.user_role == "operator" else "viewer"
        return _token_of(row, role=role)

    def tokens(self, user: str | None = None) -> list[Token]:
        """All, or a user's, newest first."""
        query = select(tables.token).order_by(_token.created_at.desc())
        if user is not None:
            query = query.where(_token.user_name == user)
        with self.database.reading() as connection:
            return [_token_of(row) for row in connection.execute(query)]

    def revoke_token(self, id_: str, *, user: str | None = None) -> Token:
        """Ends at once; `user`: only if it is theirs. Raises TokenRefused."""
        revoke = update(tables.token).where(_token.id == id_, _token.revoked_at.is_(None))
        if user is not None:
            revoke = revoke.where(_token.user_name == user)
        with self.database.transaction("ledger.revoke_token") as connection:
            row = connection.execute(revoke.values(revoked_at=now()).returning(tables.token)).one_or_none()
        if row is None:
            raise TokenRefused(f"there is no token {id_!r} of yours that could be revoked")
        return _token_of(row)


@contextmanager
def _if_it_can_be_written() -> Iterator[None]:
    """A note of a request, without which a ledger that takes no writes can still be read."""
    try:
        yield
    except LedgerUnavailable as exc:
        log.info("request.not_noted", error=str(exc))


def _session_of(row: AnyRow) -> Session:
    return Session(
        digest=row.digest,
        user=row.user_name,
        role=row.role,
        csrf=row.csrf,
        created_at=row.created_at,
        seen_at=row.seen_at,
        expires_at=row.expires_at,
        address=row.address,
        agent=row.agent,
    )


def _token_of(row: AnyRow, *, role: Role | None = None) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        user=row.user_name,
        role=role or row.role,
        created_at=row.created_at,
        used_at=row.used_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
