"""What PostgreSQL and Redis would lose when they crash or fail over: the ledger is only as safe as its server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlops.diagnosis.answer import Answer
from mlops.ledger.durability import durability
from mlops.ledger.engine import Database


def database_durability(database: Database) -> Iterator[Answer]:
    """Of PostgreSQL."""
    found = durability(database)
    if found.switched_off:
        yield Answer(
            subject="durability",
            level="error",
            found=f"PostgreSQL has {', '.join(found.switched_off)} off: a crash loses accepted runs, and may give a "
            "lease twice",
            mend=f"ALTER SYSTEM SET {found.switched_off[0]} = on, and reload",
        )
    if found.asynchronous and not found.synchronous:
        names = ", ".join(found.asynchronous)
        yield Answer(
            subject="failover",
            level="warning",
            found=f"all standbys ({names}) follow asynchronously: a failover loses the last runs",
            mend="name one in synchronous_standby_names, or accept that and look at runs after a failover",
        )
    if found.hidden:
        yield Answer(
            subject="failover",
            level="warning",
            found=f"{len(found.hidden)} standbys follow, and this user may not see whether synchronously",
            mend="GRANT pg_monitor TO the ledger's user; what follows asynchronously loses the last runs in a failover",
        )
    if not found.switched_off:
        yield Answer(subject="durability", level="ok", found="PostgreSQL keeps what it has committed")


def broker_durability(client: Any) -> Iterator[Answer]:  # noqa: ANN401 -- a redis client
    """Of Redis; what it loses is sent again, so only what loses in silence is an error. Raises RedisError."""
    memory = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
    aof = client.config_get("appendonly").get("appendonly", "unknown")
    replicas = int(client.info("replication").get("connected_slaves", 0))
    if memory != "noeviction":
        yield Answer(
            subject="broker",
            level="error",
            found=f"maxmemory-policy is {memory}: messages may be evicted",
            mend="CONFIG SET maxmemory-policy noeviction",
        )
    if aof != "yes":
        yield Answer(
            subject="broker",
            level="warning",
            found="no append-only file: a restart loses messages, and the reconciler has to send them again",
            mend="CONFIG SET appendonly yes",
        )
    if replicas:
        yield Answer(
            subject="broker failover",
            level="ok",
            found=f"{replicas} replicas follow asynchronously: what a failover loses is sent again",
        )
    if memory == "noeviction" and aof == "yes":
        yield Answer(subject="broker", level="ok", found="answers, noeviction, append-only file on")
