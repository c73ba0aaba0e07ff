"""How long a report's page takes and how large it is, beside the same histograms drawn by matplotlib as SVG.

    .venv/bin/python bench/report_page.py [--quick] [--json]

The report is that of a check of normal columns; 30 earlier checks make the heat map. Medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from typing import Any

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mlops.domain.drift.detect import detect_drift
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window
from mlops.reporting.page.render import render_page

AS_OF = date(2020, 6, 30)
EARLIER = 30
COLUMNS_OF_FIGURE = 3


def document(n_features: int) -> dict[str, Any]:
    """The report of a check: 5,000 rows against 500."""
    generator = np.random.default_rng(0)

    def rows(n: int, shift: float) -> FeatureFrame:
        numbers = {f"feature_{i:03}": generator.normal(shift * i / n_features, 1.0, n) for i in range(n_features)}
        return FeatureFrame(n_rows=n, numbers=numbers, categories={})

    border = AS_OF - timedelta(days=7)
    report = detect_drift(
        rows(5_000, 0.0),
        rows(500, 1.0),
        DriftPolicy(),
        strategy="bench",
        as_of=AS_OF,
        reference_window=Window(start=border - timedelta(days=90), end=border),
        current_window=Window(start=border, end=AS_OF),
        timestamp=datetime(2020, 6, 30, tzinfo=UTC),
    )
    return json.loads(json.dumps(report.to_json()))  # type: ignore[no-any-return]


def matplotlib_svg(report: dict[str, Any]) -> str:
    """The histograms alone, as small multiples."""
    shapes = report["distributions"]["features"]
    figure = Figure(figsize=(12, 2 * len(shapes) / COLUMNS_OF_FIGURE))
    for place, (name, shape) in enumerate(shapes.items()):
        axes = figure.add_subplot(-(-len(shapes) // COLUMNS_OF_FIGURE), COLUMNS_OF_FIGURE, place + 1)
        edges = np.linspace(shape["low"], shape["high"], len(shape["current"]) - 1)
        for window in ("reference", "current"):
            axes.stairs(np.array(shape[window][1:-1]) / sum(shape[window]), edges, fill=window == "reference")
        axes.set_title(name)
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text)
    return text.getvalue()


def timed(draw: Callable[[], str]) -> tuple[float, float]:
    """Milliseconds and kilobytes."""
    begun = time.perf_counter()
    text = draw()
    return 1000 * (time.perf_counter() - begun), len(text.encode()) / 1000


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for n_features in (45, 400):
        report = document(n_features)
        days = [(AS_OF - timedelta(days=back)).isoformat() for back in range(1, EARLIER + 1)]
        earlier = [{**report, "windows": {**report["windows"], "as_of": day}} for day in days]
        drawn: dict[str, Callable[[], str]] = {"page": lambda r=report, e=earlier: render_page(r, e)}  # type: ignore[misc]
        if n_features < 100:
            drawn["matplotlib"] = lambda r=report: matplotlib_svg(r)  # type: ignore[misc]
        for draw in drawn.values():
            draw()  # templates and fonts are loaded once per process
        runs = [{name: timed(draw) for name, draw in drawn.items()} for _ in range(1 if options.quick else 9)]
        for name in drawn:
            figures[f"{name}_{n_features}_ms"] = statistics.median(run[name][0] for run in runs)
            figures[f"{name}_{n_features}_kb"] = runs[0][name][1]
    for name, value in figures.items():
        print(f"{name:20} {value:8.1f}")
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
        versions = {name: version(name) for name in ("jinja2", "matplotlib", "numpy")}
        print(json.dumps({"figures": figures, "machine": machine, "versions": versions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
