"""Browsers in which a user has signed in before: each is known by a cookie that is signed with a key of the user's."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops.bootstrap import Services

REMEMBERED_S = 90 * 86400.0
_KEYS_S = 5.0
"""A browser is forgotten so long after the password was changed at most, in other processes of the page."""


class KnownBrowsers:
    """Makes the cookies and knows them again. One a process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._keys: tuple[float, dict[str, str]] = (-math.inf, {})
        """When the keys were read, by monotonic time, and each user's; replaced as one."""

    def cookie(self, name: str, browser: str | None) -> str:
        """The cookie of a browser in which this user has signed in; `browser`: the id that it has already."""
        signed = f"{browser or secrets.token_hex(8)}.{int(time.time())}"
        key = self._services.ledger.browser_key(name)
        self.forget_keys()
        return f"{signed}.{_signature(key, name, signed)}"

    def browser_of(self, cookie: str, name: str) -> str | None:
        """The id of a browser in which this user has signed in; None: none that is known. Raises LedgerUnavailable."""
        signed, _, signature = cookie.rpartition(".")
        browser, _, at = signed.partition(".")
        if not at.isdecimal() or not at.isascii() or len(cookie) > 128 or time.time() - int(at) > REMEMBERED_S:
            return None
        if not self.has_keys:
            self._keys = (time.monotonic(), self._services.ledger.browser_keys())
        key = self._keys[1].get(name)
        if key is None or not hmac.compare_digest(_signature(key, name, signed).encode(), signature.encode()):
            return None
        return browser

    def forget_keys(self) -> None:
        """Look the keys up anew: one was changed."""
        self._keys = (-math.inf, {})

    @property
    def has_keys(self) -> bool:
        """`browser_of` answers from memory."""
        return time.monotonic() - self._keys[0] < _KEYS_S


def _signature(key: str, name: str, signed: str) -> str:
    return hmac.new(bytes.fromhex(key), f"{name} {signed}".encode(), hashlib.sha256).hexdigest()
