"""Passwords: compared in a pool of their own, within limits that the ledger counts, past which known browsers get.

What a stranger tries counts against the name from that address, the name from everywhere, and the address. What comes
from a browser in which the user has signed in before, or from an open session, counts by itself and has a thread by
itself: no stranger can use it up.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, TypeVar

from cachetools import TTLCache

from admin.responses import TooOften
from mlops.ledger.people.accounts import User
from mlops.ledger.people.sign_in_limits import Limit

if TYPE_CHECKING:
    from mlops.bootstrap import Services

T = TypeVar("T")

MOST_OF_A_NAME, MOST_OF_AN_ADDRESS, MOST_OF_A_NAME_FROM_EVERYWHERE = 10, 30, 30
"""Wrong passwords, before the next try waits: of a name from one address or one browser; of an address; of a name."""
WAITING = 8
"""Comparisons that wait for the one that is made, of 80 ms each; who comes then is told to come again."""
BELIEVED_S = 2.0
"""So long a limit that was found closed is taken for closed without asking the ledger again."""
_BUSY_S = 3.0
UNKNOWN, NOT_LOOKED_UP = "(no such user)", "(not looked up)"
"""Shown in place of a name that is nobody's: it may be a password that was typed into the wrong field."""
_MOST_BELIEVED = 10_000


class _Lane:
    """One thread with a bounded queue."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._places = threading.BoundedSemaphore(1 + WAITING)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Do it as soon as the thread is free. Raises TooOften at once where too many wait."""
        if not self._places.acquire(blocking=False):
            raise TooOften(
                "too many sign-ins wait at this moment; try again in some seconds, or in a browser in which you have "
                "signed in before",
                again_after_s=_BUSY_S,
            )
        future = self._pool.submit(copy_context().run, work)
        future.add_done_callback(lambda _: self._places.release())
        return future

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class PasswordCheck:
    """Compares passwords. One a process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._strangers, self._known = _Lane("sign-in"), _Lane("sign-in-known")
        self._closed: TTLCache[str, float] = TTLCache(_MOST_BELIEVED, BELIEVED_S, timer=time.monotonic)
        """Until when, by monotonic time, of tries that were found closed within BELIEVED_S."""
        self._shown: TTLCache[str, str] = TTLCache(_MOST_BELIEVED, 60.0)
        self._lock = threading.Lock()

    def close(self) -> None:
        """With the application."""
        self._strangers.close()
        self._known.close()

    def refuse_closed(self, name: str, address: str | None, browser: str | None) -> None:
        """Refuse what is known to be closed, without the ledger and without a thread. Raises TooOften."""
        with self._lock:
            until = max(self._closed.get(one, 0.0) for one in _keys(name, address, browser))
        if until > time.monotonic():
            raise _too_often(until - time.monotonic())

    def begin(self, name: str, password: str, *, address: str | None, browser: str | None) -> Future[User | None]:
        """The user whose name and password these are, or None. browser: from `KnownBrowsers.browser_of`.

        Raises TooOften where too many wait; the future raises it too, and the ledger's errors.
        """
        lane = self._known if browser else self._strangers
        return lane.submit(partial(self._compared, name, password, address, browser))

    def is_own(self, name: str, password: str) -> bool:
        """Whether somebody who is signed in has typed their own password. Raises TooOften, LedgerUnavailable."""
        own = Limit(key=f"own {name}", most=MOST_OF_A_NAME, user=name, is_kept=True)
        return self._known.submit(partial(self._limited, name, password, {own.key: own}, [own])).result() is not None

    def shown(self, name: str) -> str:
        """A name as it may be shown: itself where it is a user's, and that it is nobody's where it was looked up."""
        with self._lock:
            return self._shown.get(name, NOT_LOOKED_UP)

    def _compared(self, name: str, password: str, address: str | None, browser: str | None) -> User | None:
        is_known = self._services.ledger.user(name) is not None
        with self._lock:
            self._shown[name] = name if is_known else UNKNOWN
        limits, forgiven = _limits(name, address, browser, is_known=is_known)
        return self._limited(name, password, limits, forgiven)

    def _limited(self, name: str, password: str, limits: Mapping[str, Limit], forgiven: Sequence[Limit]) -> User | None:
        counted = list(limits.values())
        waits = self._services.ledger.begin_try(counted)
        if waits:
            with self._lock:
                for key, limit in limits.items():
                    self._closed[key] = time.monotonic() + waits.get(limit.key, 0.0)
            raise _too_often(max(waits.values()))
        user = self._services.ledger.user_with_password(name, password)
        if user is not None:
            self._services.ledger.end_right_try(counted, forgiven=forgiven)
        return user


def _keys(name: str, address: str | None, browser: str | None) -> tuple[str, ...]:
    """What a try is told apart by: the browser, or name and address, name, and address."""
    if browser:
        return (f"device {browser}",)  # the word that rows of the ledger have
    place = _place(address)
    return f"from {place} {name}", f"name {name}", f"address {place}"


def _limits(
    name: str, address: str | None, browser: str | None, *, is_known: bool
) -> tuple[dict[str, Limit], list[Limit]]:
    """What a try counts against, by `_keys` of what was typed, and which of these a right password sets to nothing."""
    # A name that nobody has is limited like another, or the limits would tell who is known. It may be a password in the
    # wrong field: two bytes of its digest tell nothing of it.
    shown = name if is_known else f"?{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:4]}"
    known = name if is_known else None
    keys = _keys(shown, address, browser)
    if browser:
        limits = [Limit(key=keys[0], most=MOST_OF_A_NAME, user=name, is_kept=True)]
    else:
        limits = [
            Limit(key=keys[0], most=MOST_OF_A_NAME, user=known),
            Limit(key=keys[1], most=MOST_OF_A_NAME_FROM_EVERYWHERE, user=known, is_kept=is_known),
            Limit(key=keys[2], most=MOST_OF_AN_ADDRESS),
        ]
    return dict(zip(_keys(name, address, browser), limits, strict=True)), limits[:1]


def _place(address: str | None) -> str:
    """What one household or server has: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return "(no address)"
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((found, 64), strict=False))


def _too_often(wait_s: float) -> TooOften:
    minutes = math.ceil(wait_s / 60)
    words = "a minute" if minutes == 1 else f"{minutes} minutes"
    return TooOften(
        f"too many wrong passwords; try again in {words}, or in a browser in which you have signed in before",
        again_after_s=math.ceil(wait_s / 10) * 10.0,
    )
