"""What each database user may do in the ledger, and the functions by which a writer does what only the owner may.

`migrate` puts this in force after each upgrade, for those of the users that the server has: an installation with one
user for everything goes on as it is. The users are made by `acis server-users` or by hand; another name than these is
made a member of one of them (docs/operations.md). Decision: docs/decisions/0052.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Connection, text

from config.roles import FEATURES_USER
from mlops.ledger import tables
from mlops.ledger.engine import Database
from mlops.ledger.tables import metadata

_S, _SI = ("SELECT",), ("SELECT", "INSERT")
_SIU, _ALL = (*_SI, "UPDATE"), (*_SI, "UPDATE", "DELETE")
_CHECK_COLUMNS = "verdict, rule, raw_verdict, share, alert_share, p_value, alpha, n_placements"
_EXPERIMENT_COLUMNS = "step, step_since, held, paused, ended_as, end_words, ended_by, ended_at, promotion_id"

#: Tables with what a writer does to them. Without UPDATE and DELETE: append-only.
_LEDGER: Mapping[str, tuple[str, ...]] = {
    tables.run.name: _ALL,  # what is old goes, its stages with it
    tables.stage.name: _SIU,
    tables.answered_start.name: _SI,
    tables.attempt.name: _SI,
    # What a check found is written once; what lists show of it is filled in later, and old ones go.
    tables.drift_report.name: (*_SI, f"UPDATE ({_CHECK_COLUMNS}, logged_at, registry_run_id)", "DELETE"),
    # Beside when the registry showed it, nothing of a decision changes: `mlops_identify_promotion` fills in.
    tables.promotion.name: (*_SI, "UPDATE (projected_at)"),
    tables.champion.name: _SIU,
    tables.model_file.name: _SI,
    tables.registry_finding.name: _SIU,
    tables.outbox.name: _ALL,
    tables.schedule.name: _ALL,
    tables.worker.name: _ALL,
    tables.policy.name: _SI,
    tables.audit.name: _SI,
    tables.artifact_size.name: _SIU,
    tables.identity.name: _SI,
    tables.position.name: _SIU,
    tables.quarantine.name: _SIU,
    tables.prediction_batch.name: (*_SI, "DELETE"),
    tables.prediction.name: _SI,
    tables.live_score.name: _SI,
    tables.live_report.name: (*_SI, "DELETE"),
    tables.watermark.name: _SIU,
    # What it was started as stays; the looks are append-only.
    tables.experiment.name: (*_SI, f"UPDATE ({_EXPERIMENT_COLUMNS})"),
    tables.experiment_look.name: _SI,
    tables.answer_count.name: _ALL,  # old minutes go
    # People's accounts are the admin page's alone.
    tables.user.name: (),
    tables.session.name: (),
    tables.token.name: (),
    tables.sign_in_limit.name: (),
}
_ADMIN: Mapping[str, tuple[str, ...]] = {
    **_LEDGER,
    # Of a try to sign in it is said later how it ended; the same refusal again is counted in the line of the first.
    tables.audit.name: (*_SI, "UPDATE (action, actor, detail)"),
    tables.user.name: _SIU,
    tables.session.name: _ALL,
    tables.token.name: _SIU,
    tables.sign_in_limit.name: _ALL,
}
_SERVE: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(metadata.tables, ()),
    tables.champion.name: _S,
    tables.promotion.name: _S,
    tables.model_file.name: _S,
    tables.policy.name: _S,
    tables.identity.name: _S,
    tables.run.name: _S,
    tables.stage.name: _S,
    tables.prediction_batch.name: _SI,
    tables.prediction.name: _SI,
    tables.experiment.name: _S,
    tables.answer_count.name: _SIU,
    tables.token.name: ("SELECT", "UPDATE (used_at)"),
    tables.user.name: ("SELECT (name, role, disabled_at)",),  # and no password's hash
}

GRANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "acis_ledger": _LEDGER,
    "acis_admin": _ADMIN,
    "acis_serve": _SERVE,
}
"""By user, what it may do to each table of the ledger; a table that is not named is a fault that a test finds."""

_OPTUNA = "mlops_optuna"
"""Schema of Optuna, whose library makes its tables itself (`mlops.ledger.studies`): there, and nowhere else."""

_MAKE_MONTH = "mlops_make_prediction_month"
_DROP_MONTH = "mlops_drop_prediction_month"
_IDENTIFY = "mlops_identify_promotion"

#: By name: arguments, what it gives, its body. Each runs with its owner's rights, so it does one thing alone.
_FUNCTIONS: Mapping[str, tuple[str, str, str]] = {
    # Two writers make a month one after the other. Attached, and not made as a partition: that would need the parent
    # for itself alone.
    _MAKE_MONTH: (
        "month date",
        "void",
        """
