"""A day's score: what it counts, beside scikit-learn, and that days and batches can be added up."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from mlops.domain.live.day_score import N_CELLS, DayScore, add_up, score_day

_ROW = st.tuples(
    st.floats(0.0, 1.0, allow_subnormal=False),
    st.integers(0, 1),
    st.booleans(),
    st.one_of(st.just(float("nan")), st.floats(-0.5, 0.5, allow_subnormal=False)),
)
_ROWS = st.lists(_ROW, min_size=1, max_size=40)
_COUNTS = (
    "n_predictions",
    "n_labelled",
    "n_positive",
    "n_hits",
    "n_priced",
    "n_marked",
    "n_held",
    "n_won",
    "n_waiting",
)
_SUMS = ("log_loss", "brier", "absolute_return", "held_return", "marked_return")


def scored(rows: list[tuple[float, int, bool, float]], *, is_long: bool = True) -> DayScore:
    p, y, known, returns = (np.array(part) for part in zip(*rows, strict=True))
    return score_day(p.astype(float), y.astype(np.int8), known.astype(bool), returns.astype(float), is_long=is_long)


def test_the_sums_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    p, y = rng.uniform(size=200), rng.integers(0, 2, size=200).astype(np.int8)
    score = score_day(p, y, np.ones(200, dtype=bool))
    assert score.n_hits / 200 == accuracy_score(y, p >= 0.5)
    assert score.log_loss / 200 == pytest.approx(log_loss(y, p))
    assert score.brier / 200 == pytest.approx(brier_score_loss(y, p))
    assert score.roc_auc == pytest.approx(roc_auc_score(y, p))


def test_what_is_not_known_is_counted_and_scored_nowhere() -> None:
    p, y = np.array([0.9, 0.1, 0.7]), np.array([1, 0, 1], dtype=np.int8)
    score = score_day(p, y, np.array([True, True, False]))
    assert (score.n_predictions, score.n_labelled, score.n_waiting, score.n_hits) == (3, 2, 1, 2)
    assert score.log_loss == pytest.approx(-2 * np.log(0.9))
    assert score.roc_auc == 1.0
    assert sum(cell.n for cell in score.cells) == 3
    assert sum(cell.n_labelled for cell in score.cells) == 2


def test_a_day_without_any_outcome_has_no_auc_and_no_loss() -> None:
    score = score_day(np.array([0.2, 0.8]), np.zeros(2, dtype=np.int8), np.zeros(2, dtype=bool))
    assert (score.roc_auc, score.log_loss, score.brier, score.n_hits) == (None, 0.0, 0.0, 0)


def test_the_signal_holds_what_is_called_positive_at_equal_weight() -> None:
    p, y = np.array([0.5, 0.9, 0.49]), np.ones(3, dtype=np.int8)
    score = score_day(p, y, np.ones(3, dtype=bool), np.array([0.02, -0.01, 0.05]), is_long=True)
    assert score.mark == pytest.approx((0.02 - 0.01) / 2)
    assert score.mark_of_all == pytest.approx(0.06 / 3)
    assert score.mean_move == pytest.approx(0.08 / 3)
    assert (score.n_held, score.n_won) == (2, 1)


def test_without_a_call_the_signal_earns_nothing_and_without_a_price_there_is_none() -> None:
    y, known = np.ones(2, dtype=np.int8), np.ones(2, dtype=bool)
    idle = score_day(np.array([0.1, 0.2]), y, known, np.array([0.01, 0.03]), is_long=True)
    assert (idle.mark, idle.mark_of_all) == (0.0, pytest.approx(0.02))
    unpriced = score_day(np.array([0.9, 0.9]), y, known, np.array([np.nan, np.nan]), is_long=True)
    assert (unpriced.mark, unpriced.mark_of_all, unpriced.mean_move) == (None, None, None)


def test_a_label_that_does_not_say_when_to_be_long_has_moves_and_no_marks() -> None:
    score = score_day(np.array([0.9]), np.ones(1, dtype=np.int8), np.ones(1, dtype=bool), np.array([-0.04]))
    assert (score.mark, score.mark_of_all, score.mean_move) == (None, None, 0.04)


def test_the_threshold_is_the_lower_end_of_a_cell() -> None:
    below = float(np.nextafter(0.5, 0.0))
    score = score_day(np.array([below, 0.5, 1.0]), np.zeros(3, dtype=np.int8), np.ones(3, dtype=bool))
    assert [cell.position for cell in score.cells] == [N_CELLS // 2 - 1, N_CELLS // 2, N_CELLS - 1]
    assert score.n_hits == 1


@given(_ROWS)
def test_a_score_survives_json(rows: list[tuple[float, int, bool, float]]) -> None:
    document = scored(rows).to_json()
    assert DayScore.from_json(json.loads(json.dumps(document))).to_json() == document


@given(_ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_is_no_part_of_a_score(
    rows: list[tuple[float, int, bool, float]], random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis' own Random
    ours, theirs = scored(rows), scored(shuffled)
    assert [getattr(ours, name) for name in _COUNTS] == [getattr(theirs, name) for name in _COUNTS]
    assert [getattr(ours, name) for name in _SUMS] == pytest.approx([getattr(theirs, name) for name in _SUMS])


@given(st.lists(_ROWS, min_size=1, max_size=4))
def test_parts_add_up_to_the_whole(parts: list[list[tuple[float, int, bool, float]]]) -> None:
    total, whole = add_up(scored(part) for part in parts), scored([row for part in parts for row in part])
    assert [getattr(total, name) for name in _COUNTS] == [getattr(whole, name) for name in _COUNTS]
    assert [getattr(total, name) for name in _SUMS] == pytest.approx([getattr(whole, name) for name in _SUMS])
    assert [cell.position for cell in total.cells] == [cell.position for cell in whole.cells]
    for ours, theirs in zip(total.cells, whole.cells, strict=True):
        assert tuple(ours) == pytest.approx(tuple(theirs))
    assert total.n_pairs <= whole.n_pairs


def test_nothing_adds_up_to_nothing() -> None:
    assert add_up([]).n_predictions == 0
