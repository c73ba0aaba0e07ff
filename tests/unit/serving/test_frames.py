"""Rows of a caller: columns by name, each a number, or an error that names them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlops.domain.errors import InvalidRows
from mlops.serving.frames import RowReader
from tests.support.serving import FEATURES, frame, rows

FRAME = frame(20)
TABLE = pa.Table.from_pandas(FRAME, preserve_index=False)


@pytest.fixture
def reader() -> RowReader:
    return RowReader(FEATURES, model="growth version 3")


@pytest.mark.parametrize(
    "given",
    [
        FRAME,
        FRAME.astype(np.float64),
        FRAME[list(reversed(FEATURES))],
        FRAME.assign(ticker="AAPL", date=pd.Timestamp("2020-01-01"), strategy="growth", target_return=0.1),
        FRAME.astype("Float64"),
        FRAME.astype(object),
        FRAME.set_index(pd.Index(range(100, 120))),
        TABLE,
        TABLE.select(list(reversed(FEATURES))),
        TABLE.append_column("ticker", pa.array(["AAPL"] * 20)),
        TABLE.to_batches()[0],
        rows(20),
        np.asfortranarray(rows(20).astype(np.float64)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_the_same_rows_are_read_from_every_form(reader: RowReader, given: Any) -> None:
    np.testing.assert_array_equal(reader.rows(given), rows(20))
    np.testing.assert_array_equal(reader.rows(given), rows(20))  # the layout is known now


def test_a_layout_that_was_seen_says_nothing_of_another(reader: RowReader) -> None:
    reader.rows(FRAME)
    swapped = FRAME.rename(columns={"feature_0": "feature_1", "feature_1": "feature_0"})
    np.testing.assert_array_equal(reader.rows(swapped)[:, [1, 0]], rows(20)[:, :2])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (FRAME.drop(columns=["feature_1", "feature_3"]), "columns feature_1, feature_3 are missing"),
        (FRAME.assign(sector=1.0), "column sector is not among its features"),
        (FRAME.rename(columns={"feature_2": "featur_2"}), "feature_2 is missing; column featur_2 is not among"),
        (FRAME.assign(feature_2="1.5"), "column feature_2 (str) is no number"),
        (FRAME.assign(feature_2=pd.Timestamp("2020-01-01")), "feature_2 (datetime64"),
        (FRAME.assign(feature_2=[{}] * 20), "feature_2 (mixed) is no number"),
        (FRAME.assign(feature_2=1j), "feature_2 (complex128) is no number"),
        (pd.concat([FRAME, FRAME[["feature_0"]]], axis=1), "column feature_0 is there more than once"),
        (TABLE.drop_columns(["feature_1"]), "column feature_1 is missing"),
        (TABLE.append_column("sector", pa.array([1.0] * 20)), "column sector is not among"),
        (TABLE.set_column(2, "feature_2", pa.array(["x"] * 20)), "column feature_2 (string) is no number"),
        (rows(20)[:, :4], "shape (rows, 6), one column for each feature in the model's order, found (20, 4)"),
        (rows(20)[0], "found (6,)"),
        (rows(20).astype(str), "holds numbers, found dtype <U"),
        ([[1.0] * 6], "a pandas frame, an Arrow table or a numpy array, found list"),
    ],
)
def test_what_does_not_fit_is_named(reader: RowReader, given: Any, words: str) -> None:
    with pytest.raises(InvalidRows, match=r"growth version 3") as refused:
        reader.rows(given)
    assert words in str(refused.value)


def test_a_long_list_of_names_is_cut(reader: RowReader) -> None:
    many = FRAME.assign(**{f"other_{number}": 0.0 for number in range(25)})
    with pytest.raises(InvalidRows, match=r"other_9 and 15 more are not among its features$"):
        reader.rows(many)


def test_numbers_of_other_kinds_are_numbers(reader: RowReader) -> None:
    given = FRAME.head(2).assign(feature_0=[True, False], feature_1=[1, 2], feature_2=[Decimal("1.5"), None])
    np.testing.assert_array_equal(reader.rows(given)[:, :3], np.float32([[1, 1, 1.5], [0, 2, np.nan]]))
    arrow = pa.table(given).set_column(3, "feature_3", pa.nulls(2))
    np.testing.assert_array_equal(reader.rows(arrow)[:, :4], np.float32([[1, 1, 1.5, np.nan], [0, 2, np.nan, np.nan]]))


@pytest.mark.parametrize("given", [FRAME.head(0), TABLE.slice(0, 0), rows(0)], ids=["pandas", "arrow", "numpy"])
def test_no_rows_are_none(reader: RowReader, given: Any) -> None:
    assert reader.rows(given).shape == (0, 6)


@pytest.mark.parametrize("form", ["pandas", "arrow", "numpy"])
def test_infinities_are_missing_in_every_form(reader: RowReader, form: str) -> None:
    infinite = FRAME.astype(np.float64).assign(feature_0=np.inf, feature_1=-np.inf, feature_2=1e39)
    given = {"pandas": infinite, "arrow": pa.table(infinite), "numpy": infinite.to_numpy()}[form]
    assert np.isnan(reader.rows(given)[:, :3]).all()


def test_a_row_s_values_come_in_the_model_s_order(reader: RowReader) -> None:
    values = {name: float(place) for place, name in enumerate(FEATURES)}
    assert reader.values(dict(reversed(values.items()))) == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert reader.values({**values, "ticker": "AAPL", "target_return": 0.1}) == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    with pytest.raises(InvalidRows, match="column feature_3 is missing"):
        reader.values({name: value for name, value in values.items() if name != "feature_3"})
    with pytest.raises(InvalidRows, match="column sector is not among its features"):
        reader.values({**values, "sector": 1.0})


def test_a_model_of_one_feature_is_read_too() -> None:
    one = RowReader(("only",), model="growth version 3")
    assert one.values({"only": 1.0}) == (1.0,)
    assert one.rows(pd.DataFrame({"only": [1.0, 2.0]})).tolist() == [[1.0], [2.0]]
