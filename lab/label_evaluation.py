"""Evaluation of the label watch: alarms without a change, and turned-around labels found.

A judged twin and its refit are trained as the product trains them; the dates that come next are watched by the label
watch and by detectors of the literature. On prices each champion's first year is watched as it was, and with labels
turned around; what follows on streams is in `lab.label_replacement`. Called by `acis evaluate-labels`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from lab.label_streams import adwin, ddm, page_hinkley
from mlops.domain.errors import InsufficientData
from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.label_watch import LabelWatch, watch_labels
from mlops.domain.panel import Panel
from mlops.domain.training.matrix import FeatureMatrix
from mlops.domain.training.metrics import roc_auc
from mlops.domain.training.since_change import policy_since
from mlops.domain.training.splits import all_known
from mlops.domain.training.trading import TRADING_DAYS
from mlops.features.gaps import in_one_stretch, on_own_dates
from mlops.stages.fitting import fit_twin_and_refit
from mlops.stages.labelled_rows import LabelledRows, split_rows
from mlops.stages.scoring import positive_probability

if TYPE_CHECKING:
    from datetime import date

    from config.settings import Settings
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import TrainingControl

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]

WATCH, PAGE_HINKLEY, DDM, ADWIN = METHODS = ("label watch", "Page-Hinkley", "DDM", "ADWIN")
ALPHA = 0.05
CHANGE_AT = 100
"""Dates of a year with newly known labels before those of the change"""
_CLIP = 1e-6


@dataclass(frozen=True, kw_only=True)
class LabelPanel:
    """Rows of a panel with labels, ascending by date."""

    dates: npt.NDArray[np.datetime64]
    """(n,)"""
    x: npt.NDArray[np.float32]
    """(n, f)"""
    y: Labels
    """(n,)"""
    features: tuple[str, ...]

    @cached_property
    def days(self) -> npt.NDArray[np.datetime64]:
        """(d,) distinct dates."""
        return np.unique(self.dates)

    @cached_property
    def ends(self) -> npt.NDArray[np.intp]:
        """(d + 1,) number of rows before each date, and of all."""
        return np.append(np.searchsorted(self.dates, self.days), len(self.dates))

    def rows(self, begin: int, after: int) -> slice:
        """Rows of the dates with the indices from `begin` to before `after`."""
        return slice(int(self.ends[begin]), int(self.ends[after]))

    def labelled(self, begin: int, after: int) -> LabelledRows:
        """Give those rows, all with labels that are known, as a training takes them."""
        on = self.rows(begin, after)
        x = FeatureMatrix(len(self.features))
        x.append(self.x[on])
        return LabelledRows(
            x=x,
            y=self.y[on],
            known=np.ones(on.stop - on.start, dtype=np.bool_),
            dates=self.dates[on],
            marks=np.zeros(on.stop - on.start, dtype=np.uint32),
            target_return=None,
            features=self.features,
            panel=Panel(rows={}),
        )

    def followed_by(self, other: LabelPanel) -> LabelPanel:
        """Put the other's rows behind, on the business days that come next."""
        place = np.searchsorted(other.days, other.dates)
        days = pd.bdate_range(self.days[-1] + 1, periods=len(other.days)).to_numpy().astype("datetime64[D]")
        return LabelPanel(
            dates=np.concatenate([self.dates, days[place]]),
            x=np.concatenate([self.x, other.x]),
            y=np.concatenate([self.y, other.y]),
            features=self.features,
        )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A judged twin and its refit, with the dates that they know by their indices in the panel."""

    twin: Any
    refit: Any
    held_out: tuple[int, int]
    """First held-out date, and the first after them, which is the first that the refit does not know"""

    def judged(self, panel: LabelPanel) -> Scored:
        """Score the twin on its held-out dates."""
        return Scored.of(panel, self.twin, *self.held_out)

    def live(self, panel: LabelPanel, after: int) -> Scored:
        """Score the refit on the dates that it does not know."""
        return Scored.of(panel, self.refit, self.held_out[1], after)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A model's probabilities of the rows of successive dates."""

    days: npt.NDArray[np.datetime64]
    ends: npt.NDArray[np.intp]
    """(d,) rows up to each date"""
    y: Labels
    probability: Floats

    @classmethod
    def of(cls, panel: LabelPanel, model: Any, begin: int, after: int) -> Scored:  # noqa: ANN401 -- an XGBClassifier
        """Ask the model about the dates with the indices from `begin` to before `after`."""
        on = panel.rows(begin, after)
        return cls(
            days=panel.days[begin:after],
            ends=panel.ends[begin + 1 : after + 1] - panel.ends[begin],
            y=panel.y[on],
            probability=positive_probability(model, panel.x[on]),
        )

    def turned(self, since: int) -> Scored:
        """Turn the labels around from a date on."""
        return replace(self, y=np.where(np.arange(len(self.y)) >= self.ends[since - 1], 1 - self.y, self.y))

    @property
    def roc_auc(self) -> float:
        """AUC over all rows."""
        return roc_auc(self.y == 1, self.probability) or float("nan")

    @cached_property
    def losses(self) -> Floats:
        """(n,) log loss of each row."""
        p = np.clip(self.probability, _CLIP, 1 - _CLIP)
        return np.asarray(-np.where(self.y == 1, np.log(p), np.log1p(-p)))

    @cached_property
    def wrong(self) -> Mask:
        """(n,) rows that are called wrong."""
        return np.asarray((self.probability >= 1 / 2) != (self.y == 1))

    def by_day(self) -> dict[date, DayScore]:
        """Score each date as the product does."""
        begins = [0, *self.ends[:-1].tolist()]
        return {
            day: score_day(self.probability[a:b], self.y[a:b], np.ones(b - a, dtype=np.bool_))
            for day, a, b in zip(self.days.astype(object).tolist(), begins, self.ends.tolist(), strict=True)
        }