DECLARE first date := date_trunc('month', month)::date;
  part text := 'mlops_prediction_' || to_char(month, 'YYYYMM');
  place text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'mlops_prediction'::regclass);
BEGIN
  IF month < '1900-01-01' OR month >= '2201-01-01' THEN
    RAISE EXCEPTION 'no month of predictions: %', month USING ERRCODE = '22008';
  END IF;
  PERFORM pg_advisory_xact_lock(1886545252);  -- "pred" as a number
  IF EXISTS (SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'mlops_prediction'::regclass AND c.relname = part) THEN
    RETURN;
  END IF;
  EXECUTE format('CREATE TABLE %s.%I (LIKE mlops_prediction INCLUDING DEFAULTS)', place, part);
  EXECUTE format('ALTER TABLE mlops_prediction ATTACH PARTITION %s.%I FOR VALUES FROM (%L) TO (%L)',
                 place, part, first, (first + interval '1 month')::date);
END""",
    ),
    # With a lock that keeps writers out while it looks whether anything was predicted since.
    _DROP_MONTH: (
        "part text, cutoff timestamptz",
        "boolean",
        """
DECLARE found oid := (SELECT c.oid FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                      WHERE i.inhparent = 'mlops_prediction'::regclass AND c.relname = part);
  is_used boolean;
BEGIN
  IF found IS NULL OR part !~ '^mlops_prediction_[0-9]{6}$' OR cutoff > clock_timestamp()
     OR to_date(right(part, 6), 'YYYYMM') + interval '1 month' > cutoff THEN
    RETURN false;
  END IF;
  EXECUTE format('LOCK TABLE %s IN SHARE MODE', found::regclass);
  EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE predicted_at >= $1)', found::regclass) INTO is_used USING cutoff;
  IF is_used THEN
    RETURN false;
  END IF;
  EXECUTE format('DROP TABLE %s', found::regclass);
  RETURN true;
END""",
    ),
    _IDENTIFY: (
        "promotion bigint, sha256 text, maker text",
        "void",
        """
BEGIN
  UPDATE mlops_promotion AS p SET model_sha256 = coalesce(p.model_sha256, sha256), made_by = coalesce(p.made_by, maker)
    WHERE p.id = promotion;
END""",
    ),
}
CALLS: Mapping[str, tuple[str, ...]] = {
    "acis_ledger": tuple(_FUNCTIONS),
    "acis_admin": tuple(_FUNCTIONS),
    "acis_serve": (_MAKE_MONTH,),
}
"""By user, the functions that it may call."""


def put_in_force(connection: Connection) -> None:
    """Make the functions, and give each user that the server has what it may do; safe to repeat.

    connection : of the tables' owner, whose statements commit by themselves
    """
    for statement in _statements(connection):  # read from the catalogue as it goes
        connection.exec_driver_sql(statement.replace("%", "%%"))


def first_lacking(connection: Connection) -> str:
    """A right that `put_in_force` gives the connection's user and has not given yet; empty where nothing is lacking.

    For whoever is, or inherits from, a user of GRANTS. Owners and superusers lack nothing.
    """
    asked = text(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY(:users) AND pg_has_role(oid, 'USAGE') AND NOT"
        " (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) ORDER BY rolname"
    )
    rights = [one for user in connection.scalars(asked, {"users": list(GRANTS)}) for one in _rights(user)]
    if not rights:
        return ""
    values = ", ".join(f"('{right}', {condition})" for right, condition in rights)
    found = f"SELECT name FROM (VALUES {values}) AS one (name, is_given) WHERE is_given IS NOT TRUE LIMIT 1"  # noqa: S608 -- constants of this module
    return str(connection.scalar(text(found)) or "")


def _rights(user: str) -> Iterator[tuple[str, str]]:
    """Each right in words, and the condition under which the connection's user has it; NULL where the thing is not."""
    for table, privileges in GRANTS[user].items():
        for privilege in privileges:
            kind, _, columns = privilege.rstrip(")").partition(" (")
            for column in filter(None, columns.split(", ")):
                yield (
                    f"{kind} ({column}) on {table}",
                    f"has_column_privilege(to_regclass('{table}'), '{column}', '{kind}')",
                )
            if not columns:
                yield f"{kind} on {table}", f"has_table_privilege(to_regclass('{table}'), '{kind}')"
        if "INSERT" in privileges:
            sequence = (
                f"pg_get_serial_sequence(to_regclass('{table}')::text, '{next(iter(metadata.tables[table].c)).name}')"
            )
            yield (
                f"USAGE on the sequence of {table}",
                f"{sequence} IS NULL OR has_sequence_privilege({sequence}, 'USAGE')",
            )
    for name in CALLS[user]:
        called = f"EXISTS (SELECT FROM pg_proc WHERE proname = '{name}' AND has_function_privilege(oid, 'EXECUTE'))"
        yield f"EXECUTE on {name}", called
    if user != "acis_serve":
        yield f"CREATE in {_OPTUNA}", f"has_schema_privilege(to_regnamespace('{_OPTUNA}'), 'CREATE')"


