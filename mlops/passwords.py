"""Passwords as they are kept: scrypt of the standard library, with a salt and its cost written beside it."""

from __future__ import annotations

import hashlib
import hmac
import secrets

#: 2^15 * 8 * 128 bytes = 32 MiB and some 80 ms for each guess (OWASP's recommendation for scrypt, p = 3 left at 1
#: because the page also limits how often one may try).
LOG2_N, R, P = 15, 8, 1
LENGTH = 32
_LEAST_LENGTH = 12
"""Characters of a password: length counts, rules about kinds of characters do not (NIST SP 800-63B)."""
_MOST_LENGTH = 256
"""A longer one would only cost us time."""


def hash_password(password: str) -> str:
    """`scrypt$15$8$1$salt$hash`, hexadecimal."""
    salt = secrets.token_bytes(16)
    return f"scrypt${LOG2_N}${R}${P}${salt.hex()}${_derived(password, salt, LOG2_N, R, P).hex()}"


def is_password(password: str, kept: str) -> bool:
    """Whether it is the one; in the same time whichever it is."""
    _, log2_n, r, p, salt, expected = kept.split("$")
    found = _derived(password[:_MOST_LENGTH], bytes.fromhex(salt), int(log2_n), int(r), int(p))
    return hmac.compare_digest(found, bytes.fromhex(expected))


def password_fault(password: str) -> str | None:
    """Why a password is not taken, in words; None where it is."""
    if len(password) < _LEAST_LENGTH:
        return f"a password has at least {_LEAST_LENGTH} characters; this one has {len(password)}"
    if len(password) > _MOST_LENGTH:
        return f"a password has at most {_MOST_LENGTH} characters; this one has {len(password)}"
    return None


def made_password() -> str:
    """A random one, of characters that can be typed and stand in a URL: 144 bits."""
    return secrets.token_urlsafe(18)


def digest_of(secret: str) -> str:
    """SHA-256 of a random secret (a session's cookie, a token): nobody guesses those, so they need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _derived(password: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=2**log2_n, r=r, p=p, dklen=LENGTH, maxmem=2 * 128 * r * 2**log2_n
    )


#: Compared with where there is no such user, so that the answer takes as long.
NOBODY = f"scrypt${LOG2_N}${R}${P}${'00' * 16}${'00' * LENGTH}"
