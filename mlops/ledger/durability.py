"""What the ledger's server would keep through a crash or a failover; `acis doctor` asks."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from mlops.ledger.engine import Database

#: Settings of PostgreSQL whose "off" loses committed transactions, or the whole cluster, in a crash.
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


@dataclass(frozen=True, kw_only=True)
class Durability:
    """Of a PostgreSQL server."""

    switched_off: tuple[str, ...]  # of DURABLE
    synchronous: tuple[str, ...]  # standbys, by application_name
    asynchronous: tuple[str, ...]
    hidden: tuple[str, ...]  # of which this user may not see how they follow


def durability(database: Database) -> Durability:
    """What the server of the ledger keeps."""
    with database.reading() as connection:
        off = tuple(name for name in DURABLE if connection.scalar(text(f"SHOW {name}")) == "off")
        standbys = connection.execute(text("SELECT application_name, sync_state FROM pg_stat_replication")).all()
    names: dict[str, list[str]] = {"synchronous": [], "asynchronous": [], "hidden": []}
    for row in standbys:
        follows = {None: "hidden", "async": "asynchronous"}.get(row.sync_state, "synchronous")
        names[follows].append(row.application_name or "without a name")
    return Durability(switched_off=off, **{follows: tuple(found) for follows, found in names.items()})
