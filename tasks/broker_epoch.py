"""A mark in Redis by which one sees that the server was emptied, or is another process than before.

It holds the server's `run_id`, which is new at each start, and the ledger's time at which it was set. It has no expiry:
where it is gone, everything beside it is gone too; where it names another process, what was written since its time may
be, whether the server lost a second of its append-only file or the hours since its last snapshot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Change = Literal["none", "restarted", "emptied"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A look at the server."""

    server: str
    """The process that answered."""
    change: Change
    """Since the mark was set."""
    marked_at: datetime | None
    """When it was set; None where it is gone."""


def look(client: Any, key: str) -> Seen:  # noqa: ANN401 -- a redis client of either decoding
    """What happened since `set_mark`. Raises RedisError."""
    server = _text(client.info("server")["run_id"])
    found = client.get(key)
    try:
        mark = None if found is None else json.loads(_text(found))
        marked_by, marked_at = (None, None) if mark is None else (mark["server"], datetime.fromisoformat(mark["at"]))
    except (ValueError, TypeError, KeyError):
        marked_by, marked_at = None, None  # nothing of ours
    if marked_by is None:
        return Seen(server=server, change="emptied", marked_at=None)
    return Seen(server=server, change="none" if marked_by == server else "restarted", marked_at=marked_at)


def set_mark(client: Any, key: str, seen: Seen, *, at: datetime) -> None:  # noqa: ANN401 -- as above
    """All that followed from what was seen has been done; `at`: the ledger's time before it was. Raises RedisError.

    It names the process that was seen: one that was restarted since shows at the next look.
    """
    client.set(key, json.dumps({"server": seen.server, "at": at.isoformat()}))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
