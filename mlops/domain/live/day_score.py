"""One day of a version's predictions against their outcomes: counts and sums alone, so that days can be put together.

Pure; called by the score stage, which writes it into the ledger, and by everything that measures models in use. The
day's predictions, ordered by probability, are cut into 64 cells of about as many each. A model whose probabilities all
lie within a hundredth is resolved as finely as one that uses the whole scale, and a day of 64 names is kept row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlops.domain.training.metrics import THRESHOLD, Floats, Labels, log_loss, roc_auc

N_CELLS = 64
"""Cells of a day, and one more where the threshold lies within a cell."""
_DIGITS = 12
"""Significant digits of a sum in JSON: processors differ in the last bits."""


class Cell(NamedTuple):
    """Neighbours among a day's predictions by probability: equal ones together, all on one side of the threshold."""

    n: int
    """Predictions"""
    probability: float
    """Sum of their probabilities"""
    n_labelled: int
    """Predictions whose outcome is known"""
    probability_labelled: float
    n_positive: int
    """Labelled predictions whose label is 1"""


@dataclass(frozen=True, kw_only=True)
class DayScore:
    """Counts and sums of one day."""

    n_predictions: int
    n_labelled: int
    """Predictions whose outcome is known; the metrics are of these"""
    n_positive: int
    """Labelled predictions whose label is 1"""
    n_hits: int
    """Labelled predictions that are right at the threshold 0.5"""
    log_loss: float
    """Sum over the labelled predictions, nats"""
    brier: float
    """Sum over the labelled predictions"""
    n_pairs: int
    """Pairs of a positive and a negative of the same day"""
    pairs_won: float
    """Pairs in which the positive has the higher probability; ties count half"""
    n_priced: int
    """Predictions whose next day's return is known"""
    absolute_return: float
    """Sum over those of the next day's simple return without its sign"""
    n_marked: int
    """The same as `n_priced` where the label says when to be long, else 0: no signal to mark"""
    n_held: int
    """Marked predictions that are called positive: the signal's positions"""
    n_won: int
    """Positions with a return above 0"""
    held_return: float
    """Sum over the positions of the next day's simple return"""
    marked_return: float
    """The same sum over all that are marked"""
    cells: tuple[Cell, ...]
    """By ascending probability; none is empty"""

    @property
    def n_waiting(self) -> int:
        """Predictions whose outcome is not known yet."""
        return self.n_predictions - self.n_labelled

    @property
    def mark(self) -> float | None:
        """What one day's signal earned until the next: mean return of its positions, 0 without one; None: no signal."""
        return None if not self.n_marked else self.held_return / max(1, self.n_held)

    @property
    def mark_of_all(self) -> float | None:
        """What every name of one day, at equal weight, earned until the next; None: no signal."""
        return self.marked_return / self.n_marked if self.n_marked else None

    @property
    def mean_move(self) -> float | None:
        """Mean of the next day's returns without their sign; None: no price."""
        return self.absolute_return / self.n_priced if self.n_priced else None

    @property
    def roc_auc(self) -> float | None:
        """AUC of the day's pairs, exact; None without a pair."""
        return self.pairs_won / self.n_pairs if self.n_pairs else None

    def to_json(self) -> dict[str, Any]:
        """Give the document that `from_json` reads; equal predictions and outcomes in any order give an equal one."""
        found: dict[str, Any] = {name: getattr(self, name) for name in _COUNTS}
        found |= {name: _rounded(getattr(self, name)) for name in _SUMS}
        found["cells"] = [[part if isinstance(part, int) else _rounded(part) for part in cell] for cell in self.cells]
        return found

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> DayScore:
        """Read what `to_json` gave.

        Cells of six numbers, whose first is their position on a fixed grid, are read too: scores had them at first.
        Raises KeyError for a document that lacks a part, ValueError for cells of another form.
        """
        counts = {name: int(document[name]) for name in _COUNTS}
        sums = {name: float(document[name]) for name in _SUMS}
        cells = document["cells"]
        if any(len(cell) not in (len(_CELL), len(_CELL) + 1) for cell in cells):
            message = f"a cell of a day's score has {len(_CELL)} numbers; this one is of another release: {cells[0]!r}"
            raise ValueError(message)
        read = (Cell(*(kind(part) for kind, part in zip(_CELL, cell[-len(_CELL) :], strict=True))) for cell in cells)
        return cls(**counts, **sums, cells=tuple(read))  # type: ignore[arg-type]  # names of two types


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


