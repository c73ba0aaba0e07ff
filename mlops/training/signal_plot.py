"""What following the classifier's calls would have made of 1, beside holding every name. Called by the train stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.training.figures import begin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlops.training.trading import SignalCurve


def signal_figure(curve: SignalCurve) -> Figure:
    """Compounded wealth of both, by the rule of `mlops.training.trading`; no costs."""
    figure, axes = begin("Cumulative return on the held-out dates, without costs", "", "value of 1 invested")
    for wealth, label in ((curve.signal, "signal"), (curve.everything, "holding all")):
        axes.step(curve.dates, wealth, where="post", label=label)
    axes.axhline(1.0, linestyle="--", color="grey", linewidth=0.8)
    axes.tick_params(axis="x", rotation=20)
    axes.legend()
    return figure
