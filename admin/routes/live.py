"""The stream of what happens now; one for each open page that shows it."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse

from admin.live import MOST_LISTENERS
from admin.pages import Pages
from admin.refusals import TooOften
from admin.request_context import Visiting

pages = Pages()


@pages.get("/live", action="live.follow")
def live(visit: Visiting) -> Response:
    """`progress` with run, stage, done, total, unit and time left; `changed` with the run."""
    if visit.live.n_listeners >= MOST_LISTENERS:
        raise TooOften(f"{MOST_LISTENERS} pages are open already; close some", again_after_s=30)
    return StreamingResponse(visit.live.stream(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})