def train(
    panel: LabelPanel,
    strategy: Strategy,
    *,
    begin: int,
    after: int,
    settings: Settings,
    control: TrainingControl,
    since: bool = False,
) -> Model:
    """Train on the dates from `begin` to before `after`, whose labels are known. Raises InsufficientData.

    since : `begin` is the date of a change, and the split is that of such a training
    """
    rows = panel.labelled(begin, after)
    policy = policy_since(strategy.training, n_labelled=after - begin) if since else strategy.training
    split = split_rows(rows, policy)
    everything = all_known(split, rows.dates, rows.known)
    both = fit_twin_and_refit(policy, rows, split, everything, settings=settings, control=control)
    first = int(np.searchsorted(panel.days, np.datetime64(split.first_holdout)))
    return Model(twin=both.twin.model, refit=both.refit.model, held_out=(first, after))


# ---- Alarms of one champion's year


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """When a method first spoke of the newly known labels of a year; indices of dates with labels, from 0."""

    method: str
    at: int | None
    change_at: int | None = None
    """Located change, of the label watch"""
    can_speak: bool = True
    """False where the label watch cannot be kept: fewer than half of the held-out dates have names of both labels"""


def alarms(held: Scored, live: Scored, *, horizon_dates: int) -> list[Alarm]:
    """Watch the year by each method."""
    watched = Watched(held, live, horizon_dates=horizon_dates)
    found, at = watched.found(len(live.days)), None
    if found.fired_on is not None:
        at = [day for day, _ in found.path].index(found.fired_on)
    change_at = None if at is None else watched.located(at + 1)
    losses, wrong = np.append(held.losses, live.losses), np.append(held.wrong, live.wrong)
    ends = np.append(held.ends, held.ends[-1] + live.ends)
    others = {PAGE_HINKLEY: page_hinkley(losses, ends), DDM: ddm(wrong, ends), ADWIN: adwin(wrong, ends)}
    # What spoke of the held-out dates begins anew with the live ones.
    again = {
        PAGE_HINKLEY: lambda: page_hinkley(live.losses, live.ends),
        DDM: lambda: ddm(live.wrong, live.ends),
        ADWIN: lambda: adwin(live.wrong, live.ends),
    }
    n_held = len(held.days)
    spoken = {name: again[name]() if i is not None and i < n_held else _less(i, n_held) for name, i in others.items()}
    watch = Alarm(method=WATCH, at=at, change_at=change_at, can_speak=found.bound is not None)
    return [watch, *(Alarm(method=one, at=i) for one, i in spoken.items())]


