"""Which of two versions answers a key: stable over processes, restarts and machines; pure.

A key's position is a hash of salt and key, uniform in [0, 1). The challenger has the keys whose position is below its
share, so that a larger share takes keys from the champion alone and gives none back: no other rule moves fewer. Another
salt draws other keys, so that the same names are not those that every experiment is tried on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from mlops.domain.errors import InvalidRows

_BITS = 53
"""Of a hash, as many as a double has: positions are exact, and the same in every language."""


def key_of(key: object) -> str:
    """Give a key as text that can be hashed. Raises InvalidRows for what is neither a text nor a whole number."""
    if type(key) is str and key.isascii():  # nearly all
        return key
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str):
        message = f"a key is a text, found {key!r:.80} ({type(key).__name__}); None where a row has none"
        raise InvalidRows(message)
    return key if key.isascii() else key.encode("utf-8", "replace").decode()


def position(key: str, *, salt: str) -> float:
    """Give the position of a key in [0, 1)."""
    # The length keeps salt "ab" with key "c" apart from salt "a" with key "bc".
    text = f"{len(salt)}:{salt}{key_of(key)}".encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return float((int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS))


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A rule that gives each key to the champion or to its challenger."""

    salt: str
    share: float
    """Of all keys that the challenger answers, 0 to 1"""
    keys: frozenset[str] = frozenset()
    """That the challenger answers whatever its share"""

    def __post_init__(self) -> None:
        """Raise ValueError for a share outside of 0 to 1."""
        if not 0.0 <= self.share <= 1.0:
            message = f"a share is between 0 and 1, and this one is {self.share}"
            raise ValueError(message)

    def is_challengers(self, key: str) -> bool:
        """Tell whether the challenger answers a key of `key_of`; an empty one is none, and the champion's."""
        return bool(key) and (key in self.keys or position(key, salt=self.salt) < self.share)

    def reason(self, key: str) -> str:
        """Say in a sentence why this version answers a key of `key_of`."""
        if not key:
            return "without a key the champion answers"
        if key in self.keys:
            return f"{key} is among the {len(self.keys)} keys that were named for the challenger"
        if not self.share:
            return f"{key} is not among the challenger's keys, which has no other share: the champion answers"
        at, who = position(key, salt=self.salt), "challenger" if self.is_challengers(key) else "champion"
        relation = "below" if who == "challenger" else "not below"
        return f"{key} lies at {at:.4f}, {relation} the challenger's share of {self.share:g}: the {who} answers"
