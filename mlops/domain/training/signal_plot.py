"""What following the classifier's calls would have made of 1, beside holding every name. Called by the train stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlops.domain.training.figures import begin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlops.domain.training.trading import SignalCurve


def signal_figure(curve: SignalCurve, *, about: str = "") -> Figure:
    """Compounded wealth of both, by the rule of `mlops.domain.training.trading`; no costs. Shaded: below the signal's peak."""
    n_periods = len(curve.signal) - 1
    about = f"{about}, n = {n_periods} periods" if about else f"n = {n_periods} periods"
    title = "Equity curve of the held-out dates, without costs"
    figure, axes = begin(title, "", "value of 1 invested", about=about)
    for wealth, label, style in ((curve.signal, "signal", "-"), (curve.everything, "holding all", "--")):
        axes.step(curve.dates, wealth, where="post", linestyle=style, label=f"{label}: {wealth[-1]:.3f}")
    peak = np.maximum.accumulate(curve.signal)
    axes.fill_between(curve.dates, curve.signal, peak, step="post", alpha=0.15, linewidth=0)
    axes.axhline(1.0, linestyle="--", color="grey", linewidth=0.8)
    axes.tick_params(axis="x", rotation=20)
    axes.legend()
    return figure
