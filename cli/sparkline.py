"""A series as one line of a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"
#: Where there is no value.
GAP = "·"


def spark_line(values: Sequence[float | None]) -> str:
    """A character per value, from the lowest to the highest of the series; a gap where there is none.

    >>> spark_line([0.0, 0.5, None, 1.0])
    '▁▅·█'
    >>> spark_line([2.0, 2.0])
    '▁▁'
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return GAP * len(values)
    low, high = min(known), max(known)
    # Halves: the range of two floats can be beyond the largest one.
    span = high / 2 - low / 2
    return "".join(
        GAP
        if value is None or not math.isfinite(value)
        else _LEVELS[0 if span == 0 else round((value / 2 - low / 2) / span * (len(_LEVELS) - 1))]
        for value in values
    )
