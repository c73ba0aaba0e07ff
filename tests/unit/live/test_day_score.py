"""A day's score: what it counts, beside scikit-learn, and its cells."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from mlops.domain.live.day_score import N_CELLS, DayScore, score_day

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


def test_no_cell_lies_on_both_sides_of_the_threshold() -> None:
    p = np.random.default_rng(1).normal(0.5, 0.01, size=5_000)
    score = score_day(p, np.ones(5_000, dtype=np.int8), np.ones(5_000, dtype=bool))
    assert sum(cell.n for cell in score.cells if cell.probability / cell.n >= 0.5) == np.count_nonzero(p >= 0.5)
    assert score.n_hits == np.count_nonzero(p >= 0.5)


def test_a_day_of_few_names_is_kept_row_by_row_however_near_its_probabilities_are() -> None:
    p = 0.5 + 1e-6 * np.arange(N_CELLS)
    score = score_day(p, np.zeros(N_CELLS, dtype=np.int8), np.ones(N_CELLS, dtype=bool))
    assert [cell.probability for cell in score.cells] == p.tolist()


@pytest.mark.parametrize("spread", [0.0005, 0.002, 0.2])
def test_a_day_of_ten_thousand_names_is_a_few_kilobytes(spread: float) -> None:
    rng = np.random.default_rng(2)
    p = np.clip(rng.normal(0.5, spread, size=10_000), 0, 1)
    score = score_day(p, rng.integers(0, 2, size=10_000).astype(np.int8), np.ones(10_000, dtype=bool))
    assert N_CELLS <= len(score.cells) <= N_CELLS + 1
    assert len(json.dumps(score.to_json())) < 5_000


def test_ten_thousand_rows_in_any_order_give_the_same_document() -> None:
    rng = np.random.default_rng(3)
    n = 10_000
    p = np.round(rng.uniform(size=n), 3)  # with ties
    y, known = rng.integers(0, 2, size=n).astype(np.int8), rng.uniform(size=n) < 0.7
    returns = np.where(rng.uniform(size=n) < 0.1, np.nan, rng.normal(0, 0.02, size=n))
    documents = set()
    for _ in range(20):
        order = rng.permutation(n)
        score = score_day(p[order], y[order], known[order], returns[order], is_long=True)
        documents.add(json.dumps(score.to_json(), sort_keys=True))
    assert len(documents) == 1


def test_a_score_with_cells_of_a_fixed_grid_is_read_and_another_form_is_refused_in_words() -> None:
    score = score_day(np.array([0.2, 0.9]), np.array([0, 1], dtype=np.int8), np.ones(2, dtype=bool))
    document = score.to_json()
    placed = [[int(128 * cell.probability), *cell] for cell in score.cells]
    assert DayScore.from_json({**document, "cells": placed}) == DayScore.from_json(document)
    with pytest.raises(ValueError, match="has 5 numbers; this one is of another release"):
        DayScore.from_json({**document, "cells": [[1, 2]]})


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
    assert ours.to_json() == theirs.to_json()
    assert [getattr(ours, name) for name in _COUNTS] == [getattr(theirs, name) for name in _COUNTS]
    assert [getattr(ours, name) for name in _SUMS] == pytest.approx([getattr(theirs, name) for name in _SUMS])
