"""Evaluation of the verdict over a history: its rate of alarms on calm days, and its delay after a break; pure.

Every check is the real one (`detect_drift`) on the rows that it would have had on that day. Called by
`acis evaluate-drift`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from lab.placebos import Rate, coupled, rate_of, spreads_of
from mlops.domain.drift.alarms import WEEK
from mlops.domain.drift.calibration import Calibration, calibrate
from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.episodes import EPISODE_DAYS, CheckedDay, plan_retraining
from mlops.domain.drift.references.frozen import detect_drift_from_profile
from mlops.domain.drift.references.seasons import detect_seasonal_drift, season_history, season_windows
from mlops.domain.drift.references.training_profile import DriftProfile, make_profile
from mlops.domain.drift.references.two_references import detect_drift_by_both
from mlops.domain.drift.report import DriftReport, ReferenceUsed
from mlops.domain.drift.verdict import Verdict
from mlops.domain.errors import InsufficientData
from mlops.domain.frame import FeatureFrame, Floats
from mlops.domain.policies import DataPolicy, DriftPolicy, Strategy, TrainingPolicy
from mlops.domain.ports import Window
from mlops.domain.training.splits import known_labels, split_by_date
from mlops.domain.windows import calibration_window, drift_windows, longest_current_days, stretched
from mlops.features.gaps import on_own_dates

#: Trading days of the volatility, and of the median with which it is compared.
VOLATILITY_DAYS, MEDIAN_DAYS = 20, 252
#: What is planted for the alarm about correlations, over how many dates, between features with less than what before.
COUPLED, COUPLED_DATES, UNCORRELATED = 0.7, 20, 0.15
#: The change is looked for after 10, 15 and 20 of its dates; a check comes each day.
_LOOKS_BEFORE = (10, 5, 0)
#: A check later than this after a break is not counted as seeing it.
_DAYS_AFTER_BREAK = 10


@dataclass(frozen=True, kw_only=True)
class DatedRows:
    """A strategy's rows over all dates."""

    dates: npt.NDArray[np.datetime64]
    """(n,) datetime64[D], ascending"""
    features: Mapping[str, Floats]
    tickers: pa.ChunkedArray | None = None
    """(n,) of text"""

    @cached_property
    def rows_by_date(self) -> dict[date, int]:
        """Number of rows of each date, ascending."""
        days, n_rows = np.unique(self.dates, return_counts=True)
        return dict(zip(days.astype(object), n_rows.tolist(), strict=True))

    def between(self, window: Window) -> FeatureFrame:
        """Return the window's rows; views, no copies."""
        first, after = np.searchsorted(self.dates, np.array([window.start, window.end], "datetime64[D]"), side="right")
        return FeatureFrame(
            n_rows=int(after - first),
            numbers={name: values[first:after] for name, values in self.features.items()},
            categories={},
            dates=self.dates[first:after],
            tickers=None if self.tickers is None else self.tickers[first:after],
        )

    def within(self, windows: Sequence[Window]) -> FeatureFrame:
        """Return the rows of several windows, oldest first; copies."""
        parts = [self.between(window) for window in windows]
        return FeatureFrame(
            n_rows=sum(part.n_rows for part in parts),
            numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in self.features},
            categories={},
            dates=np.concatenate([np.asarray(part.dates, dtype="datetime64[D]") for part in parts]),
            tickers=pa.chunked_array(
                [piece for part in parts if part.tickers is not None for piece in part.tickers.chunks], pa.string()
            )
            if self.tickers is not None
            else None,
        )


@dataclass(frozen=True, kw_only=True)
class DayVerdict:
    """Verdicts of one check."""

    day: date
    verdict: Verdict
    raw: Verdict
    p_value: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class AlarmEvaluation:
    """Rate of the alarm about single features in weeks as they were, and with one feature shifted."""

    strategy: str
    size: float
    """Size of what is planted, in standard deviations of the feature in the reference window"""
    n_weeks: int
    """Number of weeks, of five daily checks each"""
    n_calm: int
    false_rate: Rate
    """Share of the weeks with an alarm; real breaks of the past are among them"""
    false_rate_calm: Rate | None
    """Rate in the weeks that begin on a calm day; None without any"""
    seen_rate: Rate
    """Share of the weeks in which one feature, shifted from the first of five checks on, is named by one of them"""
    false_correlation_rate: Rate
    """Share of the weeks whose last check has an alarm about a correlation"""
    seen_correlation_rate: Rate | None
    """Share of those in which two features, uncorrelated before, are correlated by 0.7 for 20 dates, with such an alarm
    after 10, 15 or 20 of them; None where no two features are uncorrelated"""


