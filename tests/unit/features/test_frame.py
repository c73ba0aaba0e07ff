from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.errors import MissingColumn, UnusableFeatures
from mlops.domain.frame import column_roles, feature_frame, left_out, select_features
from mlops.domain.policies import KEY_COLUMNS, DataPolicy
from mlops.domain.ports import Column

VIEW = (
    Column(name="ticker", kind="category"),
    Column(name="date", kind="date"),
    Column(name="strategy", kind="category"),
    Column(name="pe", kind="number"),
    Column(name="sector", kind="category"),
    Column(name="momentum", kind="number"),
    Column(name="tags", kind="other"),
    Column(name="target_return", kind="number"),
    Column(name="target_volatility_20d", kind="number"),
)


def test_features_are_the_numbers_that_are_no_key_and_no_target() -> None:
    assert select_features(VIEW, DataPolicy()) == ("pe", "momentum")


def test_a_number_that_is_a_key_is_no_feature() -> None:
    assert select_features((Column(name="ticker", kind="number"), *VIEW[1:]), DataPolicy()) == ("pe", "momentum")


def test_included_columns_are_the_features_in_their_order() -> None:
    assert select_features(VIEW, DataPolicy(include=("sector", "pe"))) == ("sector", "pe")


def test_excluded_columns_are_none() -> None:
    assert select_features(VIEW, DataPolicy(exclude=("pe",))) == ("momentum",)


def test_an_included_column_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingColumn, match="pe_ratio"):
        select_features(VIEW, DataPolicy(include=("pe", "pe_ratio")))


@pytest.mark.parametrize("name", ["target_return", "target_volatility_20d", "ticker", "date", "strategy"])
def test_a_key_or_a_target_cannot_be_included(name: str) -> None:
    with pytest.raises(UnusableFeatures, match=name):
        select_features(VIEW, DataPolicy(include=("pe", name)))


@pytest.mark.parametrize(("name", "kind"), [("listed_on", "date"), ("tags", "other")])
def test_what_is_neither_number_nor_text_cannot_be_included(name: str, kind: str) -> None:
    view = (*VIEW, Column(name="listed_on", kind="date"))
    with pytest.raises(UnusableFeatures, match=rf"{name} \({kind}\) cannot be a feature"):
        select_features(view, DataPolicy(include=(name,)))


def test_a_column_that_is_included_twice_is_one_feature() -> None:
    assert select_features(VIEW, DataPolicy(include=("pe", "sector", "pe"))) == ("pe", "sector")


def test_every_column_has_one_role_with_the_reason_why_it_is_left_out() -> None:
    view = (*VIEW, Column(name="Unnamed: 0", kind="number"), Column(name="year", kind="category", left_out="a folder"))
    roles = column_roles(view, DataPolicy(exclude=("momentum",)))
    assert [(role.name, role.role, role.reason) for role in roles] == [
        ("ticker", "key", None),
        ("date", "key", None),
        ("strategy", "key", None),
        ("pe", "feature", None),
        ("sector", "left out", "text; a check compares it where data.include names it"),
        ("momentum", "left out", "the policy's data.exclude names it"),
        ("tags", "left out", "neither number nor text"),
        ("target_return", "target", None),
        ("target_volatility_20d", "target", None),
        ("Unnamed: 0", "left out", "the row number that pandas wrote"),
        ("year", "left out", "a folder"),
    ]
    assert left_out(roles) == (
        "left out: sector (text; a check compares it where data.include names it), tags (neither number nor text), "
        "Unnamed: 0 (the row number that pandas wrote), year (a folder)"
    )


def test_what_the_policy_leaves_out_is_no_news() -> None:
    assert left_out(column_roles(VIEW, DataPolicy(include=("pe",)))) is None


def test_a_column_that_the_store_advises_against_is_a_feature_where_the_policy_names_it() -> None:
    view = (*VIEW, Column(name="year", kind="category", left_out="a folder"))
    assert select_features(view, DataPolicy(include=("year", "pe"))) == ("year", "pe")


NAMES = st.lists(st.sampled_from([column.name for column in VIEW])).map(tuple)


@given(NAMES, NAMES)
def test_no_policy_makes_a_feature_of_what_looks_ahead(include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
    try:
        chosen = select_features(VIEW, DataPolicy(include=include, exclude=exclude))
    except UnusableFeatures:
        return
    assert chosen
    assert not [name for name in chosen if name.startswith("target_") or name in KEY_COLUMNS or name in exclude]


def test_a_view_without_features_is_refused() -> None:
    with pytest.raises(UnusableFeatures, match="no numeric feature column"):
        select_features(VIEW, DataPolicy(exclude=("pe", "momentum")))


def _table() -> pa.Table:
    return pa.table(
        {
            "ticker": ["A", "B", "A"],
            "date": pa.array([date(2020, 1, 1), date(2020, 1, 1), date(2020, 1, 2)]),
            "pe": pa.chunked_array([[1.0, None], [float("inf")]]),
            "sector": ["x", None, "y"],
        }
    )


def test_a_null_is_nan_and_chunks_are_one_contiguous_array() -> None:
    frame = feature_frame(_table(), ["pe", "sector"])
    assert frame.n_rows == 3
    np.testing.assert_array_equal(frame.numbers["pe"], [1.0, np.nan, np.inf])
    assert frame.numbers["pe"].flags.c_contiguous
    assert frame.numbers["pe"].dtype == np.float64
    assert frame.categories["sector"].tolist() == ["x", None, "y"]


def test_every_row_is_kept_and_a_repeated_ticker_and_date_is_counted() -> None:
    table = pa.concat_tables([_table(), _table().slice(0, 2)]).sort_by([("date", "ascending"), ("ticker", "ascending")])
    frame = feature_frame(table, ["pe"])
    assert frame.n_rows == 5
    assert frame.n_duplicate_rows == 2


def test_a_row_without_ticker_repeats_another_without_one_and_no_other() -> None:
    days = pa.array([date(2020, 1, 1)] * 4 + [date(2020, 1, 2)])
    table = pa.table({"ticker": ["A", "B", None, None, None], "date": days, "pe": [1.0, 2.0, 3.0, 4.0, 5.0]})
    assert feature_frame(table, ["pe"]).n_duplicate_rows == 1


def test_a_column_is_one_array_wherever_the_batches_end() -> None:
    table = pa.concat_tables([_table(), _table()])
    frame = feature_frame(table, ["pe"])
    assert list(frame.numbers) == ["pe"]
    np.testing.assert_array_equal(frame.numbers["pe"], [1.0, np.nan, np.inf] * 2)
    assert frame.numbers["pe"].flags.c_contiguous


def test_a_column_that_is_no_feature_is_not_in_the_frame() -> None:
    frame = feature_frame(_table(), ["sector"])
    assert "pe" not in frame.numbers
    with pytest.raises(KeyError):
        frame.numbers["pe"]


def test_a_table_without_rows_is_a_frame_without_rows() -> None:
    frame = feature_frame(_table().slice(0, 0), ["pe", "sector"])
    assert (frame.n_rows, frame.n_duplicate_rows, len(frame.numbers["pe"]), len(frame.categories["sector"])) == (
        0,
        0,
        0,
        0,
    )


def test_a_feature_that_the_rows_lack_is_named() -> None:
    with pytest.raises(MissingColumn, match="eps"):
        feature_frame(_table(), ["pe", "eps"])
