"""Plot of power over the size of a planted shift. Called by `acis selftest`; pure."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from lab.selftest import CURVES, POWER
from mlops.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lab.selftest import Curve, Selftest

_SUFFIXES = (".png", ".svg", ".html")
LABELS: dict[Curve, str] = {
    ("mean", "all"): "mean, all features",
    ("mean", "half"): "mean, half of them",
    ("mean", "one"): "mean, one feature",
    ("scale", "all"): "scale, all features",
}


def checked_plot_path(path: Path) -> Path:
    """Return the path. Raises ConfigurationError for another kind of file, or a folder that is not there."""
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigurationError(f"--plot {path}: the picture is a {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]} file")
    if not path.parent.is_dir():
        raise ConfigurationError(f"--plot {path}: there is no folder {path.parent}; make it first")
    return path


def draw_power(result: Selftest, path: Path) -> None:
    """Write the plot; an .html file holds it whole. Raises OSError."""
    figure = _figure(result)
    kind = path.suffix.lower()
    if kind == ".png":
        FigureCanvasAgg(figure).print_png(str(path))
        return
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text)
    svg = text.getvalue()
    if kind == ".html":
        title = html.escape(f"Self-test of {result.strategy}")
        inside = svg[svg.index("<svg") :]
        svg = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><body>{inside}</body></html>'
    path.write_text(svg, encoding="utf-8")


def _figure(result: Selftest) -> Figure:
    figure = Figure(figsize=(11.0, 4.5), dpi=100, layout="constrained")
    figure.suptitle(
        f"{result.strategy}: {result.n_placebos} placebo checks from {result.first} to {result.last}, "
        f"{result.n_disjoint} without a common date"
    )
    panels = figure.subplots(1, 2, sharey=True)
    for axes, rule in zip(panels, ("calibrated", "raw"), strict=True):
        _curves(axes, result, rule)
    panels[0].set(ylabel="share of checks that fire")
    panels[0].legend(loc="best", fontsize="small")
    return figure


def _curves(axes: Axes, result: Selftest, rule: str) -> None:
    in_force = " (in force)" if result.rule == rule else ""
    axes.set(title=f"{rule} rule{in_force}", xlabel="size, reference standard deviations", ylim=(-0.02, 1.02))
    axes.axhline(POWER, color="0.8", linewidth=1)
    axes.axhline(result.alpha, color="0.8", linewidth=1, linestyle=":")
    none = getattr(result, rule)
    for curve in CURVES:
        points = [point for point in result.points if (point.change, point.where) == curve]
        rates = [none, *(getattr(point, rule) for point in points)]
        sizes = [0.0, *(point.size for point in points)]
        shares = [rate.share for rate in rates]
        # The least rounding below zero would be refused.
        below = [max(0.0, rate.share - rate.low) for rate in rates]
        above = [max(0.0, rate.high - rate.share) for rate in rates]
        axes.errorbar(sizes, shares, yerr=[below, above], marker="o", capsize=2, label=LABELS[curve])
