"""Whether a secret of the system is in anything that it has written, after whatever was done to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil
import redis
from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url

from tests.chaos.system import ChaosSystem
from tests.support.secret_scan import Leak, SecretScan


def secrets_of(system: ChaosSystem) -> dict[str, str]:
    """The passwords in all addresses of the system's settings, and of each user of the servers, by a name for it."""
    made = system.servers.secrets
    found = {"superuser of PostgreSQL": made.postgres_password}
    for server, passwords in (
        ("PostgreSQL", made.database_passwords),
        ("Redis", made.redis_passwords),
        ("MLflow", made.mlflow_passwords),
    ):
        found |= {f"{user} of {server}": password for user, password in passwords.items()}
    for name, value in system.settings:
        text = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        if "://" in text and (password := make_url(text).password):
            found[name] = str(password)
    assert {"database_url", "celery_broker_url", "feature_source"} <= found.keys()
    return found


def find_leaks(system: ChaosSystem, more: Mapping[str, str] | None = None) -> list[str]:
    """Each place in which a secret of the system, or one more, is found: files, tables, Redis, MLflow, arguments."""
    scan = SecretScan({**secrets_of(system), **(more or {})})
    found: list[Leak] = [*scan.files(system.folder, but=_by_design(system.folder, system.place))]
    for url in (_superusers(system), system.servers.features_url, _mlflows(system)):
        engine = create_engine(url, poolclass=NullPool)
        found += scan.tables(engine)
        engine.dispose()
    with redis.Redis.from_url(system.servers.redis_url) as client:
        found += scan.keys(client)
    mains = [psutil.Process(role.pid) for role in system.roles.all if psutil.pid_exists(role.pid)]
    mains += [psutil.Process(server.child.process.pid) for server in system.servers.all if server.child is not None]
    found += scan.arguments([*mains, *(child for main in mains for child in main.children(recursive=True))])
    return sorted({str(leak) for leak in found})


def _superusers(system: ChaosSystem) -> str:
    """The ledger's database for who may read tables of every owner."""
    return make_url(system.servers.admin_url).set(database="acis").render_as_string(hide_password=False)


def _mlflows(system: ChaosSystem) -> str:
    return (
        make_url(system.servers.mlflow_postgres.server_url).set(database="mlflow").render_as_string(hide_password=False)
    )


def _by_design(*folders: Path) -> list[Path]:
    """The servers' own configurations, and PostgreSQL's files: their tables are looked into instead."""
    return [
        path
        for folder in folders
        for path in (*folder.glob("postgres"), *folder.glob("postgres-mlflow"), *folder.glob("*.conf"))
    ]
