"""Pictures of a held-out evaluation: ROC, precision and recall, calibration, confusion, and those of others.

Called by the train stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops.domain.training.figures import begin, save
from mlops.domain.training.metrics import THRESHOLD, Floats, Labels, roc_auc

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

CALIBRATION_BINS = 10


def training_plots(
    y: Labels, probability: Floats, folder: Path, *, about: str = "", others: Mapping[str, Figure] | None = None
) -> dict[str, Path]:
    """Write the pictures into `folder`; artifact path → file. No curves where only one class was held out.

    y, probability : (n,) of the held-out rows      others : further figures by file name
    about : strategy and dates, as each picture says under its title, with the number of rows
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
    return {f"plots/{name}": save(figure, folder / name) for name, figure in drawn.items()}


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
    bins = np.minimum((p * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
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
