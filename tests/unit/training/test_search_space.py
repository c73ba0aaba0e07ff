"""What a search may choose from, and what is refused of it."""

from __future__ import annotations

from typing import Any

import pytest

from mlops.domain.training.parameters import dimensions, search_fault


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([8, 3], "goes down"),
        ([0.0, 1.0, "log"], "no logarithm at 0"),
        ([-1, 1, "log"], "no logarithm"),
        ([float("nan"), 1.0], "not finite"),
        ([0.1, float("inf")], "not finite"),
        ([], "holds no value"),
        ([0.1, "log"], "is no range"),
        (["a", "a"], "twice"),
    ],
)
def test_values_that_mean_nothing_are_named_with_their_place(values: list[Any], words: str) -> None:
    fault = search_fault("max_depth", values)
    assert fault is not None
    assert fault.startswith("training.search.max_depth = ")
    assert words in fault


@pytest.mark.parametrize("values", [[3, 8], [3, 3], [0.1, 1.0, "log"], [1, 2, 5], ["a"], [True, False], ["a", "b"]])
def test_ranges_and_choices_are_taken(values: list[Any]) -> None:
    assert search_fault("max_depth", values) is None


def test_two_whole_numbers_are_a_range_of_whole_numbers_and_three_are_choices() -> None:
    depth, rate, rounds = dimensions({"rounds": [10, 20, 50], "depth": [3, 8], "rate": [0.01, 1, "log"]})
    assert (depth.name, depth.is_integer, depth.low, depth.high) == ("depth", True, 3, 8)
    assert (rate.name, rate.is_integer, rate.is_log) == ("rate", False, True)
    assert rounds.choices == (10, 20, 50)


def test_a_value_is_held_by_its_kind_and_place() -> None:
    depth, grow, rate = dimensions({"depth": [3, 8], "rate": [0.1, 1.0], "grow": ["a", "b"]})
    assert depth.holds(3)
    assert not depth.holds(9)
    assert not depth.holds(3.5)
    assert not depth.holds(True)
    assert not depth.holds(None)
    assert rate.holds(1)
    assert not rate.holds("0.5")
    assert grow.holds("b")
    assert not grow.holds(1)
