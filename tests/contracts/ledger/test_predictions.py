"""The prediction log: written once, read as what counts, and dropped by months."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import text

from mlops.domain.errors import DataError, LedgerUnavailable
from mlops.ledger.ledger import SqlLedger
from mlops.ledger.live.predictions import partition_of, prediction_schema
from mlops.ledger.schema import schema_differences
from tests.support.ledgers import TimedLedger, answering
from tests.support.waiting import wait_for

DAY = date(2026, 11, 12)
AT = datetime(2026, 11, 12, 21, 30, tzinfo=UTC)
DIGEST = bytes(range(16))


def row(ticker: str = "AAPL", as_of: date = DAY, probability: float = 0.25, **changes: Any) -> dict[str, Any]:
    return {
        "strategy": "growth",
        "version": "7",
        "model_sha256": "a" * 64,
        "variant": "champion",
        "ticker": ticker,
        "as_of": as_of,
        "predicted_at": AT,
        "probability": probability,
        "row_digest": DIGEST,
        **changes,
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=prediction_schema())


def partitions(ledger: SqlLedger) -> set[str]:
    query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'mlops_prediction'::regclass"
    with ledger.database.reading() as connection:
        return set(connection.scalars(text(query)))


def count(ledger: SqlLedger, relation: str = "mlops_prediction") -> int:
    with ledger.database.reading() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {relation}")) or 0)


def test_what_was_written_is_read_to_the_last_bit(ledger: SqlLedger) -> None:
    odd = [
        row("BRK.B", probability=0.1 + 0.2, row_digest=bytes(range(240, 256))),
        row('quo"te,d', probability=5e-324),
        row("été\n€"),
        row("NULL"),
        row("\\N"),
    ]
    assert ledger.write_predictions("b1", "service", table(*odd))
    found = ledger.predictions("growth", DAY, DAY)
    assert found.schema == prediction_schema()
    by_ticker = {one["ticker"]: one for one in found.to_pylist()}
    assert by_ticker == {one["ticker"]: one for one in odd}


def test_a_batch_that_is_sent_twice_is_written_once(ledger: SqlLedger) -> None:
    assert ledger.write_predictions("b1", "service", table(row(), row("MSFT")))
    assert not ledger.write_predictions("b1", "service", table(row(), row("MSFT")))
    assert count(ledger) == 2
    with ledger.database.reading() as connection:
        noted = connection.execute(text("SELECT origin, n_rows, newest FROM mlops_prediction_batch")).one()
    assert tuple(noted) == ("service", 2, DAY)


def test_one_batch_sent_by_many_at_once_is_written_once(ledger: SqlLedger) -> None:
    rows = table(*(row(f"T{n}", as_of=date(2031, 3, 1)) for n in range(500)))
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: ledger.write_predictions("b1", "service", rows), range(4)))
    assert sorted(written) == [False, False, False, True]
    assert count(ledger) == 500


def test_a_batch_that_cannot_be_written_leaves_nothing_and_may_be_sent_again(ledger: SqlLedger) -> None:
    with pytest.raises(DataError, match="batch b1 of 2 predictions cannot be written: invalid byte sequence"):
        ledger.write_predictions("b1", "service", table(row(), row("nul\x00")))
    assert count(ledger) == 0
    assert ledger.write_predictions("b1", "service", table(row()))


def test_other_columns_are_refused_by_name(ledger: SqlLedger) -> None:
    with pytest.raises(DataError, match="got \\['ticker'\\]"):
        ledger.write_predictions("b1", "service", pa.table({"ticker": ["AAPL"]}))


def test_no_rows_are_a_batch_too(ledger: SqlLedger) -> None:
    assert ledger.write_predictions("b1", "run", table())
    assert ledger.predictions("growth", DAY, DAY).num_rows == 0


def test_the_first_prediction_of_a_ticker_and_date_counts(ledger: SqlLedger) -> None:
    ledger.write_predictions("b2", "service", table(row(probability=0.9, predicted_at=AT + timedelta(seconds=1))))
    ledger.write_predictions("b3", "service", table(row(probability=0.4), row("MSFT", probability=0.5)))
    ledger.write_predictions("b4", "service", table(row(probability=0.6, version="8")))
    found = ledger.predictions("growth", DAY, DAY).select(["version", "ticker", "probability"]).to_pylist()
    assert [tuple(one.values()) for one in found] == [("7", "AAPL", 0.4), ("7", "MSFT", 0.5), ("8", "AAPL", 0.6)]


def test_only_the_strategy_the_dates_and_the_namespace_that_are_asked_for_are_read(ledger: SqlLedger) -> None:
    days = [DAY + timedelta(days=n) for n in range(4)]
    ledger.write_predictions("b1", "service", table(*(row(as_of=day) for day in days), row(strategy="value")))
    ledger.write_predictions("b2", "service", table(row("MSFT")), namespace="lab")
    assert ledger.predictions("growth", days[1], days[2])["as_of"].to_pylist() == days[1:3]
    assert ledger.predictions("growth", DAY, DAY, namespace="lab")["ticker"].to_pylist() == ["MSFT"]


def test_a_row_without_a_ticker_is_kept_and_counted_but_meets_no_outcome(ledger: SqlLedger) -> None:
    ledger.write_predictions("b1", "service", table(row(""), row("AAPL"), row("AAPL", predicted_at=AT)))
    assert ledger.predictions("growth", DAY, DAY)["ticker"].to_pylist() == ["AAPL"]
    (day,) = ledger.prediction_days("growth", DAY, DAY)
    assert (day.as_of, day.version, day.n_written, day.n_tickers, day.first_at) == (DAY, "7", 3, 2, AT)


# ---- partitions


def test_the_months_of_a_batch_get_their_partitions(timed: TimedLedger) -> None:
    ledger, owner = timed.ledger, SqlLedger(timed.owner)
    days = [date(2027, 12, 31), date(2028, 1, 1), date(2028, 2, 29)]
    ledger.write_predictions("b1", "service", table(*(row(as_of=day) for day in days)))
    assert {"mlops_prediction_202712", "mlops_prediction_202801", "mlops_prediction_202802"} <= partitions(ledger)
    assert [count(owner, partition_of(day)) for day in days] == [1, 1, 1]
    assert schema_differences(ledger.database) == []


def test_writers_who_need_the_same_new_month_at_once_all_write(ledger: SqlLedger) -> None:
    months = [date(2032, month, 1) for month in range(1, 7)]

    def write(writer: int) -> bool:
        return all(
            ledger.write_predictions(f"b{writer}-{month}", "service", table(row(as_of=month))) for month in months
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write, range(4)))
    assert count(ledger) == 24


def test_a_new_month_waits_for_no_reader_and_no_writer(ledger: SqlLedger) -> None:
    ledger.write_predictions("b1", "service", table(row()))
    with ledger.database.transaction() as connection:
        connection.execute(text("SELECT count(*) FROM mlops_prediction"))
        connection.execute(text("INSERT INTO mlops_prediction SELECT * FROM mlops_prediction"))
        assert ledger.write_predictions("b2", "service", table(row(as_of=date(2033, 1, 1))))


# ---- retention


def test_whole_months_go_when_all_their_dates_are_old(timed: TimedLedger) -> None:
    ledger, today = timed.ledger, timed.ledger.now()
    this_month = today.date().replace(day=1)
    old = (this_month - timedelta(days=70)).replace(day=1)
    for name, day in (("old", old), ("young", this_month)):
        at = datetime.combine(day, AT.timetz())
        ledger.write_predictions(name, "service", table(row(as_of=day, predicted_at=at)))
    assert ledger.purge_predictions(older_than_days=400).partitions == ()
    timed.advance(3 * 86_400)
    purged = ledger.purge_predictions(older_than_days=today.day + 2)
    assert partition_of(old) in purged.partitions
    assert partition_of(this_month) in partitions(ledger)
    assert count(ledger) == 1


def test_a_past_that_was_replayed_now_stays_as_long_as_a_present(timed: TimedLedger) -> None:
    ledger, replayed = timed.ledger, date(2019, 3, 7)
    ledger.write_predictions("b1", "run", table(row(as_of=replayed, predicted_at=ledger.now())))
    assert partition_of(replayed) not in ledger.purge_predictions(older_than_days=30).partitions
    timed.advance(31 * 86_400)
    purged = ledger.purge_predictions(older_than_days=30)
    assert partition_of(replayed) in purged.partitions
    assert purged.n_batches == 1
    assert count(ledger) == 0


def test_a_dropped_month_comes_again_when_it_is_written(timed: TimedLedger) -> None:
    ledger, day = timed.ledger, date(2018, 5, 2)
    ledger.write_predictions("b1", "run", table(row(as_of=day, predicted_at=datetime(2018, 5, 2, tzinfo=UTC))))
    assert partition_of(day) in ledger.purge_predictions(older_than_days=30).partitions
    assert ledger.write_predictions("b2", "run", table(row(as_of=day)))
    assert count(ledger) == 1


def test_a_batch_whose_month_stays_is_remembered(timed: TimedLedger) -> None:
    ledger = timed.ledger
    ledger.write_predictions("b1", "service", table(row(as_of=ledger.now().date(), predicted_at=ledger.now())))
    timed.advance(40 * 86_400)
    assert ledger.purge_predictions(older_than_days=90).n_batches == 0


def test_a_month_that_somebody_reads_is_left_for_the_next_time(timed: TimedLedger) -> None:
    ledger, day = timed.ledger, date(2017, 5, 2)
    ledger.write_predictions("b1", "run", table(row(as_of=day, predicted_at=datetime(2017, 5, 2, tzinfo=UTC))))
    with ledger.database.transaction() as connection:
        connection.execute(text("SELECT count(*) FROM mlops_prediction"))
        assert partition_of(day) not in ledger.purge_predictions(older_than_days=30).partitions
    assert partition_of(day) in ledger.purge_predictions(older_than_days=30).partitions


def test_a_server_without_room_is_a_temporary_error(ledger: SqlLedger) -> None:
    with answering("53100"), pytest.raises(LedgerUnavailable):
        ledger.write_predictions("b1", "service", table(row()))
    assert ledger.write_predictions("b1", "service", table(row()))


@pytest.mark.parametrize("state", ["42501", "XX000", "0A000"])
def test_what_is_no_fault_of_the_rows_is_a_temporary_error(ledger: SqlLedger, state: str) -> None:
    with answering(state), pytest.raises(LedgerUnavailable):
        ledger.write_predictions("b1", "service", table(row()))


@pytest.mark.parametrize("state", ["22003", "23505", "23502"])
def test_what_comes_again_with_the_same_rows_is_refused_for_good(ledger: SqlLedger, state: str) -> None:
    with answering(state), pytest.raises(DataError):
        ledger.write_predictions("b1", "service", table(row()))


def test_a_user_who_may_not_write_any_more_loses_nothing(timed: TimedLedger) -> None:
    ledger = timed.ledger
    ledger.write_predictions("b1", "service", table(row()))
    refuse = """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE insufficient_privilege USING MESSAGE = 'permission denied'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON mlops_prediction_batch EXECUTE FUNCTION refuse()"""
    with timed.owner.transaction() as connection:
        connection.execute(text(refuse))
    try:
        with pytest.raises(LedgerUnavailable, match="not taken now: permission denied"):
            ledger.write_predictions("b2", "service", table(row("MSFT")))
    finally:
        with timed.owner.transaction() as connection:
            connection.execute(text("DROP FUNCTION refuse CASCADE"))
    assert ledger.write_predictions("b2", "service", table(row("MSFT")))


def test_a_month_that_is_written_while_it_is_to_be_dropped_stays(timed: TimedLedger) -> None:
    ledger, day = timed.ledger, date(2016, 5, 2)
    ledger.write_predictions("b1", "run", table(row(as_of=day, predicted_at=datetime(2016, 5, 2, tzinfo=UTC))))
    waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = to_regclass(:name))")
    with ThreadPoolExecutor(max_workers=1) as pool:
        with timed.owner.transaction() as connection:
            connection.execute(
                text("UPDATE mlops_prediction SET predicted_at = now() WHERE as_of = :day"), {"day": day}
            )
            purged = pool.submit(ledger.purge_predictions, older_than_days=30)

            def waits() -> bool:
                with ledger.database.reading() as reader:
                    return bool(reader.scalar(waiting, {"name": partition_of(day)})) or purged.done()

            wait_for(waits, "the purge waits for the writer")
        assert partition_of(day) not in purged.result(timeout=30).partitions
    assert count(ledger) == 1
