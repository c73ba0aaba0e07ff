"""An address as Celery takes it, read as the redis library does."""

from __future__ import annotations

from typing import Any

import pytest

from mlops.redis_address import redis_client


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("redis://:pw@host:6380/2", {"host": "host", "port": 6380, "db": 2, "password": "pw"}),
        ("redis://:a%2Fb%40c@host/0", {"password": "a/b@c", "db": 0}),
        ("rediss://host/0?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none"}),
        ("rediss://host/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=%2Fetc%2Fca.pem",
         {"ssl_cert_reqs": "required", "ssl_ca_certs": "/etc/ca.pem"}),
        ("rediss://host/0?ssl_cert_reqs=optional", {"ssl_cert_reqs": "optional"}),
        ("redis+socket:///run/redis.sock?virtual_host=3", {"path": "/run/redis.sock", "db": 3}),
        ("socket:///run/redis.sock", {"path": "/run/redis.sock"}),
    ],
)  # fmt: skip
def test_what_the_worker_takes_is_taken(address: str, wanted: dict[str, Any]) -> None:
    found = redis_client(address).connection_pool.connection_kwargs
    assert {name: found[name] for name in wanted} == wanted