def _less(index: int | None, by: int) -> int | None:
    return None if index is None else index - by


class Watched:
    """A champion's dates as the drift stage scores them, watched as of any day."""

    def __init__(self, held: Scored, live: Scored, *, horizon_dates: int) -> None:
        self._held, self._horizon = held.by_day(), max(1, horizon_dates)
        nothing = score_day(np.empty(0), np.empty(0, dtype=np.int8), np.empty(0, dtype=np.bool_))
        # Dates whose labels are not known yet follow the last one.
        later = live.days[-1] + np.arange(1, self._horizon + 1)
        self._live = live.by_day() | dict.fromkeys(later.astype(object).tolist(), nothing)
        self._days = sorted(self._live)

    def found(self, n_known: int) -> LabelWatch:
        """Watch on the day on which the labels of the first `n_known` dates are known."""
        return watch_labels(
            self._live,
            held_out=self._held,
            as_of=self._days[n_known + self._horizon - 1],
            horizon_dates=self._horizon,
            alpha=ALPHA,
        )

    def located(self, n_known: int) -> int | None:
        """Return the index of the located change on that day; None where there is none."""
        change_at = self.found(n_known).change_at
        return None if change_at is None else self._days.index(change_at)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Alarms of one method in many years."""

    method: str
    n_years: int
    false: float
    """Share of the years with an alarm where nothing was to be found"""
    n_changed: int
    found: float
    """Share of the years with a change in which the first alarm came after it, within the year"""
    delay: tuple[float, float] | None
    """Median and 90 % quantile of the dates from the first changed label that is known to the alarm"""
    error: tuple[float, float, float] | None
    """10 %, 50 % and 90 % quantile of the located change minus the true one, in dates"""


def rates(
    calm: Sequence[Sequence[Alarm]], changed: Sequence[Sequence[Alarm]], *, change_at: int = CHANGE_AT
) -> list[Rates]:
    """Summarise years without a change, and years with one, by method."""
    return [_rates(method, _of(method, calm), _of(method, changed), change_at) for method in METHODS]


def _of(method: str, years: Iterable[Sequence[Alarm]]) -> list[Alarm]:
    return [one for alarms_of_year in years for one in alarms_of_year if one.method == method]


def _rates(method: str, calm: Sequence[Alarm], changed: Sequence[Alarm], change_at: int) -> Rates:
    right = [one for one in changed if one.at is not None and one.at >= change_at]
    delays = [one.at - change_at for one in right if one.at is not None]
    errors = [one.change_at - change_at for one in right if one.change_at is not None]
    return Rates(
        method=method,
        n_years=len(calm),
        false=float(np.mean([one.at is not None for one in calm])) if calm else float("nan"),
        n_changed=len(changed),
        found=len(right) / len(changed) if changed else float("nan"),
        delay=None if not delays else (float(np.median(delays)), float(np.quantile(delays, 0.9))),
        error=None if not errors else _quantiles(errors),
    )


def _quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
    return low, middle, high


# ---- Prices

PriceLabel = Literal["return", "volatility"]


@dataclass(frozen=True, kw_only=True)
class PriceResult:
    """Champions of one strategy, label and horizon."""

    strategy: str
    label: PriceLabel
    horizon_dates: int
    n_champions: int
    n_unwatched: int
    """Champions of which the label watch cannot speak: most held-out dates have no names of both labels"""
    first: date
    last: date
    """First and last date that were watched"""
    roc_auc: float | None
    """Mean over the years, of all pairs of a date; None where no date has names of both labels"""
    rates: list[Rates]
    own_spread: float | None
    """Root mean square over the years of the spread of a block's ranking loss, over the one that is usual for so many
    names; the block is the label's horizon. None: as of `roc_auc`"""


