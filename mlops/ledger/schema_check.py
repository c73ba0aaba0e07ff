"""The whole schema against what this program expects: a restore that lost an index or a constraint is found.

The tables that are expected are made as temporary ones and taken back, and both are described by the server itself, so
that neither its version nor its way of writing an expression plays a part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, text

from mlops.ledger.engine import Database
from mlops.ledger.schema import VERSION_TABLE
from mlops.ledger.tables import metadata

Part = Literal["table", "column", "constraint", "index"]

_DESCRIBED = """
WITH t AS (
  SELECT c.oid, c.relname FROM pg_class AS c
  WHERE c.relnamespace = :namespace AND c.relkind IN ('r', 'p') AND c.relname = ANY(:names))
SELECT 'table' AS part, t.relname AS table, t.relname AS name, '' AS definition FROM t
UNION ALL
SELECT 'column', t.relname, a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attnotnull THEN 'NOT NULL' END, 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid))
  FROM t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef AS d ON d.adrelid = t.oid AND d.adnum = a.attnum
UNION ALL
SELECT 'constraint', t.relname, k.conname,
    pg_get_constraintdef(k.oid) || CASE WHEN i.indisvalid = false THEN ' (its index is not valid)' ELSE '' END
  FROM t JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.contype <> 'n'
  LEFT JOIN pg_index AS i ON i.indexrelid = k.conindid
UNION ALL
SELECT 'index', t.relname, c.relname,
    pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' (its build was cut off)' END
  FROM t JOIN pg_index AS i ON i.indrelid = t.oid JOIN pg_class AS c ON c.oid = i.indexrelid
  WHERE NOT EXISTS (SELECT 1 FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.conrelid = t.oid)
"""
#: Of the schema of a table, in a definition: the temporary ones have another.
_QUALIFIED = re.compile(r"\b(?:pg_temp(?:_\d+)?|\w+)\.(?=mlops_)")
_BARE = re.compile(r"::(?:text|character varying)(?:\[\])?|[()]")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something of the schema that is missing, or is not what this program expects."""

    part: Part
    name: str
    found: str
    """In words."""
    mend: str


def schema_differences(database: Database) -> list[Difference]:
    """Tables, columns with their types, constraints and indexes; empty where all is as expected.

    What is there beside them is nobody's business here. Raises LedgerUnavailable.
    """
    with database.transaction() as connection:
        namespace = connection.scalar(
            text("SELECT relnamespace FROM pg_class WHERE oid = to_regclass(:name)"), {"name": VERSION_TABLE}
        )
        found = _described(connection, namespace)
        with connection.begin_nested() as trial:
            metadata.create_all(connection.execution_options(schema_translate_map={None: "pg_temp"}), checkfirst=False)
            expected = _described(connection, connection.scalar(text("SELECT pg_my_temp_schema()")))
            trial.rollback()
    tables = {table for part, table, _ in found if part == "table"}
    return [
        _difference(part, table, name, definition, found.get((part, table, name)))
        for (part, table, name), definition in sorted(expected.items())
        if not _is_same(definition, found.get((part, table, name))) and (part == "table" or table in tables)
    ]


def _is_same(expected: str, found: str | None) -> bool:
    """But for casts to text and brackets: a condition that went through `pg_dump` has them in other places."""
    return found is not None and _BARE.sub("", expected) == _BARE.sub("", found)


def _described(connection: Connection, namespace: int | None) -> dict[tuple[Part, str, str], str]:
    values = {"namespace": namespace, "names": list(metadata.tables)}
    rows = connection.execute(text(_DESCRIBED), values)
    return {(row.part, row.table, row.name): _QUALIFIED.sub("", row.definition) for row in rows}


def _difference(part: Part, table: str, name: str, expected: str, found: str | None) -> Difference:
    place = name if part == "table" else f"{table}.{name}" if part == "column" else f"{name} of {table}"
    words = "is missing" if found is None else f"is not as expected: {found}"
    wanted = f"; expected: {expected}" if expected else ""
    return Difference(
        part=part, name=name, found=f"{part} {place} {words}{wanted}", mend=_mend(part, table, name, found, expected)
    )


def _mend(part: Part, table: str, name: str, found: str | None, expected: str) -> str:
    if part == "index":
        is_other = found is not None and "cut off" not in found
        return f"DROP INDEX CONCURRENTLY {name}, then `acis migrate`" if is_other else "acis migrate"
    if part == "constraint":
        drop = "" if found is None else f"DROP CONSTRAINT {name}, "
        return f"ALTER TABLE {table} {drop}ADD CONSTRAINT {name} {expected}"
    return "restore a whole backup with `acis restore`, or ask whoever changed the table to take that back"
