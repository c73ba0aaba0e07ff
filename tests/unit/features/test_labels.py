from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.errors import InvalidStrategyFile, MissingColumn
from mlops.domain.labels import impossible, parse_label

TABLE = pa.table(
    {
        "target_return": [0.1, 0.0, -0.1, None, float("nan"), float("inf")],
        "volatility_20d": [0.2, 0.0, -0.2, 0.1, 0.1, None],
        "ticker": ["A", "B", "C", "D", "E", "F"],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target_return > 0", [1, 0, 0, 0, 0, 0]),
        ("target_return >= 0", [1, 1, 0, 0, 0, 0]),
        ("target_return < 0", [0, 0, 1, 0, 0, 0]),
        ("target_return <= 0", [0, 1, 1, 0, 0, 0]),
        ("target_return == 0", [0, 1, 0, 0, 0, 0]),
        ("target_return != 0", [1, 0, 1, 0, 0, 0]),
        ("target_return>-1e-1", [1, 1, 0, 0, 0, 0]),
        ("  target_return   >   .05  ", [1, 0, 0, 0, 0, 0]),
        ("target_return > +5.e-2", [1, 0, 0, 0, 0, 0]),
    ],
)
def test_each_operator_compares_as_written(text: str, expected: list[int]) -> None:
    y, known = parse_label(text).evaluate(TABLE)
    assert y.tolist() == expected
    assert known.tolist() == [True, True, True, False, False, False]


def test_a_label_may_compare_two_columns() -> None:
    label = parse_label("target_return > volatility_20d")
    y, known = label.evaluate(TABLE)
    assert label.columns == ("target_return", "volatility_20d")
    assert y.tolist() == [0, 0, 1, 0, 0, 0]
    # Unknown where either side is: the future that is not there yet is no "no".
    assert known.tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('"target_return.5d"', "target_return.5d"),
        ('"target return (5 d) > 0"', "target return (5 d) > 0"),
        ('"target_return ""net"""', 'target_return "net"'),
        ('"target_return"', "target_return"),
        ('"rendement_\u00e9t\u00e9"', "rendement_\u00e9t\u00e9"),
    ],
)
def test_a_column_of_any_name_can_be_a_label(written: str, name: str) -> None:
    table = pa.table({name: [0.1, -0.1], "7": [0.2, -0.2]})
    for text, columns, expected in (
        (f"{written} > 0", (name,), [1, 0]),
        (f'{written}<="7"', (name, "7"), [1, 0]),
        (f'"7" >= {written}', ("7", name), [1, 0]),
    ):
        label = parse_label(text)
        assert label.columns == columns
        assert label.evaluate(table)[0].tolist() == expected


def test_an_unknown_label_is_zero_for_every_operator_and_marked() -> None:
    for op in (">", ">=", "<", "<=", "==", "!="):
        y, known = parse_label(f"target_return {op} 0").evaluate(TABLE)
        assert (y[~known] == 0).all()
        assert known.sum() == 3


def test_an_infinite_return_is_no_gain() -> None:
    y, known = parse_label("target_return > 0").evaluate(pa.table({"target_return": [float("inf"), -float("inf")]}))
    assert (y.tolist(), known.tolist()) == ([0, 0], [False, False])


@pytest.mark.parametrize(("column", "n"), [("target_return", 3), ("target_return_5d", 3), ("target_volatility", 1)])
def test_nothing_loses_more_than_all_nor_gains_a_thousand_percent(column: str, n: int) -> None:
    values = np.array([-1.0, -1.01, 10.0, 10.1, np.inf, np.nan])
    assert impossible(column, values, bounds=(-1.0, 10.0)).sum() == n


def test_labels_of_no_rows_are_no_labels() -> None:
    y, known = parse_label("target_return > 0").evaluate(TABLE.slice(0, 0))
    assert (y.dtype, y.shape, known.dtype, known.shape) == (np.int8, (0,), np.bool_, (0,))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "target_return",
        "target_return > ",
        "> 0",
        "target_return => 0",
        "target_return = 0",
        "target_return > 0 and volatility_20d > 0",
        "0 < target_return",
        "target return > 0",
        "target_return > 1e",
        "target_return > 0x10",
        "target_return > 1_000",
        "target_return > abs(volatility_20d)",
        "__import__('os').system('true') > 0",
        "target_return > 0; DROP TABLE ml_training_features",
        "target_return > 0\n0",
        "tärget > 0",
    ],
)
def test_what_is_no_label_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidStrategyFile, match="for example 'target_return > 0'"):
        parse_label(text)


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingColumn, match="'target_drawdown'"):
        parse_label("target_drawdown > 0").evaluate(TABLE)


def test_a_column_without_numbers_is_refused() -> None:
    with pytest.raises(MissingColumn, match="'ticker'"):
        parse_label("ticker > 0").evaluate(TABLE)


def test_dates_are_no_numbers_and_truth_values_are() -> None:
    table = pa.table({"date": pa.array([18_000], pa.date32()), "up": [True]})
    with pytest.raises(MissingColumn, match="needs numbers in column 'date'; found date32"):
        parse_label("date > 0").evaluate(table)
    assert parse_label("up == 1").evaluate(table)[0].tolist() == [1]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_written_number_is_the_number(number: float) -> None:
    assert parse_label(f"target_return > {number!r}").operand == number


@given(st.text(max_size=40))
def test_any_text_is_a_label_or_refused(text: str) -> None:
    try:
        label = parse_label(text)
    except InvalidStrategyFile:
        return
    assert label.column.isidentifier()
