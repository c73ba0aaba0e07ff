"""A mark in Redis by which one sees that the server was emptied, or is another process than before.

The mark's value is the server's `run_id`, which is new at each start. It has no expiry: where it is gone, everything
beside it is gone too; where it names another process, the last second of writes may be.
"""

from __future__ import annotations

from typing import Any, Literal

Change = Literal["none", "restarted", "emptied"]


def change_since_mark(client: Any, key: str) -> Change:  # noqa: ANN401 -- a redis client of either decoding
    """What happened since `set_mark`. Raises RedisError."""
    found = client.get(key)
    if found is None:
        return "emptied"
    return "none" if _text(found) == _run_id(client) else "restarted"


def set_mark(client: Any, key: str) -> None:  # noqa: ANN401 -- as above
    """What followed from the change has been done. Raises RedisError."""
    client.set(key, _run_id(client))


def _run_id(client: Any) -> str:  # noqa: ANN401 -- as above
    return _text(client.info("server")["run_id"])


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
