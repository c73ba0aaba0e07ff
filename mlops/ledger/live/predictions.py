"""The prediction log: what each version said of which ticker and date, written by COPY in batches.

The table is partitioned by the month of the features' date. A writer makes the partition that it needs; housekeeping
drops whole ones, both by functions of the owner's (`mlops.ledger.access`). A batch is written once, however often it is
sent: its id and its rows are one transaction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Connection, and_, delete, exc, func, select, text
from sqlalchemy.dialects.postgresql import distinct_on, insert

from mlops.domain.errors import DataError, LedgerUnavailable
from mlops.ledger import tables
from mlops.ledger.columns import after, now
from mlops.ledger.engine import Repository, copy_in
from mlops.ledger.stages import held_by, lease_lost

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.domain.records import Grant

log = structlog.get_logger(__name__)

_prediction = tables.prediction.c
_batch = tables.prediction_batch.c

DAY_S = 86_400.0
BATCH = 5000
"""Noted batches that one transaction forgets."""

_PARENT = tables.prediction.name
_PARTITION = re.compile(rf"{_PARENT}_(\d{{4}})(\d{{2}})")
_DIGEST_BYTES = 16
_COPY = f"COPY {_PARENT} ({', '.join(tables.prediction.columns.keys())}) FROM STDIN (FORMAT csv)"

_PARTITIONS = """
SELECT c.relname AS name FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(:parent) ORDER BY c.relname"""
#: Whoever holds the parent is not waited for: writers would wait behind us. Shorter than `deadlock_timeout` (1 s): of a
#: writer and us, it is we who give way.
_DROP_WITHIN_MS = 500
_LOCK_NOT_AVAILABLE = "55P03"
_NO_PARTITION = "23514"
_OF_THE_ROWS = ("22", "23")
"""Classes of SQLSTATEs that come again with the same rows: a value out of range, a broken constraint."""


@cache
def prediction_schema() -> pa.Schema:
    """Columns of a table of predictions, as it is written and read.

    `as_of` is the date of the features, `probability` that of the positive class, `row_digest` of the features as the
    model read them (`mlops.domain.live.rows.row_digests`). A ticker of "" is a row that the caller did not name.
    """
    import pyarrow as pa  # noqa: PLC0415 -- half of a quick command's start

    return pa.schema([
        *((name, pa.string()) for name in ("strategy", "version", "model_sha256", "variant", "ticker")),
        ("as_of", pa.date32()),
        ("predicted_at", pa.timestamp("us", tz="UTC")),
        ("probability", pa.float64()),
        ("row_digest", pa.binary(_DIGEST_BYTES)),
    ])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PredictionDay:
    """What one version said of one date."""

    as_of: date
    version: str
    model_sha256: str
    variant: str
    n_written: int
    """Rows, those that were asked for again too."""
    n_tickers: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, kw_only=True)
class PurgedPredictions:
    """What the retention took away."""

    partitions: tuple[str, ...] = ()
    n_batches: int = 0


class Predictions(Repository):
    """Writes and reads the log."""

    def write_predictions(
        self, batch_id: str, origin: str, rows: pa.Table, *, namespace: str = "live", fence: Grant | None = None
    ) -> bool:
        """Write a batch, all of it or nothing; False where a batch of this id was written before.

        batch_id : unique for ever; the same id with other rows is not noticed
        origin : `run`, `service` or `router`
        rows : of `prediction_schema()`; some ten thousand, since the statement has 15 s
        fence : the stage that writes must be held by this grant until the batch is committed
        Raises DataError for rows that the table cannot hold, LeaseLost, LedgerUnavailable; that too where this user may
        not write, since a person can allow it.
        """
        if not rows.schema.equals(prediction_schema()):
            raise DataError(f"predictions have the columns {prediction_schema().names}; got {rows.schema.names}")
        noted = (
            insert(tables.prediction_batch)
            .values(batch_id=batch_id, origin=origin, n_rows=len(rows), newest=_newest(rows), written_at=now())
            .on_conflict_do_nothing()
            .returning(_batch.batch_id)
        )
        body = _as_csv(rows, namespace=namespace, batch_id=batch_id)
        try:
            self._make_partitions(_months(rows))
            with self.database.transaction("ledger.write_predictions") as connection:
                if fence is not None:
                    # the lock keeps a reclaim out until this commits
                    held = select(tables.stage.c.token).where(*held_by(fence)).with_for_update()
                    if connection.execute(held).one_or_none() is None:
                        raise lease_lost(fence)
                if connection.execute(noted).one_or_none() is None:
                    return False
                copy_in(connection, _COPY, body)
        except (exc.DBAPIError, DataError) as error:
            refused = error if isinstance(error, exc.DBAPIError) else error.__cause__
            cause = getattr(refused, "orig", refused)
            words = " ".join(str(cause).split())
            state = getattr(cause, "pgcode", None) or ""
            if state == _NO_PARTITION:
                raise LedgerUnavailable(f"the month of batch {batch_id} was dropped meanwhile: {words}") from error
            if isinstance(error, exc.DBAPIError) and not state.startswith(_OF_THE_ROWS):
                raise LedgerUnavailable(
                    f"batch {batch_id} of {len(rows)} predictions is not taken now: {words}; where that does not pass, "
                    "let `acis migrate` give DATABASE_URL's user what it may do"
                ) from error
            raise DataError(f"batch {batch_id} of {len(rows)} predictions cannot be written: {words}") from error
        return True

    def predictions(self, strategy: str, first: date, last: date, *, namespace: str = "live") -> pa.Table:
        """The predictions that count of these dates, both included: a table of `prediction_schema()`, by date.

        Of each version, variant, ticker and date it is the first one: asked again, it may know more. Rows without a
        ticker meet no outcome and are left out.
        """
        import pyarrow as pa  # noqa: PLC0415 -- half of a quick command's start

        key = [
            _prediction.as_of,
            _prediction.version,
            _prediction.model_sha256,
            _prediction.variant,
            _prediction.ticker,
        ]
        columns = [_prediction[name] for name in prediction_schema().names]
        query = (
            select(*columns)
            .ext(distinct_on(*key))
            .where(_of(strategy, first, last, namespace), _prediction.ticker != "")
            .order_by(*key, _prediction.predicted_at, _prediction.batch_id, _prediction.row_digest)
        )
        with self.database.reading() as connection:
            found = connection.execute(query).all()
        values = zip(*found, strict=True) if found else ([] for _ in columns)
        arrays = [
            pa.array([bytes(one) for one in column] if field.name == "row_digest" else column, field.type)
            for field, column in zip(prediction_schema(), values, strict=True)
        ]
        return pa.table(arrays, schema=prediction_schema())

    def prediction_days(
        self, strategy: str, first: date, last: date, *, namespace: str = "live"
    ) -> list[PredictionDay]:
        """How much was written of each date and version, by date."""
        key = [_prediction.as_of, _prediction.version, _prediction.model_sha256, _prediction.variant]
        query = (
            select(
                *key,
                func.count().label("n_written"),
                func.count(_prediction.ticker.distinct()).label("n_tickers"),
                func.min(_prediction.predicted_at).label("first_at"),
                func.max(_prediction.predicted_at).label("last_at"),
            )
            .where(_of(strategy, first, last, namespace))
            .group_by(*key)
            .order_by(*key)
        )
        with self.database.reading() as connection:
            return [PredictionDay(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001 -- its name

    def purge_predictions(self, *, older_than_days: float) -> PurgedPredictions:
        """Drop the months whose dates are all so old, and of which nothing was predicted since.

        A past that is replayed now stays for as long as a present. A partition that somebody holds is left for the
        next time.
        """
        with self.database.reading() as connection:
            cutoff: datetime = connection.execute(select(after(-older_than_days * DAY_S))).scalar_one()
            partitions = connection.execute(text(_PARTITIONS), {"parent": _PARENT}).all()
        dropped = [row.name for row in partitions if _is_over(row.name, cutoff.date()) and self._drop(row.name, cutoff)]
        return PurgedPredictions(partitions=tuple(dropped), n_batches=self._forget_batches(cutoff))

    def _forget_batches(self, cutoff: datetime) -> int:
        """Delete the notes of batches that are so old, and whose months were dropped: nobody sends those again."""
        is_old = and_(_batch.written_at < cutoff, _batch.newest < cutoff.date().replace(day=1))
        old = select(_batch.batch_id).where(is_old).order_by(_batch.newest).limit(BATCH)
        with self.database.transaction("ledger.purge_predictions") as connection:
            return connection.execute(delete(tables.prediction_batch).where(_batch.batch_id.in_(old))).rowcount

    def _drop(self, name: str, cutoff: datetime) -> bool:
        """Drop a partition of which nothing was predicted since, in one transaction that keeps writers out."""
        try:
            with self.database.transaction("ledger.purge_predictions") as connection:
                # A month of millions has no index by time.
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_DROP_WITHIN_MS}")
                return bool(connection.scalar(select(func.mlops_drop_prediction_month(name, cutoff))))
        except LedgerUnavailable as error:
            if getattr(getattr(error.__cause__, "orig", None), "pgcode", None) != _LOCK_NOT_AVAILABLE:
                raise
            log.info("predictions.partition_is_held", partition=name, next="dropped the next time")
            return False

    def _make_partitions(self, months: list[date]) -> None:
        """Make the missing partitions of these months, in a transaction that keeps no other month waiting."""
        with self.database.reading() as connection:
            missing = _missing(connection, months)
        if not missing:
            return
        with self.database.transaction("ledger.make_partitions") as connection:
            for month in missing:
                connection.execute(select(func.mlops_make_prediction_month(month)))


def partition_of(day: date) -> str:
    """Name of the partition of a date's month: `mlops_prediction_202611`."""
    return f"{_PARENT}_{day:%Y%m}"


