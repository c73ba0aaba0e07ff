"""Outlines of the page's pictures, made from numbers; pure.

Every picture is an area, a line or a row of bars over a linear scale: two dozen lines of arithmetic. A chart
library would draw axes and text too, but as SVG text that shrinks on a phone and in colours that ignore a dark
screen; here the text is HTML beside the picture, and the colours are the style sheet's. docs/decisions/0014.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Width and height of every picture's own coordinates; the page stretches it to the room that there is.
WIDTH, HEIGHT = 400, 200


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Values between `low` and `high` as shares between 0 and 1, cut off beyond."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Place of the value, from 0 to 1."""
        width = self.high - self.low
        if not width > 0 or not math.isfinite(width):
            return 0.5
        return min(1.0, max(0.0, (value - self.low) / width))

    def percent(self, value: float) -> str:
        """Place of the value for a style: 12.5%."""
        return f"{100 * self.share(value):.4g}%"

    def x(self, value: float) -> float:
        """Place of the value from the left."""
        return _tidy(WIDTH * self.share(value))

    def y(self, value: float) -> float:
        """Place of the value from the top."""
        return _tidy(HEIGHT * (1 - self.share(value)))

    def ticks(self, about: int = 4) -> list[float]:
        """Round values, about so many."""
        width = self.high - self.low
        if not width > 0 or not math.isfinite(width):
            return [self.low]
        magnitude = 10.0 ** math.floor(math.log10(width / about))
        step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if width / (magnitude * factor) <= about)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        return [round((first + i) * step, 12) for i in range(count)]


def steps(shares: Sequence[float], *, top: float) -> str:
    """Outline of a histogram whose bars fill the width; `top` reaches the upper edge."""
    if not shares:
        return ""
    bar = _tidy(WIDTH / len(shares))
    scale = Scale(low=0.0, high=top or 1.0)
    columns = "".join(f"V{round(scale.y(share))}h{bar:g}" for share in shares)
    return f"M0 {HEIGHT}{columns}V{HEIGHT}z"


def line(points: Sequence[tuple[float, float]]) -> str:
    """A line through points in picture coordinates."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def area(points: Sequence[tuple[float, float]], *, base: float) -> str:
    """The area between a line and a horizontal one."""
    if not points:
        return ""
    return f"{line([(points[0][0], base), *points, (points[-1][0], base)])}z"


def _tidy(value: float) -> float:
    return round(value, 1)
