"""A Redis client from an address as Celery takes it, for whoever looks at the broker beside Celery.

Celery and the redis library read the same address differently: they spell the checks of a certificate and the path of a
socket otherwise, and the library fails with errors of four kinds, some at the first command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from mlops.addresses import without_credentials
from mlops.domain.errors import ConfigurationError

if TYPE_CHECKING:
    import redis

#: Celery's spelling of a socket, and the library's.
_SOCKETS = {"redis+socket": "unix", "socket": "unix", "unix": "unix"}
_CERTIFICATES = {"cert_none": "none", "cert_optional": "optional", "cert_required": "required"}
_WANTED = "give redis://:PASSWORD@HOST:PORT/NUMBER, or rediss://… for TLS"


def redis_client(address: str, **options: Any) -> redis.Redis:  # noqa: ANN401 -- the library's own options
    """A client that has connected to nothing yet. Raises ConfigurationError where the address names no Redis."""
    import redis  # noqa: PLC0415 -- most commands need none

    shown = without_credentials(address)
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if ";" in address:
        raise ConfigurationError(f"{shown} names several servers; only one Redis is supported: {_WANTED}")
    if scheme not in {"redis", "rediss", *_SOCKETS}:
        message = (
            f"{scheme}:// is not supported (Sentinel, cluster and AMQP are not); {_WANTED}"
            if scheme
            else f"{shown!r} is no address; {_WANTED}"
        )
        raise ConfigurationError(message)
    try:
        client = redis.Redis.from_url(_as_the_library_reads_it(address, scheme), **options)
        client.connection_pool.make_connection()  # options that it does not know show here
    except (ValueError, TypeError, redis.RedisError) as exc:
        raise ConfigurationError(f"{shown} is no address of a Redis ({exc}); {_WANTED}") from exc
    return client


def tls_options(address: str) -> dict[str, str]:
    """What an address says of certificates, in the library's spelling; empty where it says nothing.

    >>> tls_options("rediss://host?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/etc/ca.pem")
    {'ssl_cert_reqs': 'required', 'ssl_ca_certs': '/etc/ca.pem'}
    """
    said = {name: value for name, value in parse_qsl(urlsplit(address).query) if name.startswith("ssl_")}
    asked = said.get("ssl_cert_reqs")
    return said if asked is None else {**said, "ssl_cert_reqs": _CERTIFICATES.get(asked.lower(), asked.lower())}


def _as_the_library_reads_it(address: str, scheme: str) -> str:
    parts = urlsplit(address)
    query = {**dict(parse_qsl(parts.query)), **tls_options(address)}
    if scheme in _SOCKETS:
        number = query.pop("virtual_host", "").strip("/")
        query |= {"db": number} if number else {}
    options = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return f"{_SOCKETS.get(scheme, scheme)}://{parts.netloc}{parts.path}{options}"
