"""A matrix of features that is filled block by block, and that need not stand in memory as a whole.

Pure; filled by whoever reads the rows, read by the trainer, the fingerprint and the evaluation. Small ones
stay in memory. A larger one goes to a temporary file without a name, written and read in blocks: XGBoost looks
at the rows several times over, and keeps its own binned copy, beside which the matrix would be the larger part.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops.domain.errors import ConfigurationError
from mlops.domain.live.rows import prepare_rows

if TYPE_CHECKING:
    from pathlib import Path

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

BLOCK_ROWS = 16_384
"""Rows of a block: 3 MB at 45 features. XGBoost's quantile sketch of 65,536 rows at a time costs 20 MB more."""
_IN_MEMORY_BYTES = 32 * 2**20
"""A matrix up to this size stays in memory; 180,000 rows of 45 features."""

_IN_MEMORY = -1
"""In place of a file descriptor."""


class FeatureMatrix:
    """(n, f) float32 rows. `matrix[mask]` and `matrix[slice]` are arrays; `np.asarray(matrix)` is all of it."""

    def __init__(self, n_features: int, *, in_memory_bytes: int = _IN_MEMORY_BYTES, folder: Path | None = None) -> None:
        """folder: of the temporary file; None: the system's, which TMPDIR moves."""
        self._n_features = n_features
        self._in_memory_bytes = in_memory_bytes
        self._folder = folder
        self._n_rows = 0
        self._blocks: list[Floats] = []
        self._file = _IN_MEMORY
        self._row_bytes = n_features * np.dtype(np.float32).itemsize

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of features."""
        return self._n_rows, self._n_features

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing of it is in a file."""
        return self._file == _IN_MEMORY

    def __len__(self) -> int:
        return self._n_rows

    def append(self, rows: Floats) -> None:
        """Add (m, f) rows at the end; infinities become nan. Raises ConfigurationError where the disk is full."""
        if rows.ndim != 2 or rows.shape[1] != self._n_features:
            message = f"rows of {self._n_features} features were asked for, found shape {rows.shape}"
            raise ValueError(message)
        block = prepare_rows(rows)
        if np.shares_memory(block, rows):  # the caller fills its own again
            block = block.copy()
        if self._file == _IN_MEMORY and (self._n_rows + len(block)) * self._row_bytes > self._in_memory_bytes:
            self._spill()
        if self._file == _IN_MEMORY:
            self._blocks.append(block)
        else:
            self._write(block)
        self._n_rows += len(block)

    def blocks(self) -> Iterator[Floats]:
        """The rows in order, so many at a time that a block is small; not to be written to."""
        if self._file == _IN_MEMORY:
            yield from self._blocks
            return
        for start in range(0, self._n_rows, BLOCK_ROWS):
            yield self._read(start, min(start + BLOCK_ROWS, self._n_rows))

    def where(self, mask: Mask) -> Floats | SelectedRows:
        """The rows of a mask: an array where the matrix is in memory, else read block by block."""
        return self[mask] if self.is_in_memory else SelectedRows(self, mask)

    def __getitem__(self, rows: Mask | slice) -> Floats:
        if isinstance(rows, slice):
            mask = np.zeros(self._n_rows, dtype=bool)
            mask[rows] = True
            rows = mask
        found = np.empty((int(np.count_nonzero(rows)), self._n_features), dtype=np.float32)
        place = 0
        for part in SelectedRows(self, rows).blocks():
            found[place : place + len(part)] = part
            place += len(part)
        return found

    def __array__(
        self,
        dtype: npt.DTypeLike | None = None,
        copy: bool | None = None,  # noqa: FBT001 -- numpy's signature
    ) -> npt.NDArray[np.floating]:
        return np.asarray(self[:], dtype=dtype)

    # -- the file

    def _spill(self) -> None:
        file = tempfile.TemporaryFile(prefix="acis-rows-", dir=self._folder)  # noqa: SIM115 -- closed with the matrix
        weakref.finalize(self, file.close)
        self._file = file.fileno()
        blocks, self._blocks = self._blocks, []
        for block in blocks:
            self._write(block)

    def _write(self, block: Floats) -> None:
        left = memoryview(block.tobytes())
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as exc:
            place = self._folder or tempfile.gettempdir()
            message = f"{self._n_rows:,} rows cannot be kept in {place}: {exc.strerror}; free space, or set TMPDIR"
            raise ConfigurationError(message) from exc

    def _read(self, start: int, stop: int) -> Floats:
        asked = (stop - start) * self._row_bytes
        content = os.pread(self._file, asked, start * self._row_bytes)
        while len(content) < asked:  # a read may end before it is complete
            content += os.pread(self._file, asked - len(content), start * self._row_bytes + len(content))
        return np.frombuffer(content, dtype=np.float32).reshape(-1, self._n_features)


class SelectedRows:
    """The rows of a mask, read block by block."""

    def __init__(self, matrix: FeatureMatrix, mask: Mask) -> None:
        if mask.shape != (len(matrix),):
            message = f"a mask of {len(matrix)} rows was asked for, found shape {mask.shape}"
            raise ValueError(message)
        self._matrix = matrix
        self._mask = mask

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of features."""
        return int(np.count_nonzero(self._mask)), self._matrix.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def blocks(self) -> Iterator[Floats]:
        """The rows in order; no block is empty."""
        place = 0
        for block in self._matrix.blocks():
            keep = self._mask[place : place + len(block)]
            place += len(block)
            if keep.all():
                yield block
            elif keep.any():
                yield block[keep]

    def __array__(
        self,
        dtype: npt.DTypeLike | None = None,
        copy: bool | None = None,  # noqa: FBT001 -- numpy's signature
    ) -> npt.NDArray[np.floating]:
        return np.asarray(self._matrix[self._mask], dtype=dtype)


Rows = Floats | FeatureMatrix | SelectedRows
"""A matrix in any of its forms; `np.asarray` makes an array of each."""


def row_blocks(rows: Rows) -> Iterator[Floats]:
    """The rows in order, a block at a time; views of an array."""
    if isinstance(rows, np.ndarray):
        for start in range(0, len(rows), BLOCK_ROWS):
            yield rows[start : start + BLOCK_ROWS]
    else:
        yield from rows.blocks()
