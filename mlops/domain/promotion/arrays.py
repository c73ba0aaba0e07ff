"""Arrays inside JSON, to the last bit: what each date contributed goes into a decision's evidence.

Pure; called by `mlops.domain.promotion.evidence`.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_LAYOUT = "float64 little-endian, zlib, base64"


def encoded(array: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Shape and content as text."""
    content = zlib.compress(np.ascontiguousarray(array, dtype="<f8").tobytes(), 6)
    return {"shape": list(array.shape), "layout": _LAYOUT, "content": base64.b64encode(content).decode("ascii")}


def decoded(text: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """The same array again. Raises ValueError for text that is none."""
    try:
        content = zlib.decompress(base64.b64decode(text["content"], validate=True))
        shape = tuple(int(size) for size in text["shape"])
    except (KeyError, TypeError, zlib.error) as exc:
        message = f"array cannot be read: {exc}"
        raise ValueError(message) from exc
    if len(content) != 8 * math.prod(shape):
        message = f"array of shape {shape} needs {8 * math.prod(shape)} bytes, found {len(content)}"
        raise ValueError(message)
    return np.frombuffer(content, dtype="<f8").reshape(shape).astype(np.float64)
