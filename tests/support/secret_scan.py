"""Looks for secrets in everything that a system has written: files, tables, Redis, processes' arguments.

A secret is looked for as it is, in capitals and small letters of hex, URL-encoded, and in base64 wherever in a longer
text it may stand: `user:password` of basic authentication, or the body of a message.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import psutil
import redis
from sqlalchemy import Engine, text

SHORTEST = 10
"""Characters of a secret that can be looked for: a shorter one stands in many a text by chance."""
_MOST_BYTES = 64 * 2**20
_ROWS = 500


@dataclass(frozen=True)
class Leak:
    """A secret that was found."""

    secret: str
    form: str
    place: str

    def __str__(self) -> str:
        """In words, without the secret."""
        return f"{self.secret} is in {self.place} ({self.form})"


class SecretScan:
    """Looks for the secrets, which are given by a name for each."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        short = [name for name, value in secrets.items() if len(value) < SHORTEST]
        assert not short, f"too short to be looked for: {short}"
        self._forms = [
            (name, form, needle) for name, value in secrets.items() for form, needle in _forms_of(value.encode())
        ]

    def look(self, content: bytes, place: str) -> Iterator[Leak]:
        """In some bytes, and in what they are a compressed form of."""
        for one in (content, *_unpacked(content)):
            yield from (Leak(name, form, place) for name, form, needle in self._forms if needle in one)

    def files(self, *folders: Path, but: Iterable[Path] = ()) -> Iterator[Leak]:
        """In every file below these, and in its name; `but` are files and folders that hold them by design."""
        left_out = set(but)
        for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
            if left_out & {path, *path.parents} or not path.is_file() or path.is_symlink():
                continue
            yield from self.look(str(path).encode(), f"the name of {path}")
            with contextlib.suppress(FileNotFoundError, PermissionError):
                yield from self.look(path.read_bytes()[:_MOST_BYTES], str(path))

    def tables(self, engine: Engine) -> Iterator[Leak]:
        """In every column of every table of a PostgreSQL database, and in its comments."""
        with engine.connect() as connection:
            names = connection.execute(
                text(
                    "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                    " WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
                    " AND n.nspname NOT LIKE 'pg_toast%'"
                )
            ).all()
            for schema, name in names:
                for row in connection.execution_options(yield_per=_ROWS).execute(
                    text(f'SELECT * FROM "{schema}"."{name}"')
                ):
                    for column, value in row._mapping.items():
                        if isinstance(value, (str, bytes, memoryview, dict, list)):
                            yield from self.look(_bytes_of(value), f"{schema}.{name}.{column}")

    def keys(self, client: redis.Redis) -> Iterator[Leak]:
        """In every key of a Redis database, by whatever type it has. The client decodes nothing."""
        for key in list(client.scan_iter("*", count=1000)):
            yield from self.look(key, f"a key's name in Redis: {key!r}")
            for value in _values(client, key):
                yield from self.look(value, f"Redis' {key.decode(errors='replace')}")

    def arguments(self, processes: Iterable[psutil.Process]) -> Iterator[Leak]:
        """In the command lines of these, which everybody on the machine may read."""
        for process in processes:
            with contextlib.suppress(psutil.Error):
                yield from self.look(" ".join(process.cmdline()).encode(), f"the arguments of {process.name()}")


def _forms_of(value: bytes) -> Iterator[tuple[str, bytes]]:
    yield "plain", value
    texts = value.decode()
    for encoded in {quote(texts, safe=""), quote_plus(texts), quote(texts, safe="").lower()} - {texts}:
        yield "URL-encoded", encoded.encode()
    yield "hex", value.hex().encode()
    yield "HEX", value.hex().upper().encode()
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded_ = encode(b"\x00" * offset + value)
            # Three bytes are four characters: what depends on the bytes beside it is left out.
            yield "base64", encoded_[-(-offset * 4 // 3) : len(encoded_) - 4 if (offset + len(value)) % 3 else None]


def _unpacked(content: bytes) -> Iterator[bytes]:
    if content.startswith(b"PK\x03\x04"):
        with (
            contextlib.suppress(zipfile.BadZipFile, RuntimeError, ValueError),
            zipfile.ZipFile(BytesIO(content)) as archive,
        ):
            yield from (archive.read(name) for name in archive.namelist())
    ways: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
        (b"\x1f\x8b", gzip.decompress),
        (b"x\x01", zlib.decompress),
        (b"x\x9c", zlib.decompress),
        (b"x\xda", zlib.decompress),
        (b"BZh", bz2.decompress),
        (b"\xfd7zXZ", lzma.decompress),
    )
    for begin, unpack in ways:
        if content.startswith(begin):
            with contextlib.suppress(OSError, EOFError, zlib.error, lzma.LZMAError):
                yield unpack(content)


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    return bytes(value) if isinstance(value, (bytes, memoryview)) else repr(value).encode()


def _values(client: Any, key: bytes) -> Iterator[bytes]:
    kind = client.type(key).decode()
    if kind == "string":
        yield client.get(key) or b""
    elif kind == "list":
        yield from client.lrange(key, 0, -1)
    elif kind == "hash":
        yield from (part for pair in client.hgetall(key).items() for part in pair)
    elif kind == "set":
        yield from client.smembers(key)
    elif kind == "zset":
        yield from client.zrange(key, 0, -1)
    elif kind == "stream":
        yield repr(client.xrange(key)).encode()
