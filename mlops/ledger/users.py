"""Who may use the page: users with their roles. Sessions and tokens are in `access`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast, get_args

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from mlops.domain.errors import LedgerError
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, now
from mlops.ledger.repository import LedgerPart
from mlops.passwords import NOBODY, hash_password, is_password, password_fault

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


class Users(LedgerPart):
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
        """Ends the user's sessions, but for the one of that digest. Raises UserRefused."""
        _refuse(name, password=password)
        with self.database.transaction("ledger.set_password") as connection:
            changed = connection.execute(
                update(tables.user).where(_user.name == name).values(password_hash=hash_password(password))
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
            values["disabled_at"] = now() if is_disabled else None
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
