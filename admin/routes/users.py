"""Who may use the page, in which role; an operator's business."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form
from starlette.responses import Response

from admin.pages import Pages
from admin.refusals import NotValid
from admin.request_context import Visiting
from mlops.ledger.users import ROLES
from mlops.passwords import made_password

pages = Pages()

USERS = "/admin/users"


@pages.get("/users", action="users.read", role="operator")
def users(visit: Visiting) -> Response:
    """All users, and all tokens that live."""
    tokens = [token for token in visit.ledger.tokens() if token.revoked_at is None]
    return visit.show("users.html", title="Users", users=visit.ledger.users(), tokens=tokens, roles=ROLES)


@pages.post("/users", action="user.add")
def add(
    visit: Visiting,
    name: Annotated[str, Form(max_length=63)],
    role: Annotated[str, Form(max_length=16)],
) -> Response:
    """A user with a made password, which is shown once; they change it on their account's page."""
    visit.note(subject=name, role=role)
    password = made_password()
    user = visit.ledger.add_user(name, password, role=role, created_by=visit.person.actor)
    return visit.show("secret.html", title="User added", what=f"Password of {user.name}", secret=password, back=USERS)


@pages.post("/users/{name}/role", action="user.role")
def change_role(visit: Visiting, name: str, role: Annotated[str, Form(max_length=16)]) -> Response:
    """Another role; their sessions end. The last operator stays one."""
    visit.note(role=role)
    user = visit.ledger.change_user(name, role=role)
    return visit.done(f"{user.name} is {user.role} now; open sessions have ended.", to=USERS)


@pages.post("/users/{name}/disable", action="user.disable")
def disable(visit: Visiting, name: str) -> Response:
    """May not sign in any more; sessions and tokens end at once."""
    if name == visit.person.name:
        raise NotValid("you would lock yourself out; another operator can do that")
    visit.ledger.change_user(name, is_disabled=True)
    return visit.done(f"{name} is disabled; sessions and tokens have ended.", to=USERS)


@pages.post("/users/{name}/enable", action="user.enable")
def enable(visit: Visiting, name: str) -> Response:
    """May sign in again; tokens stay revoked."""
    visit.ledger.change_user(name, is_disabled=False)
    return visit.done(f"{name} may sign in again.", to=USERS)


@pages.post("/users/{name}/password", action="user.password")
def new_password(visit: Visiting, name: str) -> Response:
    """A made password in place of a forgotten one, shown once; their sessions end."""
    password = made_password()
    visit.ledger.set_password(name, password)
    return visit.show("secret.html", title="New password", what=f"Password of {name}", secret=password, back=USERS)


@pages.post("/users/tokens/{token_id}/revoke", action="user.token.revoke")
def revoke(visit: Visiting, token_id: str) -> Response:
    """Anybody's token ends at once."""
    token = visit.ledger.revoke_token(token_id)
    return visit.done(f"The token {token.name} of {token.user} is revoked.", to=USERS)