def _is_over(name: str, oldest: date) -> bool:
    """Whether each date of a partition is before that one; not of a table that is none of ours."""
    match = _PARTITION.fullmatch(name)
    return match is not None and _next(date(int(match[1]), int(match[2]), 1)) <= oldest


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _months(rows: pa.Table) -> list[date]:
    return sorted({day.replace(day=1) for day in rows["as_of"].unique().to_pylist() if day is not None})


def _newest(rows: pa.Table) -> date | None:
    import pyarrow.compute as pc  # noqa: PLC0415 -- half of a quick command's start

    newest: date | None = pc.max(rows["as_of"]).as_py()
    return newest


def _missing(connection: Connection, months: list[date]) -> list[date]:
    there = {row.name for row in connection.execute(text(_PARTITIONS), {"parent": _PARENT})}
    return [month for month in months if partition_of(month) not in there]


def _of(strategy: str, first: date, last: date, namespace: str) -> Any:  # noqa: ANN401 -- a condition
    return and_(
        _prediction.namespace == namespace, _prediction.strategy == strategy, _prediction.as_of.between(first, last)
    )


def _as_csv(rows: pa.Table, *, namespace: str, batch_id: str) -> pa.BufferReader:
    """As COPY reads it: every text in quotes, so that none is taken for NULL."""
    import pyarrow as pa  # noqa: PLC0415 -- half of a quick command's start
    import pyarrow.csv  # noqa: PLC0415

    columns = {
        "namespace": pa.repeat(namespace, len(rows)),
        **{name: rows[name] for name in rows.column_names if name != "row_digest"},
        "row_digest": _in_hex(rows["row_digest"].combine_chunks()),
        "batch_id": pa.repeat(batch_id, len(rows)),
    }
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(columns), sink, pyarrow.csv.WriteOptions(include_header=False))
    return pa.BufferReader(sink.getvalue())


def _in_hex(digests: pa.Array) -> pa.Array:
    """As PostgreSQL reads bytes: a backslash, an x, and two digits each."""
    import numpy as np  # noqa: PLC0415 -- half of a quick command's start
    import pyarrow as pa  # noqa: PLC0415

    plain = np.frombuffer(b"".join(digests.to_pylist()).hex().encode(), dtype=f"S{2 * _DIGEST_BYTES}")
    return pa.array(np.char.add(b"\\x", plain)).cast(pa.string())
