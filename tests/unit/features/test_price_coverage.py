"""What is said of a file of prices: rows given, rows kept, and why the others are lost."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.domain.errors import InsufficientData
from mlops.features.price_coverage import PriceCoverage, measure_coverage
from mlops.features.price_universes import feature_rows
from mlops.features.prices import LEFT_OUT, PriceTable, read_prices
from mlops.features.sample_features import WARM_UP
from tests.support.prices import coins, commodities, currencies, random_walks, write_prices


def table(close: pd.DataFrame) -> PriceTable:
    nothing = pd.DataFrame(0, index=close.columns, columns=LEFT_OUT)
    return PriceTable(path=Path("prices.csv"), close=close, left_out=nothing)


def n_feature_rows(close: pd.DataFrame) -> int:
    everyone = pd.DataFrame(True, index=close.index, columns=close.columns)
    return len(feature_rows(close, {"all": everyone})["all"])


def codes(found: PriceCoverage) -> list[str]:
    return [one.code for one in found.findings]


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.001, 0.02, 0.3]), halt=st.integers(0, 60))
@settings(max_examples=8, deadline=None)
def test_rows_kept_are_those_with_all_features_and_each_other_row_has_one_cause(
    seed: int, share: float, halt: int
) -> None:
    rng = np.random.default_rng(seed)
    close = random_walks(3, pd.bdate_range("2015-01-01", periods=900), seed=seed)
    close = close.mask(rng.random(close.shape) < share)
    close.iloc[300 : 300 + halt, 1] = np.nan
    found = measure_coverage(table(close))
    assert found.n_kept == n_feature_rows(close)
    assert found.n_rows == found.n_kept + sum(found.lost.values()) == close.notna().to_numpy().sum()
    for one in found.names:
        assert one.n_rows == one.n_kept + sum(one.lost.values())


def test_a_complete_file_loses_the_first_year_of_each_name_and_nothing_else() -> None:
    found = measure_coverage(table(random_walks(3, pd.bdate_range("2015-01-01", periods=500), seed=1)))
    assert (found.n_rows, found.n_kept, found.share_kept) == (1500, 3 * (500 - WARM_UP), 1.0)
    assert {cause: n for cause, n in found.lost.items() if n} == {"warm_up": 3 * WARM_UP}
    assert (found.findings, found.n_without_label) == ((), 0)
    assert found.words == (
        "744 of 1,500 rows, of 3 names, have all features; the others: 756 among the first 252 prices of a name"
    )


def test_of_the_commodities_nearly_all_rows_are_kept_and_every_loss_is_told(tmp_path: Path) -> None:
    close = commodities()
    found = measure_coverage(read_prices(write_prices(close, tmp_path / "prices.csv", empty_rows=True)))
    assert found.n_rows == close.size
    assert found.lost["not_positive"] == 1
    # N02 begins 300 dates late, N03 ends 200 early.
    assert found.lost["not_traded"] >= 500
    assert found.lost["no_price"] + found.lost["not_traded"] == close.isna().to_numpy().sum()
    assert found.share_kept > 0.95
    assert found.findings[1].words == "prices of 0, less or infinite are skipped: N00 (1)"
    assert codes(found) == ["no_price", "not_positive", "gaps_bridged", "history_restarted", "labels_unknown"]
    halted = found.names[1]
    assert halted.ticker == "N01"
    # 40 dates without a price, and what misses beside them.
    (gap,) = halted.restarts
    assert gap.n_dates >= 40
    assert halted.lost["after_gap"] == WARM_UP
    assert f"N01 ({gap.first_after} after {gap.n_dates} dates without a price)" in found.findings[3].words
    assert (found.names[2].first, found.names[3].last) == (
        close["N02"].first_valid_index().date(),
        close["N03"].last_valid_index().date(),
    )


@pytest.mark.parametrize("close", [coins(years=3), currencies(years=3)], ids=["coins", "currencies"])
def test_a_seven_day_week_late_names_and_shared_holidays_cost_no_more_than_the_first_year(close: pd.DataFrame) -> None:
    found = measure_coverage(table(close))
    assert (found.share_kept, found.lost["after_gap"]) == (1.0, 0)
    assert {one.ticker for one in found.names if not one.n_kept} == {
        str(ticker) for ticker in close if close[ticker].count() <= WARM_UP
    }


def test_a_file_of_which_little_is_kept_says_so_first_and_what_to_do() -> None:
    close = random_walks(4, pd.bdate_range("2015-01-01", periods=900), seed=1)
    for start in range(200, 900, 150):
        close.iloc[start : start + 12, :3] = np.nan
    found = measure_coverage(table(close))
    first = found.findings[0]
    assert first.code == "few_rows_kept"
    # N03 alone keeps its 648 of the 648 + 3 * (900 - 60 - 252) rows after the first years.
    assert found.share_kept == pytest.approx(648 / 2412)
    assert "only 27% have all features, fewer than 65%: N00 (0%), N01 (0%), N02 (0%)" in first.words
    assert "fill in the closes that are missing, or leave these names out" in first.words
    assert "names_without_rows" in codes(found)


def test_a_repeated_row_counts_once_and_is_told(tmp_path: Path) -> None:
    close = random_walks(2, pd.bdate_range("2015-01-01", periods=300), seed=1)
    path = write_prices(close, tmp_path / "prices.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[5], lines[5]]) + "\n")
    found = measure_coverage(read_prices(path))
    assert (found.lost["repeated"], found.n_rows) == (2, 602)
    assert codes(found) == ["repeated"]


@pytest.mark.parametrize(
    ("close", "words"),
    [
        (random_walks(2, pd.bdate_range("2015-01-01", periods=200), seed=1), r"the most are N00's 200; give a longer"),
        (random_walks(2, pd.bdate_range("2015-01-01", periods=400), seed=1) * np.nan, "no row has a price above 0"),
        (random_walks(1, pd.date_range("2000-01-31", periods=300, freq="ME"), seed=1).resample("D").asfreq(), "'s 1; "),
    ],
    ids=["too short", "no price", "monthly beside daily"],
)
def test_prices_that_give_no_row_are_refused_with_what_is_missing(close: pd.DataFrame, words: str) -> None:
    with pytest.raises(InsufficientData, match=words):
        measure_coverage(table(close))


def test_a_gap_is_told_with_its_dates() -> None:
    close = random_walks(1, pd.bdate_range("2015-01-01", periods=700), seed=1)
    close.iloc[300:320, 0] = np.nan
    (gap,) = measure_coverage(table(close)).names[0].restarts
    assert (gap.last_before, gap.first_after, gap.n_dates) == (date(2016, 2, 24), date(2016, 3, 24), 20)
