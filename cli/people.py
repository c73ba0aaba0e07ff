"""`acis users`: who may use the admin page, for whoever has the database and cannot, or may not yet, sign in."""

from __future__ import annotations

from typing import Annotated

import typer

from mlops.invocation import command_line_actor
from mlops.runs.command_line import AsJson, command


@command
def users(
    add: Annotated[str, typer.Option(metavar="NAME", help="Make a user; the password is printed once.")] = "",
    role: Annotated[str, typer.Option(help="Of the new user: viewer or operator.")] = "viewer",
    new_password: Annotated[
        str, typer.Option("--new-password", metavar="NAME", help="Make another password; open sessions end.")
    ] = "",
    disable: Annotated[
        str, typer.Option(metavar="NAME", help="May not sign in any more; sessions and tokens end.")
    ] = "",
    json: AsJson = False,
) -> int:
    """List the admin page's users, or make, disable, or give another password to one."""
    from mlops.passwords import made_password
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    ledger, actor, password = connect().ledger, command_line_actor(), made_password()
    if add:
        ledger.add_user(add, password, role=role, created_by=actor)
        ledger.audit(actor, "user.add", add, role=role)
    elif new_password:
        ledger.set_password(new_password, password)
        ledger.audit(actor, "user.password", new_password)
    elif disable:
        ledger.change_user(disable, is_disabled=True)
        ledger.audit(actor, "user.disable", disable)
    if add or new_password:
        name = add or new_password
        if json:
            print_json({"name": name, "password": password})
        else:
            out.print(f"{name}: the password, shown once: {password}", markup=False)
        return 0
    found = ledger.users()
    if json:
        print_json({"users": found})
        return 0
    for user in found:
        ended = f", disabled {user.disabled_at:%Y-%m-%d}" if user.disabled_at else ""
        out.print(
            f"{user.name}   {user.role}, made {user.created_at:%Y-%m-%d} by {user.created_by}{ended}", markup=False
        )
    return 0
