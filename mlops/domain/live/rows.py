"""What training does to a row before the model sees it, and a row's digest; pure.

Called by whoever asks a model: the router, the registry's loaded classifiers, the predict stage, the scoring. The
training's own matrix is prepared by the same function, so that a row has one probability wherever it is scored.
Shipped beside each logged model (`classifier`), so it needs numpy alone.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_DIGEST_BYTES = 16


def prepare_rows(values: npt.ArrayLike) -> Floats:
    """(n, f) float32, C-ordered: infinities, and what is too large for a float32, are nan, which is missing.

    values : (n, f) numbers, columns in the order of the model's features; not changed, and returned itself where it
    is so already. Integers go by way of float64, as the sources read them.
    """
    given = np.asarray(values)
    if given.dtype.kind in "iu":
        given = given.astype(np.float64)
    if given.dtype != np.float32:
        with np.errstate(over="ignore"):  # what overflows is infinite, so missing
            given = given.astype(np.float32)
    rows = np.ascontiguousarray(given)
    infinite = np.isinf(rows)
    return np.where(infinite, np.float32(np.nan), rows) if infinite.any() else rows


def row_digests(rows: Floats) -> list[bytes]:
    """BLAKE2b of 16 bytes for each prepared row: equal for rows that no tree of any model can tell apart.

    rows : (n, f) float32 of `prepare_rows`; every nan counts as one, -0.0 as 0.0
    """
    canonical = rows + np.float32(0)  # -0.0 + 0.0 is 0.0
    canonical[np.isnan(canonical)] = np.float32(np.nan)
    content = canonical.astype("<f4", copy=False).tobytes()
    width = 4 * rows.shape[1]
    return [
        hashlib.blake2b(content[place : place + width], digest_size=_DIGEST_BYTES).digest()
        for place in range(0, len(content), width)
    ]
