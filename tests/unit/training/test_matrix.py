from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlops.domain.errors import ConfigurationError
from mlops.domain.training.fingerprint import data_fingerprint
from mlops.domain.training.matrix import BLOCK_ROWS, FeatureMatrix, SelectedRows, row_blocks

IN_MEMORY, IN_A_FILE = 2**20, 0


def filled(x: np.ndarray, *, cuts: list[int], in_memory_bytes: int, folder: Path | None = None) -> FeatureMatrix:
    matrix = FeatureMatrix(x.shape[1], in_memory_bytes=in_memory_bytes, folder=folder)
    for part in np.split(x, cuts):
        matrix.append(part)
    return matrix


@settings(deadline=None, max_examples=40)
@given(
    x=hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 4)), elements=st.floats(-9, 9, width=32)),
    data=st.data(),
    in_memory_bytes=st.sampled_from([IN_MEMORY, IN_A_FILE, 200]),
)
def test_rows_come_back_as_they_were_put_however_they_were_cut(
    x: np.ndarray, data: st.DataObject, in_memory_bytes: int
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=4)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(x), max_size=len(x))), dtype=bool)
    matrix = filled(x, cuts=cuts, in_memory_bytes=in_memory_bytes)
    assert matrix.shape == x.shape
    np.testing.assert_array_equal(np.asarray(matrix), x)
    np.testing.assert_array_equal(matrix[mask], x[mask])
    np.testing.assert_array_equal(matrix[1:3], x[1:3])
    np.testing.assert_array_equal(np.asarray(matrix.where(mask)), x[mask])
    blocks = list(row_blocks(matrix.where(mask)))
    np.testing.assert_array_equal(np.concatenate(blocks) if blocks else x[:0], x[mask])
    assert all(len(block) for block in blocks)


def test_a_matrix_above_its_limit_is_in_a_file_and_read_in_blocks() -> None:
    x = np.arange(2.5 * BLOCK_ROWS, dtype=np.float32).reshape(-1, 1)
    matrix = filled(x, cuts=[], in_memory_bytes=x.nbytes - 1)
    assert not matrix.is_in_memory
    assert [len(block) for block in matrix.blocks()] == [BLOCK_ROWS, BLOCK_ROWS, BLOCK_ROWS // 2]
    assert isinstance(matrix.where(x[:, 0] > 5), SelectedRows)
    assert filled(x, cuts=[], in_memory_bytes=x.nbytes).is_in_memory


def test_infinities_become_missing_values_and_the_callers_rows_stay() -> None:
    x = np.array([[1.0, np.inf], [-np.inf, np.nan]], dtype=np.float32)
    found = filled(x, cuts=[1], in_memory_bytes=IN_A_FILE)[:]
    np.testing.assert_array_equal(found, np.array([[1.0, np.nan], [np.nan, np.nan]], dtype=np.float32))
    assert np.isinf(x).sum() == 2


@pytest.mark.parametrize("in_memory_bytes", [IN_MEMORY, IN_A_FILE])
def test_the_fingerprint_is_that_of_the_array(in_memory_bytes: int) -> None:
    x = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)
    y, dates = (x[:, 0] > 0).astype(np.int8), np.arange(100).astype("datetime64[D]")
    keep = x[:, 1] > 0
    rows = filled(x, cuts=[7, 50], in_memory_bytes=in_memory_bytes).where(keep)
    names = ("a", "b", "c")
    expected = data_fingerprint(x[keep], y[keep], dates[keep], features=names)
    assert data_fingerprint(rows, y[keep], dates[keep], features=names) == expected


def test_the_file_has_no_name_and_goes_with_the_matrix(tmp_path: Path) -> None:
    matrix = filled(np.ones((4, 2), dtype=np.float32), cuts=[], in_memory_bytes=IN_A_FILE, folder=tmp_path)
    assert not matrix.is_in_memory
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_where_and_what_to_do(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(ConfigurationError, match="free space, or set TMPDIR") as caught:
            filled(np.ones((1_000, 2), dtype=np.float32), cuts=[], in_memory_bytes=IN_A_FILE, folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path) in str(caught.value)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of 2 features"):
        FeatureMatrix(2).append(np.ones((1, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="a mask of 0 rows"):
        SelectedRows(FeatureMatrix(2), np.ones(3, dtype=bool))
