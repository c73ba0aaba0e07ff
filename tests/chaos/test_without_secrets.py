"""The last file of the suite: after all that was killed, cut off, filled up and restored, no secret lies anywhere."""

from __future__ import annotations

import redis

from mlops.ledger.ledger import SqlLedger
from tests.chaos.leaks import find_leaks, secrets_of
from tests.chaos.system import ChaosSystem


def test_after_everything_no_secret_is_in_logs_tables_redis_mlflow_or_arguments(system: ChaosSystem) -> None:
    assert find_leaks(system) == []


def test_one_that_is_planted_is_found_in_each_of_them(system: ChaosSystem) -> None:
    secrets = secrets_of(system)
    ledger: SqlLedger = system.services.ledger
    ledger.audit("somebody", "planted", secrets["acis_ledger of PostgreSQL"])
    (system.place / "log" / "planted.log").write_text("redis://train:{train of Redis}@x/0".format_map(secrets))
    with redis.Redis.from_url(system.servers.redis_url) as client:
        client.hset("planted", "a", secrets["database_url"])
        client.expire("planted", 600)
    with system.mlflow_engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE planted AS SELECT %s::text AS tag", (secrets["trainer of MLflow"],))
    try:
        found = " ".join(find_leaks(system))
    finally:
        with system.mlflow_engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE planted")
        (system.place / "log" / "planted.log").unlink()
        with redis.Redis.from_url(system.servers.redis_url) as client:
            client.delete("planted")
    for place in ("public.mlops_audit.subject", "planted.log", "Redis' planted", "public.planted.tag"):
        assert place in found