@dataclass(frozen=True, kw_only=True)
class VerdictEvaluation:
    """Results of the checks of one strategy."""

    strategy: str
    n_checks: int
    """Checks with a history as long as the policy's least"""
    n_calm: int
    rate: float | None
    """Share of all checks that fire, whatever the day"""
    calm_rate: float | None
    """Share of the calm days' checks that fire; None without calm days"""
    calm_rate_raw: float | None
    turbulent_rate: float | None
    insufficient_rate: float | None
    days_to_detection: dict[str, int | None]
    """Trading days from each break to the first check that fires, 0 on its own day; None: not within ten, or
    not before the data end. Breaks for which there is no history are left out."""
    retrainings: Retrainings | None
    """Retrainings that follow; None unless each trading day has a check"""
    verdicts: tuple[DayVerdict, ...]


@dataclass(frozen=True, kw_only=True)
class Retrainings:
    """Retrainings in a year of these checks, each promoted or not, and as if it came to its end at once."""

    n_years: float
    n_episodes: float
    """Episodes of drift in a year"""
    per_check: float
    """Retrainings a year where each drifted check retrains"""
    per_episode: float
    """Retrainings a year by the plan of an episode and the cooldown of the label's horizon, without a timetable"""
    beside_forced: float
    """Retrainings a year by the same, beside forced ones on each Sunday"""


def dated_rows(rows: pd.DataFrame) -> DatedRows:
    """Load rows with `date`, `ticker` and features, in the order in which a feature source gives them."""
    ordered = rows.sort_values(["date", "ticker"], kind="stable")
    features = [name for name in rows.columns if name not in ("date", "ticker") and not name.startswith("target_")]
    return DatedRows(
        dates=ordered["date"].to_numpy().astype("datetime64[D]"),
        features={name: np.ascontiguousarray(ordered[name].to_numpy(dtype=np.float64)) for name in features},
        tickers=pa.chunked_array([pa.array(ordered["ticker"].astype(str).tolist(), pa.string())]),
    )


def calm_days(close: pd.DataFrame) -> pd.Series:
    """(dates,) True where the 20-day volatility of the panel's mean return is below its trailing one-year median.

    A date without a return, such as one on which a single name begins, is skipped and is not calm.
    """
    returns = on_own_dates(close, lambda prices: {"return": prices.pct_change(fill_method=None)})["return"]
    volatility = returns.mean(axis=1).dropna().rolling(VOLATILITY_DAYS).std()
    return (volatility < volatility.rolling(MEDIAN_DAYS).median()).reindex(close.index, fill_value=False)


def evaluate(
    strategy: str,
    rows: DatedRows,
    calm: pd.Series,
    *,
    data: DataPolicy,
    drift: DriftPolicy,
    breaks: Sequence[date],
    every: int = 5,
    track: Callable[[Iterable[date]], Iterable[date]] = iter,
) -> VerdictEvaluation:
    """Check every `every`-th trading day, and each of the days after a break. `track` may show progress.

    Champions of the past, where they are the reference or beside it, were trained by the default policy. Raises
    InsufficientData where no check is possible.
    """
    days = list(rows.rows_by_date)
    if not days:
        raise InsufficientData(f"{strategy}: no row has all features")
    first = days[0]
    asks_champion = data.reference == "champion" or (data.reference == "trailing" and data.champion_beside)
    champions = _PastChampions(strategy, rows, training=TrainingPolicy(), drift=drift) if asks_champion else None
    enough = timedelta(days=_days_needed(data, drift, champions))
    regular = {day for day in days[::every] if day - first >= enough}
    after = {str(moment): _days_after(moment, days, first + enough) for moment in breaks}
    wanted = sorted(regular.union(*after.values()))
    if not wanted:
        raise InsufficientData(
            f"{strategy}: {first} to {days[-1]} holds no day of a check with {enough.days} days before it"
        )
    found = {day: check_day(strategy, rows, day, data=data, drift=drift, champions=champions) for day in track(wanted)}
    is_calm = dict(zip(pd.DatetimeIndex(calm.index).date, calm.to_numpy(dtype=bool), strict=True))
    calm_checks = [found[day] for day in sorted(regular) if is_calm.get(day)]
    turbulent = [found[day] for day in sorted(regular) if not is_calm.get(day)]
    return VerdictEvaluation(
        strategy=strategy,
        n_checks=len(regular),
        n_calm=len(calm_checks),
        rate=_rate(found[day].verdict == "drifted" for day in regular),
        calm_rate=_rate(check.verdict == "drifted" for check in calm_checks),
        calm_rate_raw=_rate(check.raw == "drifted" for check in calm_checks),
        turbulent_rate=_rate(check.verdict == "drifted" for check in turbulent),
        insufficient_rate=_rate(found[day].verdict == "insufficient" for day in regular),
        days_to_detection={
            moment: next((i for i, day in enumerate(checked) if found[day].verdict == "drifted"), None)
            for moment, checked in after.items()
            if checked
        },
        retrainings=retrainings([found[day] for day in sorted(regular)], drift) if every == 1 else None,
        verdicts=tuple(found[day] for day in wanted),
    )


