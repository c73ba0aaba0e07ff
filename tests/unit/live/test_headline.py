"""What a headline says of the present champion."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from mlops.domain.live.headline import decayed_on, measured_version, why_no_value, why_not_tested

DECAYED = {"version": "1", "value": 0.6, "decayed_on": "2020-03-16", "decay_tested": True}


def test_decay_is_that_of_the_version_that_was_tested() -> None:
    assert decayed_on(DECAYED, "1") == date(2020, 3, 16)
    assert decayed_on(DECAYED, "2") is None
    assert decayed_on(DECAYED, None) is None
    assert (measured_version(DECAYED, "1"), measured_version(DECAYED, "2")) == (None, "1")


@pytest.mark.parametrize(
    ("head", "champion", "reason"),
    [
        (DECAYED, "1", None),
        ({"version": "1"}, "1", None),  # of an older release
        ({}, "1", None),
        (DECAYED, "2", "v2 was not scored yet"),
        (DECAYED, None, "there is no champion"),
        ({"version": "1", "decay_tested": False, "decay_why_not": "no file"}, "1", "no file"),
        ({"version": "1", "decay_tested": False, "decay_why_not": None}, "1", "the scoring does not say why"),
    ],
)
def test_why_decay_was_not_tested(head: dict[str, Any], champion: str | None, reason: str | None) -> None:
    assert why_not_tested(head, champion) == reason


def test_outcomes_that_are_alike_are_no_missing_ones() -> None:
    assert why_no_value({"value": None, "n_labelled": 9}) == "no AUC: all outcomes are alike"
    assert why_no_value({"value": None, "n_labelled": 0}) == why_no_value({}) == "no outcomes yet"
    assert why_no_value(DECAYED) is None