_COUNTS = ("n_predictions", "n_labelled", "n_positive", "n_hits", "n_pairs", "n_priced", "n_marked", "n_held", "n_won")
_SUMS = ("log_loss", "brier", "pairs_won", "absolute_return", "held_return", "marked_return")
_CELL = (int, float, int, float, int)


def score_day(
    probability: Floats,
    y: Labels,
    known: npt.NDArray[np.bool_],
    next_return: Floats | None = None,
    *,
    is_long: bool = False,
) -> DayScore:
    """Score one day's predictions of one version.

    probability : (n,) of class 1      y : (n,) of 0 and 1, anything where not known      known : (n,)
    next_return : (n,) simple return from this day to the next, nan where it is not known; None: there is no such column
    is_long : whether the label says when to be long (`mlops.domain.training.trading.is_long_label`); else no signal is
    marked, and the returns say how much the names moved
    """
    p = np.asarray(probability, dtype=np.float64)
    is_known = np.asarray(known, dtype=np.bool_)
    positive = (np.asarray(y) == 1) & is_known
    returns = np.full(len(p), np.nan) if next_return is None else np.asarray(next_return, dtype=np.float64)
    # One order for equal days, so that sums and digests do not depend on the order of the rows.
    order = np.lexsort((returns, positive, is_known, p))
    p, is_known, positive, returns = p[order], is_known[order], positive[order], returns[order]
    called = p >= THRESHOLD
    of_known, p_known = positive[is_known], p[is_known]
    n, n_labelled, n_positive = len(p), int(is_known.sum()), int(positive.sum())
    n_pairs = n_positive * (n_labelled - n_positive)
    priced = np.isfinite(returns)
    marked = priced if is_long else np.zeros_like(priced)
    held = marked & called
    return DayScore(
        n_predictions=n,
        n_labelled=n_labelled,
        n_positive=n_positive,
        n_hits=int(np.count_nonzero((called == positive) & is_known)),
        log_loss=log_loss(of_known, p_known) * n_labelled if n_labelled else 0.0,
        brier=float(np.sum((p_known - of_known) ** 2)),
        n_pairs=n_pairs,
        pairs_won=(roc_auc(of_known, p_known) or 0.0) * n_pairs if n_pairs else 0.0,
        n_priced=int(priced.sum()),
        absolute_return=float(np.abs(returns[priced]).sum()),
        n_marked=int(marked.sum()),
        n_held=int(held.sum()),
        n_won=int(np.count_nonzero(returns[held] > 0)),
        held_return=float(returns[held].sum()),
        marked_return=float(returns[marked].sum()),
        cells=_cells(p, is_known, positive),
    )


def _cells(
    p: npt.NDArray[np.float64], known: npt.NDArray[np.bool_], positive: npt.NDArray[np.bool_]
) -> tuple[Cell, ...]:
    """Cut predictions in ascending order into cells."""
    if not len(p):
        return ()
    rank = np.searchsorted(p, p)
    cell = 2 * (rank * N_CELLS // len(p)) + (p >= THRESHOLD)
    starts = np.flatnonzero(np.append(True, cell[1:] != cell[:-1]))
    parts = (np.ones(len(p), dtype=np.int64), p, known.astype(np.int64), p * known, positive.astype(np.int64))
    return tuple(Cell(*row) for row in zip(*(np.add.reduceat(part, starts).tolist() for part in parts), strict=True))