def retrainings(verdicts: Sequence[DayVerdict], drift: DriftPolicy) -> Retrainings:
    """Retrainings that follow from a strategy's checks, oldest first, under three plans."""
    checks = [CheckedDay(as_of=one.day, verdict=one.verdict, p_value=one.p_value) for one in verdicts]
    if len(checks) < 2:  # no length of time
        return Retrainings(n_years=0.0, n_episodes=0.0, per_check=0.0, per_episode=0.0, beside_forced=0.0)
    first, last = checks[0].as_of, checks[-1].as_of
    years = (last - first).days / 365.25
    strategy = Strategy(name="of the past", drift=drift)
    sundays = [first + timedelta(days=i) for i in range(-6, (last - first).days + 1)]
    forced = [day for day in sundays if day.isoweekday() == 7]

    def planned(policy: DriftPolicy, cooldown_days: int, forced: Sequence[date]) -> tuple[int, set[date]]:
        made: list[date] = []
        begun: set[date] = set()
        start = 0
        for place, check in enumerate(checks):
            while (check.as_of - checks[start].as_of).days > EPISODE_DAYS:
                start += 1
            plan = plan_retraining(
                check,
                checks[start:place],
                [*made, *forced],
                policy,
                cooldown_days=cooldown_days,
                horizon_dates=strategy.training.horizon_dates,
            )
            made += [check.as_of] if plan.retrain else []
            begun |= {plan.episode.began} if plan.episode else set()
        return len(made), begun

    n_checks, _ = planned(replace(drift, plan="check"), 0, [])
    n_planned, begun = planned(replace(drift, plan="episode"), strategy.cooldown_days, [])
    n_beside, _ = planned(replace(drift, plan="episode"), strategy.cooldown_days, forced)
    return Retrainings(
        n_years=years,
        n_episodes=len(begun) / years,
        per_check=n_checks / years,
        per_episode=n_planned / years,
        beside_forced=n_beside / years,
    )


