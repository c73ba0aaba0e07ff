"""A web server of ours with short times, for tests of clients that say half of something.

python -m tests.support.half_http PORT REQUEST_S
"""

from __future__ import annotations

import sys
from typing import Any

from mlops.serving import web_server


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with how long the body was."""
    if scope["type"] != "http":
        return
    n_bytes, more = 0, True
    while more:
        message = await receive()
        n_bytes += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(n_bytes).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    web_server.REQUEST_S = float(sys.argv[2])
    web_server.run_web_server(
        application, host="127.0.0.1", port=int(sys.argv[1]), grace_s=1, keep_alive_s=1, lifespan="off"
    )
