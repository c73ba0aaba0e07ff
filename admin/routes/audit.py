"""Who did what, when and from where."""

from __future__ import annotations

from starlette.responses import Response

from admin.listing import PAGE_ROWS, at_number, stretch
from admin.pages import Pages
from admin.request_context import Context

pages = Pages()


@pages.get("/audit", action="audit.read")
def audit(context: Context, actor: str = "", action: str = "", q: str = "", before: str = "") -> Response:
    """Newest first. action : `run.cancel`, or its first word; q : a subject, as it is written"""
    lines = context.ledger.audit_lines(
        actor=actor.strip(), action=action.strip(), subject=q.strip(), before=at_number(before), limit=PAGE_ROWS + 1
    )
    return context.show(
        "audit.html",
        title="Audit",
        list=stretch(lines, lambda line: str(line.id)),
        actor=actor,
        action=action,
        q=q,
    )