def as_script(connection: Connection) -> str:
    """What `put_in_force` does, for the transaction that makes the same tables anew: no user is without its rights.

    Empty where the ledger is not there yet. What an older schema lacks is left out; `migrate` makes it.
    """
    if connection.scalar(text("SELECT to_regclass('mlops_run') IS NULL")):
        return ""
    return "\n".join(
        f"DO $one$ BEGIN {said}; EXCEPTION WHEN undefined_table OR undefined_column THEN NULL; END $one$;"
        for said in _statements(connection)
    )


def let_features_be_read(url: str, relation: str) -> bool:
    """Let `acis_features` read the relation, which may be made later than the ledger's tables; safe to repeat.

    False where the server lacks the user or the relation, or the URL's user may not say who reads it.
    """
    query = text(
        "SELECT oid::regclass::text AS name, relnamespace::regnamespace::text AS place, "
        "pg_has_role(relowner, 'USAGE') AS is_ours FROM pg_class WHERE oid = to_regclass(:name)"
    )
    database = Database(url)
    try:
        with database.unhurried() as connection:
            found = connection.execute(query, {"name": relation}).one_or_none()
            if found is None or not found.is_ours or not _known(connection, [FEATURES_USER]):
                return False
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {found.place} TO {FEATURES_USER}")
            connection.exec_driver_sql(f"GRANT SELECT ON {found.name} TO {FEATURES_USER}")
            return True
    finally:
        database.close()


def _known(connection: Connection, users: Iterable[str]) -> list[str]:
    asked = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:users) AND rolname <> current_user")
    return sorted(connection.scalars(asked, {"users": list(users)}))


def _statements(connection: Connection) -> Iterator[str]:
    place = str(
        connection.scalar(
            text("SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('mlops_run')")
        )
    )
    # Temporary tables come last: a caller's own must not stand for the ledger's.
    path = connection.scalar(text("SELECT array_to_string(current_schemas(false), ', ')"))
    for name, (arguments, result, body) in _FUNCTIONS.items():
        yield (
            f"CREATE OR REPLACE FUNCTION {place}.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql "
            f"SECURITY DEFINER SET search_path = {path}, pg_temp AS $body${body}$body$"
        )
        yield f"REVOKE ALL ON FUNCTION {place}.{name}({arguments}) FROM PUBLIC"
    users = _known(connection, GRANTS)
    if users:
        yield f"CREATE SCHEMA IF NOT EXISTS {_OPTUNA}"
    for user in users:
        yield from _of_user(connection, user, place)


def _of_user(connection: Connection, user: str, place: str) -> Iterator[str]:
    yield f"GRANT USAGE ON SCHEMA {place} TO {user}"
    yield f"GRANT SELECT ON {place}.mlops_alembic_version TO {user}"
    for name, privileges in GRANTS[user].items():
        yield _granted(f"{place}.{name}", privileges, user)
    for table in metadata.tables.values():
        sequence = connection.scalar(
            text("SELECT pg_get_serial_sequence(:table, :column) WHERE to_regclass(:table) IS NOT NULL"),
            {"table": f"{place}.{table.name}", "column": next(iter(table.c)).name},
        )
        if sequence and "INSERT" in GRANTS[user].get(table.name, ()):
            yield f"GRANT USAGE ON SEQUENCE {sequence} TO {user}"
    yield from (f"GRANT EXECUTE ON FUNCTION {place}.{name} TO {user}" for name in CALLS[user])
    if user != "acis_serve":
        yield f"GRANT USAGE, CREATE ON SCHEMA {_OPTUNA} TO {user}"
        yield from _of_optunas_tables(connection, user)


def _granted(table: str, privileges: tuple[str, ...], user: str) -> str:
    """What it may from now on, in one transaction: it is never without what it has."""
    granting = f"; GRANT {', '.join(privileges)} ON {table} TO {user}" if privileges else ""
    return f"REVOKE ALL ON {table} FROM {user}{granting}"


def _of_optunas_tables(connection: Connection, user: str) -> Iterator[str]:
    """Of those that this user owns: an installation that had one user for everything."""
    own = text(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind = 'S' AS is_sequence FROM pg_class AS c "
        "JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relkind IN ('r', 'S') "
        "AND pg_has_role(c.relowner, 'USAGE')"
    )
    for one in connection.execute(own, {"schema": _OPTUNA}).all():
        kind, privileges = ("SEQUENCE", "USAGE") if one.is_sequence else ("TABLE", ", ".join(_ALL))
        yield f"GRANT {privileges} ON {kind} {one.name} TO {user}"
