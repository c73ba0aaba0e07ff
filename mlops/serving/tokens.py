"""Who may ask: the ledger's tokens, remembered so that neither a question nor an outage waits for PostgreSQL.

A token is verified with the ledger when it is first seen, and every 20 s from then on; one that was revoked is refused
from the next look on. While the ledger is away, those that it knew within a day are believed, after a restart too:
digests lie beside the spool. A token that was never seen needs the ledger.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
from cachetools import TTLCache

from mlops.domain.errors import LedgerUnavailable

if TYPE_CHECKING:
    from mlops.ledger.people.accounts import Token

log = structlog.get_logger(__name__)

CHECK_EVERY_S = 20.0
"""A revoked token is refused within a minute: this, and the 15 s that a slow ledger may take."""
BELIEVED_S = 86_400.0
"""So long without the ledger, a token that it knew is believed."""
_MOST = 1000
_REFUSED_S = 5.0


class TokenLedger(Protocol):
    """Where tokens are: `mlops.ledger.people.accounts`."""

    def token_of(self, text: str) -> Token | None:
        """The token of a text; None where there is none, or it may not any more."""
        ...


class TokenCache:
    """Tokens that may ask, by their digest; safe to use from several threads."""

    def __init__(self, ledger: TokenLedger, file: Path, *, now: Callable[[], float] = time.time) -> None:
        """file: where digests are kept for a restart. now: seconds since 1970."""
        self._ledger, self._file, self._now = ledger, file, now
        self._until: dict[str, float] = self._read()
        """Until when each is believed without the ledger, by digest."""
        self._texts: dict[str, str] = {}
        """Of those that asked since the start, to ask the ledger again; in memory alone."""
        self._refused: TTLCache[str, bool] = TTLCache(maxsize=_MOST, ttl=_REFUSED_S)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def knows(self, text: str) -> bool:
        """Whether the token may ask, from memory; False: `verify` says."""
        digest = _digest(text)
        if self._now() > self._until.get(digest, 0.0):
            return False
        self._texts.setdefault(digest, text)
        return True

    def verify(self, text: str) -> bool:
        """Ask the ledger about a token that is not known. Raises LedgerUnavailable."""
        digest = _digest(text)
        with self._lock:
            if digest in self._refused:
                return False
        token = self._ledger.token_of(text)
        with self._lock:
            if token is None:
                self._refused[digest] = True
                return False
            while len(self._until) >= _MOST:
                self._forget(min(self._until, key=self._until.__getitem__))
            self._until[digest], self._texts[digest] = self._believed_until(token), text
            self._write()
        return True

    def check(self) -> None:
        """Ask the ledger about those that asked since the start. Raises LedgerUnavailable; then all are believed on."""
        for digest, text in list(self._texts.items()):
            token = self._ledger.token_of(text)
            with self._lock:
                if token is not None:
                    self._until[digest] = self._believed_until(token)
                else:
                    log.info("serving.token_refused", next="it was revoked, has run out, or its user may not any more")
                    self._forget(digest)
        with self._lock:
            self._write()

    def start(self) -> None:
        """Check by itself from now on."""
        self._thread = threading.Thread(target=self._check_for_ever, name="token-check", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Check no more."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=1)

    def _check_for_ever(self) -> None:
        while not self._closing.wait(CHECK_EVERY_S):
            try:
                self.check()
            except LedgerUnavailable as error:
                log.info("serving.tokens_not_checked", error=str(error), next="those that are known are believed")
            except Exception:
                log.exception("serving.token_check_crashed")

    def _believed_until(self, token: Token) -> float:
        believed = self._now() + BELIEVED_S
        return believed if token.expires_at is None else min(believed, token.expires_at.timestamp())

    def _forget(self, digest: str) -> None:
        self._until.pop(digest, None)
        self._texts.pop(digest, None)

    def _read(self) -> dict[str, float]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            # A clock that was ahead would have it believed for longer.
            latest = self._now() + BELIEVED_S
            return {str(digest): min(float(until), latest) for digest, until in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("serving.tokens_not_read", file=str(self._file), error=str(error), next="the ledger is asked")
            return {}

    def _write(self) -> None:
        """Replace the file by a new one: a process that is killed meanwhile leaves the one before."""
        now = self._now()
        kept = {digest: until for digest, until in self._until.items() if until > now}
        making = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            making.write_text(json.dumps(kept), encoding="utf-8")
            making.chmod(0o600)
            making.replace(self._file)
        except OSError as error:
            log.warning("serving.tokens_not_kept", error=str(error), next="a restart without the ledger knows none")


def token_id(text: str) -> str:
    """The part of a token's text by which people know it; it is no secret."""
    return text.split("_", 2)[1][:16] if text.count("_") > 1 else ""


def _digest(text: str) -> str:
    """SHA-256 of a token's whole text, which has 256 random bits: nobody finds it by its digest."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
