"""Style, scripts and the vendored libraries: served with their digest in the address, so they are kept for ever."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from admin.navigation import PREFIX

FOLDER = Path(__file__).parent / "static"


@cache
def static_url(name: str) -> str:
    """The address of a file below `admin/static`."""
    digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()[:12]
    return f"{PREFIX}/static/{name}?v={digest}"


class KeptFiles(StaticFiles):
    """Files whose address changes with what is in them."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file; for ever only where the address has a digest."""
        response = await super().get_response(path, scope)
        is_digested = scope["query_string"].startswith(b"v=")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if is_digested else "no-cache"
        return response
