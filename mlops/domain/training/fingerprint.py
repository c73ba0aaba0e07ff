"""Digests that say whether two things are the same: a data set, and the evidence of a decision.

Pure; called by the train and promote stages and by whoever verifies a record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.domain.training.matrix import Rows, row_blocks


def data_fingerprint(
    x: Rows,
    y: npt.NDArray[np.int8],
    dates: npt.NDArray[np.datetime64],
    *,
    features: Sequence[str],
) -> str:
    """SHA-256 in hex over feature names, shape, matrix, labels and dates, in their order.

    All kinds of nan are equal, and so are the two zeros. Same value on every machine and numpy version.
    """
    header = {"features": list(features), "shape": list(x.shape), "layout": "float32 int8 day"}
    digest = hashlib.sha256(canonical_json(header).encode())
    for rows in row_blocks(x):
        block = np.array(rows, dtype="<f4", order="C")  # a copy of a block, never of the matrix
        block += np.float32(0)  # -0.0 + 0.0 is 0.0
        block[np.isnan(block)] = np.nan
        digest.update(block.data)
    digest.update(np.ascontiguousarray(y, dtype="i1").data)
    digest.update(np.ascontiguousarray(dates.astype("datetime64[D]").astype("<i8")).data)
    return digest.hexdigest()


def evidence_digest(evidence: Mapping[str, Any]) -> str:
    """SHA-256 in hex over the canonical JSON; the same before and after a JSON column has stored it."""
    return hashlib.sha256(canonical_json(evidence).encode()).hexdigest()


def canonical_json(value: Any) -> str:  # noqa: ANN401 -- any JSON value
    """Return the one text of a value: keys sorted, no spaces, whole floats as integers. Refuses nan and infinities.

    Whole floats, since a JSON column may give 1e20 back as an integer.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: ANN401 -- any JSON value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_plain(item) for item in value]
        return sorted(items, key=canonical_json) if isinstance(value, (set, frozenset)) else items
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())  # a plain number where it is a scalar
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
