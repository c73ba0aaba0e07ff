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

_DPI = 110


def begin(title: str, x: str, y: str, *, about: str = "", left: float = 0.1) -> tuple[Figure, Axes]:
    """A figure with one pair of axes.

    about : of which strategy, dates and rows it is, under the title      left : share of the width for the labels of y
    """
    # Fixed margins: a layout engine draws every figure twice.
    figure = Figure(figsize=(8.6, 5.8), dpi=_DPI)
    axes = figure.add_axes((left, 0.1, 0.97 - left, 0.78))
    axes.set(xlabel=x, ylabel=y)
    # With places of their own: else they are searched for among all labels, a quarter of the drawing.
    figure.text(left, 0.945, title, fontsize=13, fontweight="bold")
    figure.text(left, 0.905, about, fontsize=10, color="dimgrey")
    return figure, axes


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG and give its path back."""
    # A picture of 10 kB is not worth the 20 ms that the best compression takes.
    FigureCanvasAgg(figure).print_png(str(path), pil_kwargs={"compress_level": 1})
    return path
