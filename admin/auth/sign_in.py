"""Passwords: compared in a pool of their own, within limits that the ledger counts, past which known browsers get.

What a stranger tries counts against the name from that address, the name from everywhere, and the address. What comes
from a browser in which the user has signed in before, or from an open session, counts by itself and has a thread by
itself: no stranger can use it up.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import threading
import time
from collections.abc import Callable, Sequence
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
REMEMBERED_S = 90 * 86400.0
_KEYS_S = 5.0
"""A browser is forgotten so long after the password was changed at most, in other processes of the page."""
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
        self._keys: tuple[float, dict[str, str]] = (-math.inf, {})
        """When the keys of browsers were read, by monotonic time, and each user's; replaced as one."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """With the application."""
        self._strangers.close()
        self._known.close()

    def refuse_closed(self, name: str, address: str | None, device: str | None) -> None:
        """Refuse what is known to be closed, without the ledger and without a thread. Raises TooOften."""
        with self._lock:
            until = max(self._closed.get(one, 0.0) for one in _names_of_limits(name, address, device))
        if until > time.monotonic():
            raise _too_often(until - time.monotonic())

    def begin(self, name: str, password: str, *, address: str | None, device: str | None) -> Future[User | None]:
        """The user whose name and password these are, or None. device: from `device_of`.

        Raises TooOften where too many wait; the future raises it too, and the ledger's errors.
        """
        lane = self._known if device else self._strangers
        return lane.submit(partial(self._compared, name, password, address, device))

    def is_own(self, name: str, password: str) -> bool:
        """Whether somebody who is signed in has typed their own password. Raises TooOften, LedgerUnavailable."""
        limits = [Limit(key=f"own {name}", most=MOST_OF_A_NAME, user=name, is_kept=True)]
        return self._known.submit(partial(self._limited, name, password, limits, limits)).result() is not None

    def shown(self, name: str) -> str:
        """A name as it may be shown: itself where it is a user's, and that it is nobody's where it was looked up."""
        with self._lock:
            return self._shown.get(name, NOT_LOOKED_UP)

    def _compared(self, name: str, password: str, address: str | None, device: str | None) -> User | None:
        is_known = self._services.ledger.user(name) is not None
        with self._lock:
            self._shown[name] = name if is_known else UNKNOWN
        limits, forgiven = _limits(name, address, device, is_known=is_known)
        return self._limited(name, password, limits, forgiven, names=_names_of_limits(name, address, device))

    def _limited(
        self, name: str, password: str, limits: Sequence[Limit], forgiven: Sequence[Limit], *, names: Sequence[str] = ()
    ) -> User | None:
        waits = self._services.ledger.begin_try(limits)
        if waits:
            with self._lock:
                for limit, one in zip(limits, names, strict=False):
                    self._closed[one] = time.monotonic() + waits.get(limit.key, 0.0)
            raise _too_often(max(waits.values()))
        user = self._services.ledger.user_with_password(name, password)
        if user is not None:
            self._services.ledger.end_right_try(limits, forgiven=forgiven)
        return user

    # ---- browsers that are remembered

    def remembered(self, name: str, device: str | None) -> str:
        """The cookie of a browser in which this user has signed in; `device`: it has one already."""
        signed = f"{device or secrets.token_hex(8)}.{int(time.time())}"
        key = self._services.ledger.device_key(name)
        self.forget_devices()
        return f"{signed}.{_signature(key, name, signed)}"

    def device_of(self, cookie: str, name: str) -> str | None:
        """The id of a browser in which this user has signed in; None: none that is known. Raises LedgerUnavailable."""
        signed, _, signature = cookie.rpartition(".")
        device, _, at = signed.partition(".")
        if not at.isdecimal() or not at.isascii() or len(cookie) > 128 or time.time() - int(at) > REMEMBERED_S:
            return None
        key = self._device_keys().get(name)
        if key is None or not hmac.compare_digest(_signature(key, name, signed).encode(), signature.encode()):
            return None
        return device

    def forget_devices(self) -> None:
        """Look the keys up anew: one was changed."""
        self._keys = (-math.inf, {})

    @property
    def has_keys(self) -> bool:
        """`device_of` answers from memory."""
        return time.monotonic() - self._keys[0] < _KEYS_S

    def _device_keys(self) -> dict[str, str]:
        if not self.has_keys:
            self._keys = (time.monotonic(), self._services.ledger.device_keys())
        return self._keys[1]


def _limits(name: str, address: str | None, device: str | None, *, is_known: bool) -> tuple[list[Limit], list[Limit]]:
    """What a try counts against, and which of these a right password sets back to nothing."""
    if device:
        own = [Limit(key=f"device {device}", most=MOST_OF_A_NAME, user=name, is_kept=True)]
        return own, own
    known = name if is_known else None
    # A name that nobody has is limited like another, or the limits would tell who is known. It may be a password in the
    # wrong field: two bytes of its digest tell nothing of it.
    shown = known or f"?{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:4]}"
    place = _place(address)
    pair = Limit(key=f"from {place} {shown}", most=MOST_OF_A_NAME, user=known)
    everywhere = Limit(key=f"name {shown}", most=MOST_OF_A_NAME_FROM_EVERYWHERE, user=known, is_kept=known is not None)
    return [pair, everywhere, Limit(key=f"address {place}", most=MOST_OF_AN_ADDRESS)], [pair]


def _names_of_limits(name: str, address: str | None, device: str | None) -> list[str]:
    """The same limits in the same order, for a memory of some seconds: to know a user takes the ledger."""
    if device:
        return [f"device {device}"]
    place = _place(address)
    return [f"from {place} {name}", f"name {name}", f"address {place}"]


def _place(address: str | None) -> str:
    """What one household or server has: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return "(no address)"
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((found, 64), strict=False))


def _signature(key: str, name: str, signed: str) -> str:
    return hmac.new(bytes.fromhex(key), f"{name} {signed}".encode(), hashlib.sha256).hexdigest()


def _too_often(wait_s: float) -> TooOften:
    minutes = math.ceil(wait_s / 60)
    words = "a minute" if minutes == 1 else f"{minutes} minutes"
    return TooOften(
        f"too many wrong passwords; try again in {words}, or in a browser in which you have signed in before",
        again_after_s=math.ceil(wait_s / 10) * 10.0,
    )