def price_panels(
    close: pd.DataFrame, table: pd.DataFrame, *, horizon_dates: int
) -> Iterator[tuple[str, PriceLabel, LabelPanel]]:
    """Give each strategy's rows with each label, as far as the label has a value.

    close : (dates, tickers)      table : rows of the feature view      return: above 0 over the horizon; volatility:
    root mean square of the daily returns over it above the trailing 20 dates' deviation. Gaps in prices: as in
    `compute_targets`.
    """
    daily = on_own_dates(close, lambda prices: {"return": prices.pct_change(fill_method=None)})["return"]
    ahead = (daily**2).rolling(horizon_dates, min_periods=max(1, horizon_dates // 2)).mean().shift(-horizon_dates)
    is_known = in_one_stretch(close, horizon_dates)
    moved = ahead.where(is_known) ** 0.5
    gained = (close.shift(-horizon_dates) / close - 1).where(is_known)
    known = ("ticker", "date", "strategy")
    features = tuple(name for name in table.columns if name not in known and not name.startswith("target_"))
    for strategy, rows in table.groupby("strategy"):
        ordered = rows.sort_values(["date", "ticker"])
        dates = pd.DatetimeIndex(ordered["date"])
        places = close.index.get_indexer(dates), close.columns.get_indexer(pd.Index(ordered["ticker"]))
        x = ordered[list(features)].to_numpy(dtype=np.float32)
        for label in ("return", "volatility"):
            value = (gained if label == "return" else moved).to_numpy(dtype=np.float64)[places]
            bar = 0.0 if label == "return" else ordered["volatility_20d"].to_numpy(dtype=np.float64)
            there = np.isfinite(value)
            yield (
                str(strategy),
                label,
                LabelPanel(
                    dates=dates.to_numpy().astype("datetime64[D]")[there],
                    x=x[there],
                    y=(value > bar)[there].astype(np.int8),
                    features=features,
                ),
            )


def evaluate_prices(
    name: str,
    label: PriceLabel,
    panel: LabelPanel,
    strategy: Strategy,
    *,
    step: int,
    settings: Settings,
    control: TrainingControl,
) -> PriceResult:
    """Train a champion every `step` dates and watch its first year as it was, and turned around within it.

    Raises InsufficientData where the panel is too short for one.
    """
    horizon = strategy.training.horizon_dates
    n_train = round(strategy.training.training_days * TRADING_DAYS / 365)
    if len(panel.days) < n_train + TRADING_DAYS:
        raise InsufficientData(
            f"{len(panel.days)} dates have labels, and a champion needs {n_train} to learn from and {TRADING_DAYS} "
            f"after them to be watched on; give a longer history"
        )
    calm, turned, ranked, watched = [], [], [], []
    for after in range(n_train, len(panel.days) - TRADING_DAYS + 1, step):
        control.check()
        model = train(panel, strategy, begin=after - n_train, after=after, settings=settings, control=control)
        held, live = model.judged(panel), model.live(panel, after + TRADING_DAYS)
        calm.append(alarms(held, live, horizon_dates=horizon))
        turned.append(alarms(held, live.turned(CHANGE_AT), horizon_dates=horizon))
        ranked += _ranking(live, max(1, horizon))
        watched += [live.days[0], live.days[-1]]
    areas, spreads = np.transpose(ranked) if ranked else (None, None)
    return PriceResult(
        strategy=name,
        label=label,
        horizon_dates=horizon,
        n_champions=len(calm),
        n_unwatched=sum(not one.can_speak for year in calm for one in year),
        first=watched[0].astype(object),
        last=watched[-1].astype(object),
        roc_auc=None if areas is None else float(np.mean(areas)),
        rates=rates(calm, turned),
        own_spread=None if spreads is None else float(np.sqrt(np.mean(np.square(spreads)))),
    )


def _ranking(live: Scored, block: int) -> list[tuple[float, float]]:
    """AUC within dates, and the spread of a block's over that of one date of as many names; [] without any pair."""
    scores = live.by_day().values()
    pairs, won, n = (
        np.array([getattr(one, name) for one in scores]) for name in ("n_pairs", "pairs_won", "n_labelled")
    )
    if not pairs.any():
        return []
    weight, loss = pairs / (n + 1), 1 - won / np.maximum(pairs, 1)
    mean = float(weight @ loss / weight.sum())
    total = np.cumsum(np.append(0.0, weight / weight.mean() * (loss - mean)))
    means = (total[block:] - total[:-block]) / block
    return [(1 - mean, float(np.sqrt(np.mean(means**2) * 12 * weight.mean())))]
