"""Pictures of a held-out evaluation: ROC, calibration, confusion, importance.

Called by the train stage. Matplotlib's object interface only: pyplot keeps global state, which leaks figures
in a worker that lives for weeks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlops.training.importance import feature_importance
from mlops.training.metrics import THRESHOLD, Floats, Labels, roc_auc

if TYPE_CHECKING:
    from pathlib import Path

    import xgboost as xgb
    from matplotlib.axes import Axes

CALIBRATION_BINS = 10
TOP_FEATURES = 20
_DPI = 80


def training_plots(
    y: Labels, probability: Floats, model: xgb.XGBClassifier, features: Sequence[str], folder: Path
) -> dict[str, Path]:
    """Write the pictures into `folder`; artifact path → file. No ROC where only one class was held out.

    y, probability : (n,) of the held-out rows
    """
    positive = np.asarray(y) == 1
    p = np.asarray(probability, dtype=np.float64)
    drawn: dict[str, Figure] = {
        "calibration.png": _calibration(positive, p),
        "confusion.png": _confusion(positive, p),
        "importance.png": _importance(model, features),
    }
    area = roc_auc(positive, p)
    if area is not None:
        drawn["roc.png"] = _roc(positive, p, area)
    saved = {}
    for name, figure in drawn.items():
        path = folder / name
        FigureCanvasAgg(figure).print_png(str(path))
        saved[f"plots/{name}"] = path
    return saved


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, 4.5), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _roc(positive: npt.NDArray[np.bool_], p: npt.NDArray[np.float64], area: float) -> Figure:
    figure, axes = _axes(f"ROC, area {area:.3f}", "false positive rate", "true positive rate")
    order = np.argsort(-p, kind="stable")
    last_of_tie = np.append(np.diff(p[order]) != 0, True)
    hits, misses = np.cumsum(positive[order])[last_of_tie], np.cumsum(~positive[order])[last_of_tie]
    axes.plot(np.append(0, misses / misses[-1]), np.append(0, hits / hits[-1]))
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey")
    return figure


def _calibration(positive: npt.NDArray[np.bool_], p: npt.NDArray[np.float64]) -> Figure:
    figure, axes = _axes("Calibration", "predicted probability", "observed share")
    bins = np.minimum((p * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    used = [bins == number for number in np.unique(bins)]
    axes.plot([p[mask].mean() for mask in used], [positive[mask].mean() for mask in used], marker="o")
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey")
    return figure


def _confusion(positive: npt.NDArray[np.bool_], p: npt.NDArray[np.float64]) -> Figure:
    figure, axes = _axes("Confusion", "predicted", "actual")
    called = p >= THRESHOLD
    counts = np.array([[np.sum((positive == a) & (called == c)) for c in (False, True)] for a in (False, True)])
    axes.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    axes.set_xticks([0, 1])
    axes.set_yticks([0, 1])
    return figure


def _importance(model: xgb.XGBClassifier, features: Sequence[str]) -> Figure:
    figure, axes = _axes("Importance", "share of the total gain", "")
    top = feature_importance(model, features)[:TOP_FEATURES][::-1]
    axes.barh([part.feature for part in top], [part.share for part in top])
    return figure
