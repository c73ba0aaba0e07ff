"""Draws the figures of a training: held-out evaluation, importance, SHAP values and equity curve.

Called by the train stage. Matplotlib's object interface only: pyplot keeps global state, which leaks figures in a
worker that lives for weeks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlops.domain.training.importance import feature_importance
from mlops.domain.training.metrics import THRESHOLD, Floats, Labels, roc_auc

if TYPE_CHECKING:
    import xgboost as xgb
    from matplotlib.axes import Axes

    from mlops.domain.training.importance import Contributions
    from mlops.domain.training.trading import SignalCurve

_CALIBRATION_BINS = 10
_TOP_FEATURES = 20
_TOP_EXPLAINED = 12
_LABELS = 0.3
"""Of the width, for the names of features."""
_DPI = 110


def training_plots(
    y: Labels,
    probability: Floats,
    folder: Path,
    *,
    about: str = "",
    others: Mapping[str, Figure] | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Path]:
    """Write the figures into `folder`; artifact path → file. No curves where only one class was held out.

    y, probability : (n,) of the held-out rows      others : further figures by file name
    about : strategy and dates, as each picture says under its title, with the number of rows
    check : called before each picture is written; what it raises ends the drawing
    """
    positive = np.asarray(y) == 1
    p = np.asarray(probability, dtype=np.float64)
    about = f"{about}, n = {len(p):,}" if about else f"n = {len(p):,}"
    drawn: dict[str, Figure] = {
        "calibration.png": _calibration(positive, p, about),
        "confusion.png": _confusion(positive, p, about),
        **(others or {}),
    }
    area = roc_auc(positive, p)
    if area is not None:
        drawn["roc.png"] = _roc(positive, p, area, about)
        drawn["precision_recall.png"] = _precision_recall(positive, p, about)
    found = {}
    for name, figure in drawn.items():
        check()
        found[f"plots/{name}"] = save(figure, folder / name)
    return found


def _counts(positive: npt.NDArray[np.bool_], p: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.intp], ...]:
    """True and false positives at each threshold, the highest first."""
    order = np.argsort(-p, kind="stable")
    last_of_tie = np.append(np.diff(p[order]) != 0, True)
    return np.cumsum(positive[order])[last_of_tie], np.cumsum(~positive[order])[last_of_tie]


def precision_recall(
    positive: npt.NDArray[np.bool_], p: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Precision and recall at each distinct threshold, the highest first."""
    hits, misses = _counts(positive, p)
    return hits / (hits + misses), hits / hits[-1]


def _precision_recall(positive: npt.NDArray[np.bool_], p: npt.NDArray[np.float64], about: str) -> Figure:
    precision, recall = precision_recall(positive, p)
    # Average precision: the step-wise area under the curve.
    average = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    figure, axes = begin(f"Precision and recall, average precision {average:.3f}", "recall", "precision", about=about)
    axes.step(np.append(0, recall), np.append(precision[0], precision), where="pre")
    axes.axhline(float(positive.mean()), linestyle="--", color="grey")
    axes.set_ylim(0, 1.02)
    return figure


def _roc(positive: npt.NDArray[np.bool_], p: npt.NDArray[np.float64], area: float, about: str) -> Figure:
    figure, axes = begin(f"ROC, area {area:.3f}", "false positive rate", "true positive rate", about=about)
    hits, misses = _counts(positive, p)
    axes.plot(np.append(0, misses / misses[-1]), np.append(0, hits / hits[-1]))
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey")
    return figure


def _calibration(positive: npt.NDArray[np.bool_], p: npt.NDArray[np.float64], about: str) -> Figure:
    figure, axes = begin("Calibration", "predicted probability", "observed share", about=about)
    bins = np.minimum((p * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    used = [bins == number for number in np.unique(bins)]
    axes.plot([p[mask].mean() for mask in used], [positive[mask].mean() for mask in used], marker="o")
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey")
    return figure


def _confusion(positive: npt.NDArray[np.bool_], p: npt.NDArray[np.float64], about: str) -> Figure:
    figure, axes = begin(f"Confusion at p = {THRESHOLD:g}", "predicted", "actual", about=about)
    called = p >= THRESHOLD
    counts = np.array([[np.sum((positive == a) & (called == c)) for c in (False, True)] for a in (False, True)])
    axes.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    axes.set_xticks([0, 1])
    axes.set_yticks([0, 1])
    return figure


def importance_figure(model: xgb.XGBClassifier, features: Sequence[str], *, about: str = "") -> Figure:
    """Draw the shares of the total gain, the largest on top."""
    figure, axes = begin(
        f"Importance, {len(features)} features", "share of the total gain", "", about=about, left=_LABELS
    )
    top = feature_importance(model, features)[:_TOP_FEATURES][::-1]
    axes.barh([part.feature for part in top], [part.share for part in top])
    return figure


def contributions_figure(found: Contributions, *, about: str = "") -> Figure:
    """Draw a dot per row and feature: its effect on the prediction, coloured by the value's rank among the rows."""
    title = "SHAP values; blue: low, red: high value of the feature"
    about = f"{about}, a sample of n = {len(found.values):,}" if about else ""
    figure, axes = begin(title, "log odds", "", about=about, left=_LABELS)
    top = found.order()[:_TOP_EXPLAINED][::-1]
    n = len(found.values)
    heights = np.repeat(np.arange(len(top)), n) + np.tile(np.linspace(-0.3, 0.3, n), len(top))
    colours = [_ranks(found.values[:, index]) for index in top]
    axes.scatter(
        found.shap[:, top].T.reshape(-1), heights, c=np.concatenate(colours), cmap="coolwarm", s=4, linewidths=0
    )
    axes.axvline(0.0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(top)), [found.features[index] for index in top])
    return figure


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1; missing values stay without colour."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(1, len(values) - 1)
    return np.where(np.isnan(values), np.nan, ranks)


def signal_figure(curve: SignalCurve, *, about: str = "") -> Figure:
    """Draw the compounded wealth of both by the rule of `mlops.domain.training.trading`; shaded below the peak."""
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


def begin(title: str, x: str, y: str, *, about: str = "", left: float = 0.1) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes.

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
    """Write a PNG and return its path."""
    # A picture of 10 kB is not worth the 20 ms that the best compression takes.
    FigureCanvasAgg(figure).print_png(str(path), pil_kwargs={"compress_level": 1})
    return path
