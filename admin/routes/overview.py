"""Every strategy in one table, what runs now, and what a person should look at."""

from __future__ import annotations

from starlette.responses import Response

from admin.pages import Pages
from admin.visit import Visiting

pages = Pages()


@pages.get("/", action="overview.read")
def overview(visit: Visiting) -> Response:
    """The first page."""
    return visit.show("overview.html", title="Overview", n_strategies=len(visit.services.strategies))
