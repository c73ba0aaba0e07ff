"""Which version answers a key."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from config.settings import ROOT
from mlops.domain.experiments.assignment import Assignment, key_of, position

KEYS = [f"client-{number}" for number in range(20_000)]


def of_challenger(assignment: Assignment) -> np.ndarray:
    return np.array([assignment.is_challengers(key) for key in KEYS])


def test_the_share_of_keys_is_the_share() -> None:
    for share in (0.01, 0.05, 0.25, 0.5):
        found = of_challenger(Assignment(salt="growth/7", share=share)).mean()
        # Three standard errors of a share of 20,000 independent keys.
        assert abs(found - share) < 3 * np.sqrt(share * (1 - share) / len(KEYS))
    assert not of_challenger(Assignment(salt="growth/7", share=0.0)).any()
    assert of_challenger(Assignment(salt="growth/7", share=1.0)).all()


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.05), (0.05, 0.25), (0.25, 1.0)])
def test_a_change_of_the_share_moves_the_fewest_keys(low: float, high: float) -> None:
    before, after = (Assignment(salt="growth/7", share=share) for share in (low, high))
    had, has = of_challenger(before), of_challenger(after)
    assert np.count_nonzero(had != has) == has.sum() - had.sum()
    assert (has | ~had).all(), "nobody who had the challenger loses it while its share grows"


def test_a_named_key_has_the_challenger_whatever_the_share() -> None:
    assignment = Assignment(salt="growth/7", share=0.0, keys=frozenset({"AAPL"}))
    assert assignment.is_challengers("AAPL")
    assert not assignment.is_challengers("MSFT")
    assert assignment.reason("AAPL") == "AAPL is among the 1 keys that were named for the challenger"


def test_any_text_is_a_key_and_an_empty_one_is_none() -> None:
    half = "client \udcff"  # as a command line gives bytes that are no UTF-8
    assert (
        position(half, salt="growth/7")
        == position(key_of(half), salt="growth/7")
        == position("client ?", salt="growth/7")
    )
    assert position("Zürich", salt="growth/7") != position("Zurich", salt="growth/7")
    everybody = Assignment(salt="growth/7", share=1.0)
    assert not everybody.is_challengers("")
    assert everybody.reason("") == "without a key the champion answers"


def test_another_salt_draws_other_keys() -> None:
    first, second = (of_challenger(Assignment(salt=salt, share=0.5)) for salt in ("growth/7", "growth/8"))
    assert abs(np.mean(first == second) - 0.5) < 0.02
    assert position("bc", salt="a") != position("c", salt="ab")


def test_another_process_gives_the_same_positions() -> None:
    code = "from mlops.domain.experiments.assignment import position; print(repr(position('AAPL', salt='growth/7')))"
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert float(other.stdout) == position("AAPL", salt="growth/7")
    # Whoever changes the hash gives running experiments other keys.
    assert position("AAPL", salt="growth/7") == 0.01714469538589547


def test_the_reason_says_where_a_key_lies() -> None:
    assignment = Assignment(salt="growth/7", share=0.5)
    for key in KEYS[:20]:
        who = "challenger" if assignment.is_challengers(key) else "champion"
        assert assignment.reason(key).endswith(f"the {who} answers")


def test_a_share_beyond_all_keys_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Assignment(salt="growth/7", share=1.5)
