"""A row is prepared as training does, and its digest says which rows a model cannot tell apart."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlops.domain.live.classifier import XGBClassifier
from mlops.domain.live.rows import prepare_rows, row_digests
from mlops.domain.training.matrix import FeatureMatrix
from tests.support.serving import FEATURES, classifier, frame, rows


def test_infinities_and_what_is_too_large_for_a_float32_are_missing() -> None:
    found = prepare_rows([[np.inf, -np.inf, 1e39, -1e39, np.nan, 1.5]])
    np.testing.assert_array_equal(found, np.float32([[np.nan] * 5 + [1.5]]))
    assert (found.dtype, found.flags.c_contiguous) == (np.float32, True)


def test_prepared_rows_are_returned_themselves() -> None:
    x = rows(10)
    assert prepare_rows(x) is x


def test_the_callers_rows_are_not_changed() -> None:
    given_rows = np.float32([[np.inf, 1.0]])
    prepare_rows(given_rows)
    assert np.isinf(given_rows[0, 0])


@given(arrays.arrays(np.float64, (3, 4), elements=st.floats(width=64)))
def test_the_training_s_matrix_prepares_its_rows_in_the_same_way(values: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        matrix = FeatureMatrix(4)
        matrix.append(values.astype(np.float32))
    np.testing.assert_array_equal(np.asarray(matrix), prepare_rows(values))


def test_the_matrix_keeps_its_own_copy() -> None:
    block = rows(3)
    matrix, before = FeatureMatrix(len(FEATURES)), block.copy()
    matrix.append(block)
    block[:] = 0
    np.testing.assert_array_equal(np.asarray(matrix), before)


def test_a_digest_is_of_what_a_tree_can_see() -> None:
    other_nan = np.frombuffer(np.uint32([0xFFC0_0001]).tobytes(), dtype=np.float32)[0]
    a, b = row_digests(np.float32([[0.0, np.nan], [-0.0, other_nan]]))
    assert a == b
    assert len(a) == 16
    assert a.hex() == hashlib.blake2b(bytes.fromhex("000000000000c07f"), digest_size=16).hexdigest()
    assert len(set(row_digests(np.float32([[0.0, 1.0], [0.0, np.nextafter(np.float32(1), np.float32(2))]])))) == 2


def test_a_digest_of_a_row_does_not_depend_on_its_neighbours() -> None:
    x = rows(20)
    assert [row_digests(x[i : i + 1])[0] for i in range(20)] == row_digests(x)
    assert row_digests(x[:0]) == []


@pytest.mark.parametrize("kind", ["array", "frame", "list"])
def test_a_loaded_classifier_takes_an_infinity_as_training_does(kind: str) -> None:
    trained = classifier()
    loaded = XGBClassifier()
    loaded.load_model(bytearray(trained.get_booster().save_raw("ubj")))
    infinite = frame(50)
    infinite.iloc[:, 0] = np.inf
    missing = infinite.assign(feature_0=np.nan)
    asked = {"array": infinite.to_numpy(), "frame": infinite, "list": infinite.to_numpy().tolist()}[kind]
    np.testing.assert_array_equal(loaded.predict_proba(asked), trained.predict_proba(missing))
    np.testing.assert_array_equal(loaded.predict(asked), trained.predict(missing))
    np.testing.assert_array_equal(loaded.apply(infinite), trained.apply(missing))
    # what XGBoost's own class makes of it
    assert not np.array_equal(trained.predict_proba(infinite), trained.predict_proba(missing))
    assert isinstance(loaded, xgb.XGBClassifier)
