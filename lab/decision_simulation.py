"""Planted panels and years of them: two models of known skill on held-out dates whose labels overlap.

Pure; called by the benchmark of the promotion decision and by its tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from mlops.domain.promotion.date_parts import ScoredRows

FIRST = np.datetime64("2020-01-01")


def overlapping(
    rng: np.random.Generator, *, n_dates: int, n_names: int, horizon: int, common: float
) -> npt.NDArray[np.float64]:
    """(n_dates, n_names) standard normal sums over the next `horizon` days; a share `common` is the market's."""
    days = n_dates + horizon
    moves = np.sqrt(1 - common) * rng.normal(size=(days, n_names)) + np.sqrt(common) * rng.normal(size=(days, 1))
    so_far = np.cumsum(np.vstack([np.zeros((1, n_names)), moves]), axis=0)
    return np.asarray((so_far[horizon:-1] - so_far[: -horizon - 1]) / np.sqrt(horizon))


def planted_pair(  # noqa: PLR0913 -- a design has that many sides
    rng: np.random.Generator,
    *,
    challenger_auc: float,
    champion_auc: float,
    n_dates: int = 60,
    n_names: int = 20,
    horizon: int = 20,
    common: float = 0.3,
    shared: float = 0.5,
    lasting_noise: bool = False,
) -> tuple[ScoredRows, ScoredRows]:
    """Challenger and champion whose true areas under the curve are these.

    Binormal scores d * y + noise with AUC = Phi(d / sqrt 2). A share `shared` of the noise is the same in both
    models. `lasting_noise`: a name's noise lasts as long as its label, as that of slow features does; else each
    row has its own.
    """
    size = {"n_dates": n_dates, "n_names": n_names, "horizon": horizon}
    returns = overlapping(rng, **size, common=common)
    noises = [
        overlapping(rng, **size, common=0.0) if lasting_noise else rng.normal(size=returns.shape) for _ in range(3)
    ]
    dates = np.repeat(FIRST + np.arange(n_dates), n_names)
    rows = []
    for auc, own in ((challenger_auc, noises[1]), (champion_auc, noises[2])):
        rows.append(_scored(auc, dates, returns, np.sqrt(shared) * noises[0] + np.sqrt(1 - shared) * own))
    return rows[0], rows[1]


def planted_sequence(  # noqa: PLR0913 -- a design has that many sides
    rng: np.random.Generator,
    *,
    challenger_auc: float,
    champion_auc: float,
    n_decisions: int = 60,
    step_dates: int = 5,
    n_dates: int = 60,
    n_names: int = 20,
    horizon: int = 20,
    common: float = 0.3,
    shared: float = 0.5,
    lasting_noise: bool = False,
) -> Iterator[tuple[ScoredRows, ScoredRows]]:
    """A new challenger every `step_dates` dates against the same champion, each pair on its newest `n_dates` dates.

    All on one market, so that neighbouring decisions share most of their dates. Noise as in `planted_pair`: a share
    is that of both models, the rest each model's own.
    """
    size = {"n_dates": n_dates + step_dates * (n_decisions - 1), "n_names": n_names, "horizon": horizon}
    returns = overlapping(rng, **size, common=common)

    def noise() -> npt.NDArray[np.float64]:
        return overlapping(rng, **size, common=0.0) if lasting_noise else rng.normal(size=returns.shape)

    both, champion = noise(), noise()
    for number in range(n_decisions):
        on = slice(number * step_dates, number * step_dates + n_dates)
        dates = np.repeat(FIRST + np.arange(on.start, on.stop), n_names)
        rows = []
        for auc, own in ((challenger_auc, noise()), (champion_auc, champion)):
            rows.append(_scored(auc, dates, returns[on], (np.sqrt(shared) * both + np.sqrt(1 - shared) * own)[on]))
        yield rows[0], rows[1]


def _scored(
    auc: float, dates: npt.NDArray[np.datetime64], returns: npt.NDArray[np.float64], noise: npt.NDArray[np.float64]
) -> ScoredRows:
    """Score the sign of (dates, names) returns with this true area under the curve."""
    y = (returns > 0).astype(np.int8)
    score = np.sqrt(2) * norm.ppf(auc) * (y - 0.5) + noise
    return ScoredRows(
        dates=dates, y=y.ravel(), probability=norm.cdf(score.ravel()), target_return=returns.ravel() * 0.05
    )