def evaluate_alarms(  # noqa: PLR0913 -- what is measured, each by keyword
    strategy: str,
    rows: DatedRows,
    calm: pd.Series,
    *,
    data: DataPolicy,
    drift: DriftPolicy,
    n_weeks: int,
    size: float,
    rng: np.random.Generator,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> AlarmEvaluation:
    """Check the five days of `n_weeks` weeks of the past, as they were and with one feature shifted in each of them.

    `rng` draws the weeks and the features. `size`: of the shift, in the reference's standard deviations. Raises
    InsufficientData where no week is possible.
    """
    days = list(rows.rows_by_date)
    if not days:
        raise InsufficientData(f"{strategy}: no row has all features")
    needed = timedelta(days=longest_current_days(data) + data.reference_days + drift.min_calibration_days)
    first = next((i for i, day in enumerate(days) if day - days[0] >= needed), len(days))
    possible = np.arange(first, len(days) - WEEK + 1)
    if not len(possible):
        raise InsufficientData(f"{strategy}: {days[0]} to {days[-1]} holds no week with {needed.days} days before it")
    weeks = sorted(rng.choice(possible, size=min(n_weeks, len(possible)), replace=False).tolist())
    is_calm = dict(zip(pd.DatetimeIndex(calm.index).date, calm.to_numpy(dtype=bool), strict=True))
    false, seen, false_pairs, seen_pairs = [], [], [], []
    for week in track(weeks):
        checks = [_WeekCheck.of(rows, day, data, drift) for day in days[week : week + WEEK]]
        feature = str(rng.choice(sorted(rows.features)))
        shift = size * spreads_of(checks[0].reference).get(feature, 0.0)
        as_they_were = [check.calibrated(drift) for check in checks]
        false.append(any(found.jumps.alarms for found in as_they_were))
        false_pairs.append(as_they_were[-1].correlations.is_alarm)
        planted = (check.shifted(feature, shift, days[week]).calibrated(drift) for check in checks)
        seen.append(any(feature in found.jumps.alarms for found in planted))
        pair = _uncorrelated_pair(checks[-1].reference, rng)
        if pair is not None:
            since = days[week + WEEK - COUPLED_DATES]
            looks = (_WeekCheck.of(rows, days[week + WEEK - 1 - earlier], data, drift) for earlier in _LOOKS_BEFORE)
            coupled_checks = (look.coupled(*pair, since=since, rng=rng).calibrated(drift) for look in looks)
            seen_pairs.append(any(found.correlations.is_alarm for found in coupled_checks))
    of_calm = [fired for week, fired in zip(weeks, false, strict=True) if is_calm.get(days[week])]
    return AlarmEvaluation(
        strategy=strategy,
        size=size,
        n_weeks=len(weeks),
        n_calm=len(of_calm),
        false_rate=rate_of(float(np.mean(false)), len(weeks)),
        false_rate_calm=rate_of(float(np.mean(of_calm)), len(of_calm)) if of_calm else None,
        seen_rate=rate_of(float(np.mean(seen)), len(weeks)),
        false_correlation_rate=rate_of(float(np.mean(false_pairs)), len(weeks)),
        seen_correlation_rate=rate_of(float(np.mean(seen_pairs)), len(seen_pairs)) if seen_pairs else None,
    )


def _uncorrelated_pair(frame: FeatureFrame, rng: np.random.Generator) -> tuple[str, str] | None:
    """Draw two features with a rank correlation below UNCORRELATED; None where there are none."""
    names = sorted(frame.numbers)
    table = pd.DataFrame({name: frame.numbers[name] for name in names}).corr(method="spearman").abs().to_numpy()
    places = np.argwhere(table < UNCORRELATED)
    if not len(places):
        return None
    one, other = places[rng.integers(len(places))]
    return names[one], names[other]


@dataclass(frozen=True, kw_only=True)
class _WeekCheck:
    """The rows of one check."""

    history: FeatureFrame
    reference: FeatureFrame
    current: FeatureFrame
    reference_start: date

    @classmethod
    def of(cls, rows: DatedRows, day: date, data: DataPolicy, drift: DriftPolicy) -> _WeekCheck:
        reference, current = drift_windows(day, stretched(day, data, rows.rows_by_date))
        return cls(
            history=rows.between(calibration_window(reference, drift.calibration_days)),
            reference=rows.between(reference),
            current=rows.between(current),
            reference_start=reference.start,
        )

    def shifted(self, feature: str, by: float, since: date) -> _WeekCheck:
        """Return the check with the feature's values higher by so much from a day on."""
        values = self.current.numbers[feature]
        later = np.asarray(self.current.dates) >= np.datetime64(since, "D")
        return replace(self, current=self.current.with_numbers({feature: values + by * later}))

    def coupled(self, one: str, other: str, *, since: date, rng: np.random.Generator) -> _WeekCheck:
        """Return the check with the other feature's values from a day on ordered by the first one's."""
        frames = (self.reference, self.current)
        days = [np.asarray(frame.dates) >= np.datetime64(since, "D") for frame in frames]
        values = {
            name: np.concatenate([frame.numbers[name][late] for frame, late in zip(frames, days, strict=True)])
            for name in (one, other)
        }
        ordered = coupled(values[one], values[other], COUPLED, rng)
        changed = []
        for frame, late in zip(frames, days, strict=True):
            own = frame.numbers[other].copy()
            own[late], ordered = ordered[: late.sum()], ordered[late.sum() :]
            changed.append(frame.with_numbers({other: own}))
        return replace(self, reference=changed[0], current=changed[1])

    def calibrated(self, drift: DriftPolicy) -> Calibration:
        return calibrate(
            self.history,
            self.reference,
            self.current,
            alpha=drift.alpha,
            feature_alpha=drift.feature_alpha,
            correlation_alpha=drift.correlation_alpha,
            min_days=drift.min_calibration_days,
            reference_start=self.reference_start,
        )


def check_day(
    strategy: str,
    rows: DatedRows,
    day: date,
    *,
    data: DataPolicy,
    drift: DriftPolicy,
    champions: _PastChampions | None = None,
) -> DayVerdict:
    """Run the check as of a day. `champions`: for the reference that is the champion's."""
    report = _report(strategy, rows, day, data=data, drift=drift, champions=champions)
    return DayVerdict(
        day=day,
        verdict=report.verdict,
        raw=report.raw.verdict,
        p_value=report.p_value,
        reason=report.reason,
    )


def _report(
    strategy: str,
    rows: DatedRows,
    day: date,
    *,
    data: DataPolicy,
    drift: DriftPolicy,
    champions: _PastChampions | None,
) -> DriftReport:
    data = stretched(day, data, rows.rows_by_date)
    reference, current = drift_windows(day, data)
    timestamp = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if champions is not None and data.reference == "champion":
        return detect_drift_from_profile(
            champions.of(day),
            rows.between(current),
            drift,
            as_of=day,
            current_window=current,
            timestamp=timestamp,
            min_current_rows=data.min_current_rows,
            used=ReferenceUsed(choice="champion", used="champion", model_version="of the past"),
        )
    if data.reference == "season":
        return detect_seasonal_drift(
            rows.between(season_history(day, data, drift)),
            rows.within(season_windows(day, data)),
            rows.between(current),
            drift,
            data,
            strategy=strategy,
            as_of=day,
            timestamp=timestamp,
            current_window=current,
        )

    def against_trailing(policy: DriftPolicy) -> DriftReport:
        return detect_drift(
            rows.between(reference),
            rows.between(current),
            policy,
            strategy=strategy,
            as_of=day,
            reference_window=reference,
            current_window=current,
            timestamp=timestamp,
            min_current_rows=data.min_current_rows,
            history=rows.between(calibration_window(reference, drift.calibration_days)),
        )

    # Before the first training that a champion could be of, there is none.
    if champions is None or (day - rows.dates[0].astype(object)).days < champions.days_needed:
        return against_trailing(drift)
    return detect_drift_by_both(
        against_trailing,
        champions.of(day),
        rows.between(current),
        drift,
        current_start=current.start,
        used=ReferenceUsed(choice="champion", used="champion", model_version="of the past"),
        min_current_rows=data.min_current_rows,
    )


def _days_needed(data: DataPolicy, drift: DriftPolicy, champions: _PastChampions | None) -> int:
    """Days of data that are needed before the first check."""
    if champions is not None and data.reference == "champion":
        return champions.days_needed
    trailing = data.current_days + data.reference_days + drift.min_calibration_days
    # A leap day each, and half a part before its middle.
    return trailing + (366 * data.season_years + data.reference_days if data.reference == "season" else 0)


def _days_after(moment: date, days: list[date], since: date) -> list[date]:
    """Return the break's own trading day and the ten after it; none where checks do not reach back so far."""
    later = [day for day in days if day >= moment][: _DAYS_AFTER_BREAK + 1]
    return later if later and later[0] >= since else []


def _rate(facts: Iterable[bool]) -> float | None:
    known = list(facts)
    return sum(known) / len(known) if known else None


# ---- Profiles that a regular retraining would have left, for an evaluation over a history; pure

#: A quarter.
_RETRAINED_EVERY_DAYS = 91


class _PastChampions:
    """The champion of each day: trained as of the newest multiple of `every_days` since the first date, if promoted."""

    def __init__(
        self,
        strategy: str,
        rows: DatedRows,
        *,
        training: TrainingPolicy,
        drift: DriftPolicy,
        every_days: int = _RETRAINED_EVERY_DAYS,
    ) -> None:
        self._strategy, self._rows, self._training, self._drift = strategy, rows, training, drift
        self._every_days = every_days
        self._newest: DriftProfile | None = None

    @property
    def days_needed(self) -> int:
        """Days of data before a check whose champion has a training window and the least calibration history."""
        return self._training.training_days + self._drift.min_calibration_days + self._every_days

    def of(self, day: date) -> DriftProfile:
        """Profile of the day's champion. Raises InsufficientData where there is too little to train on."""
        first: date = self._rows.dates[0].astype(object)
        trained_as_of = day - timedelta(days=(day - first).days % self._every_days)
        if self._newest is None or self._newest.as_of != trained_as_of:
            self._newest = self._trained(trained_as_of)
        return self._newest

    def _trained(self, as_of: date) -> DriftProfile:
        training, one = self._training, timedelta(days=1)
        start, end = np.searchsorted(
            self._rows.dates,
            np.array([as_of - timedelta(days=training.training_days), as_of], dtype="datetime64[D]"),
            side="right",
        )
        dates = self._rows.dates[start:end]
        split = split_by_date(
            dates,
            known_labels(dates, dates, as_of=as_of, horizon_dates=training.horizon_dates),
            horizon_dates=training.horizon_dates,
            holdout_dates=training.holdout_dates,
            embargo_dates=training.embargo_dates,
        )
        trained = Window(start=split.first_train - one, end=split.last_train)
        history = Window(start=trained.start - timedelta(days=self._drift.calibration_days), end=trained.start)
        return make_profile(
            *(self._rows.between(window) for window in (history, trained, Window(start=trained.end, end=as_of))),
            strategy=self._strategy,
            as_of=as_of,
            trained_window=trained,
            bins=self._drift.bins,
        )
