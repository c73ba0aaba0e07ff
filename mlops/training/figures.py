"""How a picture is begun and saved, for all pictures of a training.

Matplotlib's object interface only: pyplot keeps global state, which leaks figures in a worker that lives for weeks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 80


def begin(title: str, x: str, y: str, *, left: float = 0.12) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; `left`: the share of its width that the labels of y need."""
    # Fixed margins: a layout engine draws every figure twice.
    figure = Figure(figsize=(6.0, 4.5), dpi=_DPI)
    axes = figure.add_axes((left, 0.12, 0.96 - left, 0.78))
    axes.set(xlabel=x, ylabel=y)
    # With a place of its own: else it is searched for among all labels, a quarter of the drawing.
    axes.set_title(title, y=1.0, pad=6)
    return figure, axes


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG and give its path back."""
    # A picture of 10 kB is not worth the 20 ms that the best compression takes.
    FigureCanvasAgg(figure).print_png(str(path), pil_kwargs={"compress_level": 1})
    return path
